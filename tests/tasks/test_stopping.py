"""A stop that a callback swallows is raised again by the next question."""

import os
import signal
from contextlib import suppress

import pytest

from tasks.stopping import STOPS, remembered_stops


@pytest.mark.parametrize("stop", STOPS)
def test_a_swallowed_stop_is_raised_again_when_asked(stop: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(stop, signal.default_int_handler)
    try:
        with remembered_stops() as ask:
            ask()  # nothing came
            with suppress(KeyboardInterrupt):  # as a library's callback would
                os.kill(os.getpid(), stop)
            with pytest.raises(KeyboardInterrupt):
                ask()
        assert signal.getsignal(stop) is signal.default_int_handler
    finally:
        signal.signal(stop, before)
