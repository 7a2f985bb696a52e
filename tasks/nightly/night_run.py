"""The MLflow run of a night: parent of the arm that it trains, with what was new and how the champion scored."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel

from tasks.arms import mlflow_runs
from tasks.nightly.night import Night


@contextmanager
def night_run(night: Night, title: str, settings: BaseModel) -> Iterator[str]:
    """Open the run of a night: the one that a stopped start left, or a new one.

    Args:
        night: the series and the date.
        title: of the flow's runs.
        settings: of the night, which are logged as parameters.

    Yields:
        The id of the run, which is the active one meanwhile.
    """
    tags = {mlflow_runs.SERIES_TAG: night.series, mlflow_runs.NIGHT_TAG: night.date.isoformat()}
    with mlflow_runs.parent_run("night", f"{title} · night {night.date}", settings, tags) as run_id:
        yield run_id
