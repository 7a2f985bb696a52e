"""A stop that a callback swallows is raised again by the next question."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tasks.runtime.interrupts import STOP_SIGNALS, interruptible


@pytest.mark.parametrize("stop", STOP_SIGNALS)
def test_a_swallowed_stop_is_raised_again_when_asked(stop: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(stop, signal.default_int_handler)
    try:
        with interruptible() as raise_if_stopped:
            raise_if_stopped()  # nothing came
            with suppress(KeyboardInterrupt):  # as a library's callback would
                os.kill(os.getpid(), stop)
            with pytest.raises(KeyboardInterrupt):
                raise_if_stopped()
        assert signal.getsignal(stop) is signal.default_int_handler
    finally:
        signal.signal(stop, before)


def ask_once() -> None:
    with interruptible() as raise_if_stopped:
        raise_if_stopped()


def test_a_stop_reaches_threads_that_ask() -> None:
    """Signals are the main thread's alone; work in other threads must end all the same."""
    ended: list[type[BaseException]] = []
    working = threading.Event()

    def work() -> None:
        with interruptible() as raise_if_stopped:
            try:
                while True:
                    raise_if_stopped()
                    working.set()
                    time.sleep(0.001)
            except KeyboardInterrupt as stop:
                ended.append(type(stop))

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with interruptible():
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            assert working.wait(10)
            with suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
            thread.join(10)
        assert ended == [KeyboardInterrupt]
        with interruptible(), ThreadPoolExecutor(1) as pool:  # the next study is not stopped by the last one's
            pool.submit(ask_once).result()
    finally:
        signal.signal(signal.SIGTERM, before)
