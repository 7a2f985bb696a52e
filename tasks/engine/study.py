"""A whole study, from its plan to its report."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.arms.base import ArmRef, ArmT
from tasks.arms.mlflow_runs import study_run
from tasks.arms.runner import RunnerSettings
from tasks.engine.compare import compare_arms
from tasks.engine.kind import Kind
from tasks.engine.plan import Plan
from tasks.engine.publish import publish
from tasks.engine.training import train_plan


def run_study(
    kind: Kind[ArmT, Any, Any],
    plan: Plan[ArmT],
    settings: BaseModel,
    runner: RunnerSettings,
    *,
    title: str,
    folder: Path,
    begun: float,
) -> tuple[Path, dict[str, ArmRef]]:
    """Train the arms of a plan, compare them, and write the report.

    Args:
        kind: of the study.
        plan: its arms and contrasts.
        settings: of the study, as recorded in MLflow and in the results.
        runner: how many arms train at a time, and where.
        title: of the study's MLflow run.
        folder: for the results.
        begun: `time.monotonic()` at the start of the study.

    Returns:
        The path of the report, and the finished arms by their hashes.
    """
    with study_run(title, settings) as run_id:
        outcome = train_plan(kind, plan, run_id, runner)
        results = compare_arms(kind, plan, outcome, settings.model_dump(mode="json"), begun, folder)
        return publish(kind, results, run_id), outcome.finished
