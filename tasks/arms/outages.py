"""Outages of MLflow's server: a call that finds the server away is repeated until it answers, ten minutes at most.

Checks at the start of a command do not wait (`tasks.runtime.servers`), so that only a server that once answered is
waited for. All threads of a process know of one outage: it is said once, and its ten minutes are counted once.
"""

import threading
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tasks.runtime.home import home
from tasks.runtime.interrupts import sleep
from tasks.runtime.part_errors import is_away, reason, without_password
from tasks.runtime.progress import LOGGER, format_duration
from tasks.runtime.servers import sqlite_path

MOST_SECONDS = 600.0
PAUSE_SECONDS = 2.0  # between two attempts
UNSAID_SECONDS = 1.0  # a connection that breaks off once is no outage

P = ParamSpec("P")
R = TypeVar("R")


class _Outage:
    """What this process knows of the server: since when it has been away, and whether that was said."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None
        self._said = False

    def note(self, error: Exception) -> float:
        """Note that the server was found away; return since when it has been, a time of `time.monotonic`."""
        with self._lock:
            since = self._since = time.monotonic() if self._since is None else self._since
            if not self._said and time.monotonic() - since >= UNSAID_SECONDS:
                self._said = True
                LOGGER.info(
                    "%s; waiting for it, %s at most; nothing is lost", _what(error), format_duration(MOST_SECONDS)
                )
            return since

    def end(self) -> None:
        """Note that the server answered."""
        with self._lock:
            if self._said and self._since is not None:
                LOGGER.info("MLflow answers again, after %s", format_duration(time.monotonic() - self._since))
            self._since, self._said = None, False


_outage = _Outage()


def outlasts_outages(call: Callable[P, R]) -> Callable[P, R]:
    """Make a function wait out an outage of MLflow: it is called again until MLflow answers, or it has been away long.

    The function must do no more when it is called twice than once, since an answer can be lost after the work is done:
    one that creates something looks first. Ctrl-C and SIGTERM end the wait. Only errors that say that the server is
    away are waited for (`tasks.runtime.part_errors.is_away`); the last of them is raised after `MOST_SECONDS`.
    """

    @wraps(call)
    def wait_out(*args: P.args, **kwargs: P.kwargs) -> R:
        begun = None  # the first failure of this call: others may succeed while this one cannot
        while True:
            try:
                result = call(*args, **kwargs)
            except Exception as error:
                if not is_away(error):
                    raise
                since = _outage.note(error)
                begun = since if begun is None else min(begun, since)
                if time.monotonic() - begun >= MOST_SECONDS:
                    raise
            else:
                _outage.end()
                return result
            sleep(PAUSE_SECONDS)

    return wait_out


def _what(error: Exception) -> str:
    uri = home().tracking_uri
    if sqlite_path(uri):
        return "MLflow's database is in use by another program"
    return f"MLflow's server at {without_password(uri)} {reason(error)}"
