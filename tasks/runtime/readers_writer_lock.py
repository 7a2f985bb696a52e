"""A readers-writer lock: threads train in `shared` mode, or one thread exports in `exclusive` mode while none trains.

PyTorch's exporter switches oneDNN off for the whole process while it runs. A thread that trained at the same time would
get different last bits than without. Nothing else needs the lock.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_changed = threading.Condition()
_readers: set[int] = set()  # identifiers of the threads that train
_writers: list[int] = []  # first the thread in exclusive mode, then those that wait for it


@contextmanager
def shared() -> Iterator[Callable[[], None]]:
    """Hold the lock in shared mode while this thread trains.

    Yields:
        A function to call at every step: it waits while another thread holds or wants the lock in exclusive mode.
    """
    _acquire_shared()
    try:
        yield _pause_for_exclusive
    finally:
        _release_shared()


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the lock in exclusive mode: no other thread holds it in either mode.

    A thread that holds it in shared mode releases that meanwhile, and takes it again afterwards.
    """
    thread = threading.get_ident()
    was_shared = thread in _readers
    if was_shared:
        _release_shared()
    try:
        with _changed:
            _writers.append(thread)
            _changed.wait_for(lambda: not _readers and _writers[0] == thread)
        yield
    finally:
        with _changed:
            _writers.remove(thread)
            _changed.notify_all()
        if was_shared:
            _acquire_shared()


def _acquire_shared() -> None:
    with _changed:
        _changed.wait_for(lambda: not _writers)
        _readers.add(threading.get_ident())


def _release_shared() -> None:
    with _changed:
        _readers.discard(threading.get_ident())
        _changed.notify_all()


def _pause_for_exclusive() -> None:
    if _writers:
        _release_shared()
        _acquire_shared()
