"""Log lines and progress: bars on a terminal, plain lines elsewhere; each with the time left."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as rich_bars
from rich.console import Console
from rich.logging import RichHandler
from rich.text import Text

from tasks.runtime.escaping import escape_unprintable

LOGGER = logging.getLogger("medmtl")
LOGGER.setLevel(logging.INFO)  # also in a run that no command started
LINE_SECONDS = 10.0  # without a terminal: the least time between two progress lines


class _Amount(rich_bars.ProgressColumn):
    """The number done of the total; for bytes also the speed."""

    _items, _bytes, _speed = rich_bars.MofNCompleteColumn(), rich_bars.DownloadColumn(), rich_bars.TransferSpeedColumn()

    def render(self, task: rich_bars.Task) -> Text:
        """Return the text of the column."""
        if not task.fields["of_bytes"]:
            return self._items.render(task)
        return Text(" ").join([self._bytes.render(task), self._speed.render(task)])


_console = Console(stderr=True)
_bars = rich_bars.Progress(
    rich_bars.SpinnerColumn(),
    rich_bars.TextColumn("{task.description}", markup=False),
    rich_bars.BarColumn(),
    _Amount(),
    rich_bars.TimeElapsedColumn(),
    rich_bars.TextColumn("left"),
    rich_bars.TimeRemainingColumn(),
    console=_console,
    transient=True,
)


class PrintableFormatter(logging.Formatter):
    """Shows characters that a terminal would obey, in names from outside, as their escapes."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return escape_unprintable(super().format(record))


def configure_logging() -> None:
    """Send medmtl's log lines to standard error, above the progress bars if there are any."""
    if _console.is_terminal:
        handler: logging.Handler = RichHandler(console=_console, show_path=False, show_level=False, markup=False)
        handler.setFormatter(PrintableFormatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(PrintableFormatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # no line for each attempt of a client of MLflow
    logging.raiseExceptions = False  # nor for each log line that Prefect's server, once it has ended, cannot take


@contextmanager
def progress(description: str, of_bytes: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of some work; bars may be nested, such as epochs within arms.

    With `of_bytes`, the counts are bytes, shown as MB with their speed.

    Yields:
        `update(done, total)`, to be called as often as convenient.
    """
    if not _console.is_terminal:
        yield _lines(description, of_bytes)
        return
    bar = _bars.add_task(description, total=None, of_bytes=of_bytes)
    _bars.start()
    try:
        yield lambda done, total: _bars.update(bar, completed=done, total=total)
    finally:
        _bars.remove_task(bar)
        if not _bars.tasks:
            _bars.stop()


def format_duration(seconds: float) -> str:
    """Format a duration for people: '8 s', '12 min', '3 h 05 min'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _lines(description: str, of_bytes: bool) -> Callable[[int, int], None]:
    start = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done and now - last >= LINE_SECONDS:
            last = now
            rate = done / (now - start)
            amount = f"{done} of {total}"
            if of_bytes:
                amount = f"{done / 1e6:,.0f} of {total / 1e6:,.0f} MB at {rate / 1e6:.1f} MB/s"
            LOGGER.info("%s: %s, %s left", description, amount, format_duration(max(total - done, 0) / rate))

    return update
