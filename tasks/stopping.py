"""A request to stop that cannot get lost.

Python raises a signal's exception wherever the program happens to be, and if that is inside a callback of some
library, it is printed or dropped and the program goes on. Long work therefore asks again at every step.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def remembered_stops() -> Iterator[Callable[[], None]]:
    """Yield `ask`, which raises again whatever a stop signal has raised since, by the handlers of before."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # signals are the main thread's
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in STOPS}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _handle(handlers[number], number, frame)

    for number in STOPS:
        signal.signal(number, note)
    try:
        yield lambda: _handle(handlers[came[0]], came[0], None) if came else None
    finally:
        for number in STOPS:
            signal.signal(number, handlers[number])


def _handle(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    else:  # the operating system's default, which ends the process without a word
        raise KeyboardInterrupt
