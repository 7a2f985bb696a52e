"""What is being done, how far, and how long still: bars on a terminal, plain lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOGGER = logging.getLogger("medmtl")
LINE_SECONDS = 10.0  # without a terminal, at most one line of progress in this time

_console = Console(stderr=True)
_bars = Progress(
    SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    TextColumn("left"), TimeRemainingColumn(), console=_console, transient=True,
)  # fmt: skip


def show_lines(level: int = logging.INFO) -> None:
    """Let our own log lines appear on standard error, above the bars where there are any."""
    if _console.is_terminal:
        handler: logging.Handler = RichHandler(console=_console, show_path=False, show_level=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.setLevel(level)
    LOGGER.propagate = False


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `update(done, total)`; call it as often as convenient.

    Bars may stand inside one another: the outer one counts arms, say, and the inner one epochs.
    """
    if not _console.is_terminal:
        yield _lines(what)
        return
    bar = _bars.add_task(what, total=None)
    _bars.start()
    try:
        yield lambda done, total: _bars.update(bar, completed=done, total=total)
    finally:
        _bars.remove_task(bar)
        if not _bars.tasks:
            _bars.stop()


def _lines(what: str) -> Callable[[int, int], None]:
    start = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and now - last >= LINE_SECONDS:
            last = now
            LOGGER.info("%s: %d of %d, %.0f s left", what, done, total, (now - start) / done * (total - done))

    return update
