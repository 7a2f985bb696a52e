"""Runs of deployments that take seconds, and what must be recorded of them."""

from collections import Counter
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from tasks.arms.mlflow_runs import ARM_TAG
from tests.stack.stack import Stack

EPOCHS = 4


SETTINGS: dict[str, Any] = {
    "data": {"size": 32, "phantom": {"patients": 60, "size": 64}},
    "split": {"shares": [0.5, 0.2, 0.3]},
    "training": {"epochs": EPOCHS},
    "device": "cpu",
}


def training(out: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Parameters of `train/train`: a small phantom, a small network, a model of that name."""
    return {"out": str(out), "settings": SETTINGS | {"model_name": name} | changes}


def night(out: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Parameters of `nightly/nightly`: the first night of a series of that name, on the same phantom."""
    return training(out, name, night="2026-11-02", **changes)


def arms(stack: Stack, since_ms: int) -> list[Run]:
    """MLflow's runs of arms that were begun since then, finished or not."""
    client = MlflowClient(stack.mlflow.url)
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(experiments, f"attributes.start_time >= {since_ms}", max_results=1000)
    return [run for run in found if ARM_TAG in run.data.tags]


def check_arms(stack: Stack, since_ms: int, epochs: int = EPOCHS) -> None:
    """No arm has two runs, and all are finished, with each metric of an epoch once for each epoch."""
    found = arms(stack, since_ms)
    assert found, "no arm is recorded"
    several = [arm for arm, number in Counter(run.data.tags[ARM_TAG] for run in found).items() if number > 1]
    assert not several, f"arms with several runs: {several}"
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        check_steps(stack, run, epochs)


def check_steps(stack: Stack, run: Run, epochs: int) -> None:
    rows = stack.postgres.query("mlflow", f"SELECT key, step FROM metrics WHERE run_uuid = '{run.info.run_id}'")
    seen = Counter(rows)
    repeated = {row for row, number in seen.items() if number > 1}
    assert not repeated, f"logged several times: {sorted(repeated)[:5]}"
    of_epochs = {key for key, _ in seen if len([1 for other, _ in seen if other == key]) > 1}
    assert of_epochs, "no metric has several steps"
    missing = {(key, step) for key in of_epochs for step in range(1, epochs + 1)} - set(seen)
    assert not missing, f"lost: {sorted(missing)[:5]}"


def unfinished_runs(stack: Stack) -> list[str]:
    """Flow runs, task runs and MLflow's runs without a final state, while none of ours runs."""
    states = "('RUNNING', 'PENDING', 'CANCELLING')"
    asked = [
        ("prefect", f"SELECT 'flow run ' || name FROM flow_run WHERE state_type::text IN {states}"),
        ("prefect", f"SELECT 'task run ' || name FROM task_run WHERE state_type::text IN {states}"),
        ("mlflow", "SELECT 'MLflow run ' || name FROM runs WHERE status = 'RUNNING'"),
    ]
    return [str(name) for database, query in asked for (name,) in stack.postgres.query(database, query)]
