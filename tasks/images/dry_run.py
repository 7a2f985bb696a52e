"""Dry run of an image study: which arms are finished, resumed or new, and an estimate of the time the study takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from models.training.time_estimate import estimate_epoch_seconds
from tasks.arms import mlflow_runs
from tasks.arms.runner import RunnerSettings
from tasks.images.inputs import load_image_inputs
from tasks.images.spec import ImageArm
from tasks.runtime.atomic_files import read_state
from tasks.runtime.progress import LOGGER, format_duration, progress


@dataclass(frozen=True)
class ArmForecast:
    """What a study would do with one arm.

    Attributes:
        arm: the arm.
        state: in words: finished before, resumed or new.
        epochs: still to train; 0 if the arm is finished.
    """

    arm: ImageArm
    state: str
    epochs: int


@task(name="dry run", cache_policy=NO_CACHE)
def dry_run(arms: Sequence[ImageArm], runner: RunnerSettings) -> float:
    """Show what a study would do with each arm, and estimate how long the study would take; nothing is kept.

    A few training steps of each method that has epochs to train are run and timed, one arm at a time.

    Args:
        arms: of the study.
        runner: how many arms train at a time.

    Returns:
        Estimated seconds of the whole study.

    Raises:
        DataError, SettingError: see `load_image_inputs`.
    """
    experiment_id = mlflow_runs.connect()
    forecasts = [_forecast(experiment_id, arm) for arm in arms]
    epoch_seconds = _epoch_seconds([forecast.arm for forecast in forecasts if forecast.epochs])
    rows = [
        {
            "arm": forecast.arm.title,
            "hash": forecast.arm.hash,
            "state": forecast.state,
            "about": _time_text(forecast, epoch_seconds),
        }
        for forecast in forecasts
    ]
    create_table_artifact(rows, key="dry-run", description="what the study would do with each arm")
    for row in rows:
        LOGGER.info("%(arm)s  [%(hash)s]  %(state)s%(about)s", row)
    training_seconds = sum(epoch_seconds[_cost_class(each.arm)] * each.epochs for each in forecasts if each.epochs)
    parallel_arms = runner.parallel_arms(arms[0].device)
    study_seconds = training_seconds / parallel_arms
    new, finished = sum(each.state == "new" for each in forecasts), sum(not each.epochs for each in forecasts)
    LOGGER.info(
        "%d arms: %d finished before, %d resumed, %d new; about %s, %d at a time",
        len(arms),
        finished,
        len(arms) - new - finished,
        new,
        format_duration(study_seconds),
        parallel_arms,
    )
    return study_seconds


def _forecast(experiment_id: str, arm: ImageArm) -> ArmForecast:
    run = mlflow_runs.find_run(experiment_id, mlflow_runs.ARM_TAG, arm.hash)
    if run is not None and run.info.status == "FINISHED":
        return ArmForecast(arm, f"finished before, run {run.info.run_id[:8]}", 0)
    saved = read_state(arm.checkpoint)
    if saved is None:
        return ArmForecast(arm, "new", arm.epochs)
    resumed_epochs = len(saved["timestamps_ms"])
    # counted as one epoch if only the scoring is missing: 0 stands for a finished arm
    return ArmForecast(
        arm, f"to be resumed after epoch {resumed_epochs} of {arm.epochs}", max(1, arm.epochs - resumed_epochs)
    )


def _cost_class(arm: ImageArm) -> tuple[str, int]:
    """Return the method and the number of labels: arms with the same ones take the same time."""
    return arm.method.name, len(arm.labels)


def _epoch_seconds(arms: Sequence[ImageArm]) -> dict[tuple[str, int], float]:
    """Time one arm of each cost class."""
    representatives = {_cost_class(arm): arm for arm in arms}
    seconds = {}
    with progress("timing") as update:
        for cost_class, arm in representatives.items():
            torch.set_num_threads(arm.threads)
            inputs = load_image_inputs(arm)
            seconds[cost_class] = estimate_epoch_seconds(
                inputs.network, inputs.weighting, inputs.train, len(inputs.val), arm.training, device=arm.device
            )
            update(len(seconds), len(representatives))
    return seconds


def _time_text(forecast: ArmForecast, epoch_seconds: dict[tuple[str, int], float]) -> str:
    if not forecast.epochs:
        return ""
    return f", about {format_duration(epoch_seconds[_cost_class(forecast.arm)] * forecast.epochs)}"
