"""Threads that train side by side, and work that one of them does while none trains.

PyTorch's exporter switches oneDNN off for the whole process while it works, and its constructors draw from the
process's one generator. A thread that trained meanwhile would get other last bits than one that trains by itself.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_changed = threading.Condition()
_readers: set[int] = set()  # threads
_writers: list[int] = []  # the thread that works while none trains, and behind it those that wait to


@contextmanager
def shared() -> Iterator[Callable[[], None]]:
    """Train in this thread; yields what to call at every step: it waits while another thread is `exclusive`."""
    _begin()
    try:
        yield _give_way
    finally:
        _end()


@contextmanager
def exclusive() -> Iterator[None]:
    """Work while no thread trains and no other one is alone; this one's own training, if any, rests meanwhile."""
    thread = threading.get_ident()
    trains = thread in _readers
    if trains:
        _end()
    try:
        with _changed:
            _writers.append(thread)
            _changed.wait_for(lambda: not _readers and _writers[0] == thread)
        yield
    finally:
        with _changed:
            _writers.remove(thread)
            _changed.notify_all()
        if trains:
            _begin()


def _begin() -> None:
    with _changed:
        _changed.wait_for(lambda: not _writers)
        _readers.add(threading.get_ident())


def _end() -> None:
    with _changed:
        _readers.discard(threading.get_ident())
        _changed.notify_all()


def _give_way() -> None:
    if _writers:
        _end()
        _begin()
