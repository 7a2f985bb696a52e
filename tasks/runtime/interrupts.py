"""Interruption by SIGINT or SIGTERM that cannot get lost, in any thread.

Python raises the exception of a signal wherever the main thread happens to be. Inside a callback of a library, that
exception may be printed or dropped, and the program goes on. Other threads never receive it. Long work therefore
calls `raise_if_stopped` at every step, in whatever thread it runs.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_stopped = threading.Event()


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Record stop signals, so that one whose exception was swallowed is raised again.

    Yields:
        `raise_if_stopped`. In the main thread: if a stop signal has arrived since, it calls the signal handler that
        was installed before, which raises again. In another thread: it raises KeyboardInterrupt if the main thread
        received a stop signal within its own `interruptible`, or `interrupt_all` was called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield _raise_if_stopped
        return
    handlers: dict[int, Any] = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    received: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        received.append(number)
        _stopped.set()
        _handle(handlers[number], number, frame)

    for number in STOP_SIGNALS:
        signal.signal(number, record)
    try:
        yield lambda: _handle(handlers[received[0]], received[0], None) if received else None
    finally:
        _stopped.clear()
        for number in STOP_SIGNALS:
            signal.signal(number, handlers[number])


def interrupt_all() -> None:
    """Make `raise_if_stopped` raise in every thread other than the main one."""
    _stopped.set()


def sleep(seconds: float) -> None:
    """Sleep; a stop of the main thread, as `interruptible` has it, ends that at once in every thread.

    Raises:
        KeyboardInterrupt: the main thread was stopped, and this is another one.
    """
    if threading.current_thread() is threading.main_thread():
        time.sleep(seconds)  # the handler of the signal raises
    elif _stopped.wait(seconds):
        raise KeyboardInterrupt


def _handle(handler: Any, number: int, frame: FrameType | None) -> None:
    if callable(handler):
        handler(number, frame)
    else:  # the operating system's default, which would end the process at once
        raise KeyboardInterrupt


def _raise_if_stopped() -> None:
    if _stopped.is_set():
        raise KeyboardInterrupt
