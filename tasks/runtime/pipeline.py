"""What every flow does at its start and its end, whoever starts it: a command, a schedule, or another program.

Prefect sees a plain flow, whose form shows the settings. Its runs are named after their settings, signed with the lease
of their process (so that the next run finds them after a kill), and have medmtl's log lines in their log.
"""

import inspect
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial, wraps
from importlib import import_module
from importlib.metadata import version
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow, runtime, tags
from prefect.context import FlowRunContext, TagsContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for

from data_prep.errors import DataError
from models.errors import SettingError
from tasks.runtime.escaping import escape_unprintable
from tasks.runtime.home import home
from tasks.runtime.part_errors import without_password
from tasks.runtime.prefect_server import is_private, mark_orphans_crashed, run_tags, sign
from tasks.runtime.progress import LOGGER, PrintableFormatter
from tasks.runtime.run_folder import name_run_folder, point_latest, scheduled_night
from tasks.runtime.servers import check_mlflow

PREFECT_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")

P = ParamSpec("P")
R = TypeVar("R")


class Pipeline(Flow[P, R]):
    """A flow whose runs carry the tags of medmtl and of their process from the moment that Prefect knows of them."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow in this process, as Prefect's class does."""
        with tags(*run_tags()):
            return super().__call__(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the flow by its name: Prefect's context of a task goes to other processes, and the flow with it."""
        return _find_flow, (self.fn.__module__, self.fn.__name__)


def pipeline(name: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a Prefect flow of a function of (settings, out, force), as `prefect.flow` does.

    The settings have a `title`. At its start, each run checks the disk and MLflow's server, and marks the runs of
    processes that have died as crashed. After a scheduled run, `latest` points to its folder.

    Raises:
        DataError: in a run, there is no space or no server.
    """

    def decorate(body: Callable[P, R]) -> Flow[P, R]:
        @wraps(body)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with _prepared():
                result = body(*args, **kwargs)
            given = _arguments(body, *args, **kwargs)
            if night := scheduled_night():
                point_latest(name_run_folder(given["out"], name, given["settings"]) / night.isoformat())
            return result

        return Pipeline(run, name=name, version=version("medmtl"), flow_run_name=partial(_introduce, body))

    return decorate


def _find_flow(module: str, name: str) -> Flow[..., Any]:
    found: Flow[..., Any] = getattr(import_module(module), name)
    return found


def prefect_run_link() -> tuple[str, str | None] | None:
    """Return the id of this process's Prefect run and the address of its page; None outside of a run.

    The address is None where Prefect's server is only this command's and has no pages.
    """
    if not (run_id := runtime.flow_run.id):
        return None
    # not runtime.flow_run.ui_url, an address of an older version of the pages
    page = None if is_private(PREFECT_API_URL.value()) else url_for("flow-run", run_id)
    return str(run_id), page and without_password(page)


def _introduce(body: Callable[..., Any]) -> str:
    """Sign the run, and return its name; Prefect asks for it just before the run begins.

    A run that is started again by hand still carries the lease of its process before: the next one's replaces it.
    """
    context: Any = FlowRunContext.get()
    sign(context.client, context.flow_run)
    title = _arguments(body, **context.parameters)["settings"].title
    return escape_unprintable(f"{title} · {datetime.now():%Y-%m-%d %H:%M}")


def _arguments(body: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    given = inspect.signature(body).bind(*args, **kwargs)
    given.apply_defaults()
    return given.arguments


@contextmanager
def _prepared() -> Iterator[None]:
    """Do what comes before the flow's own work, unless another run in this process, of which this is a part, has."""
    context = FlowRunContext.get()
    is_part = any(isinstance(handler, _RunLog) for handler in LOGGER.handlers)
    if is_part or context is None or context.flow_run is None:
        yield
        return
    before = os.umask(0o077)  # what is made from patients is for its owner only
    try:
        # Prefect asks its server for a slot for each tag of a task, two seconds an arm: so tasks have none
        with _log_into(context.flow_run.id), TagsContext(current_tags=set()):
            home().check_space()
            check_mlflow(home().tracking_uri)
            if orphans := mark_orphans_crashed():
                LOGGER.info("%d Prefect runs of killed commands are now marked as crashed", orphans)
            yield
    finally:
        os.umask(before)


@contextmanager
def _log_into(run_id: UUID) -> Iterator[None]:
    """Send medmtl's log lines into the log of a Prefect run."""
    for handler in [each for each in LOGGER.handlers if isinstance(each, APILogHandler)]:
        LOGGER.removeHandler(handler)  # of PREFECT_LOGGING_EXTRA_LOGGERS: it would send each line a second time
    handler = _RunLog(run_id)
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)


class _RunLog(APILogHandler):
    """Sends log lines to a Prefect run, also those of threads that know of no run; in the form of the terminal's."""

    def __init__(self, run_id: UUID) -> None:
        super().__init__()
        self._run_id = run_id
        self.setFormatter(PrintableFormatter("%(message)s"))

    def prepare(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what is sent of a line."""
        if not (FlowRunContext.get() or TaskRunContext.get()):
            record.flow_run_id = self._run_id
        return super().prepare(record)


def _without_causes(record: logging.LogRecord) -> bool:
    """Leave the traceback of an error that a person can correct out of the log of Prefect's run.

    The line says all that is needed and names no patient. A traceback would show the causes too, and the cause of an
    unreadable file quotes its name.
    """
    if record.exc_info and isinstance(record.exc_info[1], DataError | SettingError):
        record.exc_info = record.exc_text = None
    return True


for _name in PREFECT_RUN_LOGGERS:
    logging.getLogger(_name).addFilter(_without_causes)
