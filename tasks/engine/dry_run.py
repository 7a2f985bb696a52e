"""Dry run of a study: which arms are finished, resumed or new, and an estimate of the time the study takes."""

from collections.abc import Callable, Sequence

import torch
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from tasks.arms import mlflow_runs
from tasks.arms.base import ArmT, BaseArm
from tasks.arms.runner import RunnerSettings
from tasks.runtime.atomic_files import read_state
from tasks.runtime.progress import LOGGER, format_duration, progress

CostClass = tuple[str, ...]


@task(name="dry run", cache_policy=NO_CACHE)
def dry_run(arms: Sequence[ArmT], runner: RunnerSettings, estimate: Callable[[ArmT], float]) -> float:
    """Show what a study would do with each arm, and estimate how long the study would take; nothing is kept.

    A few training steps of each method that has epochs to train are run and timed, one arm at a time.

    Args:
        arms: of the study.
        runner: how many arms train at a time.
        estimate: estimates the seconds of an epoch of an arm, by training it for a few steps.

    Returns:
        Estimated seconds of the whole study.

    Raises:
        DataError, SettingError: the inputs of an arm cannot be used.
    """
    experiment_id = mlflow_runs.connect()
    states = [_state(experiment_id, arm) for arm in arms]
    epoch_seconds = _epoch_seconds([arm for arm, (_, epochs) in zip(arms, states, strict=True) if epochs], estimate)
    seconds = [epoch_seconds.get(_cost_class(arm), 0) * epochs for arm, (_, epochs) in zip(arms, states, strict=True)]
    rows = [
        {
            "arm": arm.title,
            "hash": arm.hash,
            "state": state,
            "about": f", about {format_duration(of_arm)}" if epochs else "",
        }
        for arm, (state, epochs), of_arm in zip(arms, states, seconds, strict=True)
    ]
    create_table_artifact(rows, key="dry-run", description="what the study would do with each arm")
    for row in rows:
        LOGGER.info("%(arm)s  [%(hash)s]  %(state)s%(about)s", row)
    new, finished = sum(state == "new" for state, _ in states), sum(not epochs for _, epochs in states)
    parallel_arms = runner.parallel_arms(arms[0].device)
    study_seconds = sum(seconds) / parallel_arms
    counts = len(arms), finished, len(arms) - new - finished, new
    LOGGER.info(
        "%d arms: %d finished before, %d resumed, %d new; about %s, %d at a time",
        *counts,
        format_duration(study_seconds),
        parallel_arms,
    )
    return study_seconds


def _state(experiment_id: str, arm: BaseArm) -> tuple[str, int]:
    """Return what a study would do with the arm, in words, and the epochs still to train: 0 if it is finished."""
    run = mlflow_runs.find_run(experiment_id, mlflow_runs.ARM_TAG, arm.hash)
    if run is not None and run.info.status == "FINISHED":
        return f"finished before, run {run.info.run_id[:8]}", 0
    saved = read_state(arm.checkpoint)
    if saved is None:
        return "new", arm.epochs
    resumed_epochs = len(saved["timestamps_ms"])
    # counted as one epoch if only the scoring is missing: 0 stands for a finished arm
    return f"to be resumed after epoch {resumed_epochs} of {arm.epochs}", max(1, arm.epochs - resumed_epochs)


def _cost_class(arm: BaseArm) -> CostClass:
    """Return what the time of a step depends on; arms with the same values take the same time."""
    return (*(level for name, level in arm.factors.items() if name != "condition"), str(arm.outputs))


def _epoch_seconds(arms: Sequence[ArmT], estimate: Callable[[ArmT], float]) -> dict[CostClass, float]:
    """Time one arm of each cost class."""
    representatives = {_cost_class(arm): arm for arm in arms}
    seconds = {}
    with progress("timing") as update:
        for cost_class, arm in representatives.items():
            torch.set_num_threads(arm.threads)
            seconds[cost_class] = estimate(arm)
            update(len(seconds), len(representatives))
    return seconds
