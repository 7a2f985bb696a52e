"""Whoever is alone finds nobody training, and all who trained go on afterwards."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.runtime.readers_writer_lock import exclusive, shared


def test_nobody_trains_while_one_is_alone_and_nobody_waits_for_ever() -> None:
    steps, lonely, seen = set[int](), set[int](), list[bool]()

    def train(number: int) -> None:
        rng = random.Random(number)
        with shared() as pause_for_exclusive:
            for step in range(40):
                pause_for_exclusive()
                steps.add(number)
                seen.append(not lonely)
                time.sleep(rng.random() / 2000)
                steps.discard(number)
                if step % 10 == number:
                    with exclusive():
                        lonely.add(number)
                        seen.append(not steps and lonely == {number})
                        time.sleep(rng.random() / 500)
                        lonely.discard(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(train, range(4), timeout=60))
    assert len(seen) == 4 * 44
    assert all(seen)


def test_one_that_does_not_train_can_be_alone_too_and_failures_leave_no_one_waiting() -> None:
    def fail(place: Callable[[], object]) -> None:
        with pytest.raises(ValueError, match="x"), place():  # type: ignore[attr-defined]
            raise ValueError("x")

    fail(exclusive)
    fail(shared)
    with shared(), exclusive():
        other = threading.Thread(target=fail, args=(shared,))
        other.start()
        other.join(0.05)
        assert other.is_alive()  # waits
    other.join(10)
    assert not other.is_alive()
