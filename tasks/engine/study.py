"""A whole study, from its plan to its report."""

import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.arms.base import ArmRef, ArmT
from tasks.arms.mlflow_runs import LONGEST_NOTE, experiment_of, parent_run, run_anchor, set_note
from tasks.arms.runner import RunnerSettings
from tasks.engine.compare import compare_arms
from tasks.engine.kind import Kind
from tasks.engine.plan import Plan
from tasks.engine.publish import publish
from tasks.engine.training import Outcome, train_plan


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
    with parent_run("study", title, settings) as run_id:
        outcome = train_plan(kind, plan, run_id, runner)
        set_note(run_id, arms_note(plan, outcome, experiment_of(run_id)))
        results = compare_arms(kind, plan, outcome, settings.model_dump(mode="json"), begun, folder)
        return publish(kind, results, run_id), outcome.finished


def arms_note(plan: Plan[Any], outcome: Outcome, experiment_id: str) -> str:
    """Return the study's arms as a table in Markdown with links to their MLflow runs, also to those of other studies.

    MLflow lists under a study only the runs of the arms that it trained itself.
    """
    note, left = "| arm | |\n|---|---|", len(plan.arms)
    for arm in plan.arms:
        title = re.sub(r"([^\w\s])", r"\\\1", arm.title)
        ref = outcome.finished.get(arm.hash)
        done = "did not finish" if ref is None else "reused" if ref.reused else "trained"
        row = f"\n| {title if ref is None else f'[{title}]({run_anchor(experiment_id, ref.run_id)})'} | {done} |"
        rest = f"\n\n{left} more arms are in the report."
        if len(note) + len(row) + len(rest) > LONGEST_NOTE:
            return note + rest
        note, left = note + row, left - 1
    return note
