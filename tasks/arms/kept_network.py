"""Networks that MLflow keeps beside an arm's results, because other arms start from them or read their features."""

from typing import Any

from mlflow.exceptions import MlflowException

from data_prep.errors import DataError
from tasks.arms import mlflow_runs
from tasks.arms.base import BaseArm
from tasks.runtime.atomic_files import read_state, write_state
from tasks.runtime.part_errors import is_away

NETWORK = "network.pt"
"""File name of a trained network among the artifacts of its MLflow run."""


def keep_network(arm: BaseArm, checkpoint: dict[str, Any]) -> None:
    """Log a trained network, as its `checkpoint` returns it, to the active MLflow run of its arm."""
    write_state(checkpoint, arm.folder / NETWORK)
    mlflow_runs.log_artifact(str(arm.folder / NETWORK))


def read_network(run_id: str | None) -> dict[str, Any]:
    """Read the checkpoint of a kept network.

    Raises:
        DataError: MLflow does not have it.
    """
    remedy = "delete that run in MLflow, and the arm is trained again"
    try:
        path = mlflow_runs.download(run_id, NETWORK)
    except (MlflowException, OSError) as error:
        if is_away(error):
            raise
        raise DataError(f"MLflow has run {run_id} but not its network ({error}): {remedy}") from error
    state = read_state(path)
    if state is None:
        raise DataError(f"MLflow has run {run_id} but not its network: {remedy}")
    return state
