"""A request to stop that cannot get lost.

Python raises a signal's exception wherever the program happens to be, and if that is inside a callback of some
library, it is printed or dropped and the program goes on. Only the main thread gets it at all. Long work therefore
asks again at every step, in whatever thread it runs.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM)

_stopped = threading.Event()


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Yield `raise_if_stopped`, which raises again whatever a stop signal has raised since, by the handlers of before.

    In another thread than the main one `raise_if_stopped` raises KeyboardInterrupt, if the main thread is within a
    `interruptible` of its own that was told to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _ask_elsewhere
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in STOPS}
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        _stopped.set()
        _handle(handlers[number], number, frame)

    for number in STOPS:
        signal.signal(number, note)
    try:
        yield lambda: _handle(handlers[came[0]], came[0], None) if came else None
    finally:
        _stopped.clear()
        for number in STOPS:
            signal.signal(number, handlers[number])


def interrupt_all() -> None:
    """Let `raise_if_stopped` raise in every other thread."""
    _stopped.set()


def _handle(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    else:  # the operating system's default, which ends the process without a word
        raise KeyboardInterrupt


def _ask_elsewhere() -> None:
    if _stopped.is_set():
        raise KeyboardInterrupt
