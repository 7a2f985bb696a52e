"""Ask the servers that the user names, before any work, whether they can be used: one line instead of minutes."""

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from data_prep.errors import DataError
from tasks.runtime.part_errors import reason, without_password
from tasks.runtime.sqlite_check import MLFLOW, check_database

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SQLITE = "sqlite:///"
ANSWER_SECONDS = 5  # for each thing that a client waits for
MOST_SECONDS = 8  # for all of them
MLFLOW_LIMITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(ANSWER_SECONDS)}
"""Environment variables with which MLflow's client asks once."""
ANY_NAME = "medmtl"  # of an experiment of MLflow, which may be there or not


def check_prefect(url: str) -> None:
    """Check that the Prefect server at `url` answers as one, and lets us in.

    Raises:
        DataError: it does not.
    """
    importlib.import_module("prefect.client.orchestration")  # takes seconds that are not the server's
    remedy = "start that server (its address ends in /api), or unset PREFECT_API_URL to use a local one"
    _check_server("PREFECT_API_URL", url, lambda: _ask_prefect(url), remedy)


def check_mlflow(uri: str) -> None:
    """Check that MLflow's store can be used: its database, or the server that MLFLOW_TRACKING_URI names.

    Raises:
        DataError: it cannot.
    """
    if path := sqlite_path(uri):
        check_database(path, MLFLOW)
    else:
        importlib.import_module("mlflow.tracking")
        remedy = "start that server, or unset MLFLOW_TRACKING_URI to use a local database"
        _check_server("MLFLOW_TRACKING_URI", uri, lambda: _ask_mlflow(uri), remedy)


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite database, from its address; None: it is at no such address."""
    name = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(name) if uri.startswith(SQLITE) and name else None


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def within(seconds: float, ask: Callable[[], object]) -> None:
    """Ask in a thread of its own: names that cannot be looked up and answers without end have no limit elsewhere.

    Raises:
        TimeoutError: it takes longer; the thread is left to itself.
        Exception: what `ask` raised.
    """
    errors: list[Exception] = []

    def run() -> None:
        try:
            ask()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if errors:
        raise errors[0]


def _check_server(variable: str, url: str, ask: Callable[[], object], remedy: str) -> None:
    try:
        within(MOST_SECONDS, ask)
    except Exception as error:
        place = f"{variable}: the server at {without_password(url)}"
        raise DataError(f"{place} {reason(error)}; {remedy}") from error


@contextmanager
def impatient_client(url: str) -> "Iterator[SyncPrefectClient]":
    """Open a client of the Prefect server at `url` that asks once and gives up after `ANSWER_SECONDS`."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}),
        get_client(httpx_settings={"timeout": ANSWER_SECONDS}, sync_client=True) as client,
    ):
        yield client


def _ask_prefect(url: str) -> None:
    with impatient_client(url) as client:
        client.read_flows(limit=1)


def _ask_mlflow(uri: str) -> None:
    """Ask for an experiment by its name, to which another program has no answer: a list of them may be empty."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    with environment(MLFLOW_LIMITS):
        try:
            found = MlflowClient(uri).get_experiment_by_name(ANY_NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return
    if found is not None and found.name != ANY_NAME:
        raise ValueError("not the valid JSON of an experiment")
