"""Threads that train side by side, and work that one of them does while none trains.

PyTorch's exporter switches oneDNN off for the whole process while it works, and its constructors draw from the
process's one generator. A thread that trained meanwhile would get other last bits than one that trains by itself.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_changed = threading.Condition()
_training: set[int] = set()  # threads
_alone: list[int] = []  # the thread that works while none trains, and behind it those that wait to


@contextmanager
def training() -> Iterator[Callable[[], None]]:
    """Train in this thread; yields what to call at every step: it waits while another thread is `alone`."""
    _begin()
    try:
        yield _give_way
    finally:
        _end()


@contextmanager
def alone() -> Iterator[None]:
    """Work while no thread trains and no other one is alone; this one's own training, if any, rests meanwhile."""
    thread = threading.get_ident()
    trains = thread in _training
    if trains:
        _end()
    try:
        with _changed:
            _alone.append(thread)
            _changed.wait_for(lambda: not _training and _alone[0] == thread)
        yield
    finally:
        with _changed:
            _alone.remove(thread)
            _changed.notify_all()
        if trains:
            _begin()


def _begin() -> None:
    with _changed:
        _changed.wait_for(lambda: not _alone)
        _training.add(threading.get_ident())


def _end() -> None:
    with _changed:
        _training.discard(threading.get_ident())
        _changed.notify_all()


def _give_way() -> None:
    if _alone:
        _end()
        _begin()
