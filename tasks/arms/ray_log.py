"""Log lines of arms on Ray: from the processes of its machines to the command, which shows and records them.

Ray itself would show all that any process writes, with its own reports of many lines on every machine that goes.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tasks.runtime.progress import LOGGER, configure_logging

NAME = "medmtl-log"  # among the actors of one command
PAUSE_SECONDS = 1.0
WAIT_SECONDS = 5.0

Line = tuple[int, str]
"""The level and the text."""


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class _Lines:
    """The lines that the command has not shown yet."""

    def __init__(self) -> None:
        self._lines: list[Line] = []

    def put(self, line: Line) -> None:
        self._lines.append(line)

    @ray.method(max_task_retries=0)  # Ray would tell of each retry; the next call takes what this one does not
    def take(self) -> list[Line]:
        taken, self._lines = self._lines, []
        return taken


@contextmanager
def lines_shown() -> Iterator[None]:
    """Show the lines of arms as if this process had written them."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    lines: Any = _Lines.options(name=NAME, scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    ended = threading.Event()

    def show() -> None:
        with suppress(Exception):  # its process has died: Ray starts it again
            for level, text in ray.get(lines.take.remote(), timeout=WAIT_SECONDS):
                LOGGER.log(level, "%s", text)

    def watch() -> None:
        while not ended.wait(PAUSE_SECONDS):
            show()

    thread = threading.Thread(target=watch, name="ray-log", daemon=True)
    thread.start()
    try:
        yield
        show()
    finally:
        ended.set()
        thread.join(2 * WAIT_SECONDS)  # a call after the end would make Ray start a cluster of its own


@contextmanager
def lines_sent() -> Iterator[None]:
    """Send the lines of this process of an arm to the command."""
    configure_logging()  # into the logs of Ray too
    handler = _Sender()
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.wait()


class _Sender(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self._lines: Any = ray.get_actor(NAME)
        self._sent: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._sent.append(self._lines.put.remote((record.levelno, record.getMessage())))

    def wait(self) -> None:
        """Wait for the lines to arrive, so that they are there before the arm's end is known."""
        if self._sent:
            ray.wait(self._sent, num_returns=len(self._sent), timeout=WAIT_SECONDS)
