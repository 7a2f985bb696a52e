"""What a study would do: which arms are done, which go on, which are new, and how long that takes here."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from models.training.time_estimate import seconds_of_an_epoch
from tasks.arms import mlflow_runs
from tasks.arms.runner import RunnerSettings
from tasks.images.inputs import load_image_inputs
from tasks.images.spec import ImageArm
from tasks.runtime.atomic_files import read_state
from tasks.runtime.progress import LOGGER, progress, spoken


@dataclass(frozen=True)
class ArmForecast:
    """What becomes of an arm. epochs: still to train."""

    arm: ImageArm
    state: str
    epochs: int


@task(name="dry run", cache_policy=NO_CACHE)
def dry_run(arms: Sequence[ImageArm], runner: RunnerSettings) -> float:
    """Say of every arm what would become of it, and about how long the study would take; nothing is kept.

    A few steps of each method that has something to train are made and timed, one arm at a time. Returns seconds.

    Raises:
        DataError, SettingError: see `load_image_inputs`.
    """
    experiment = mlflow_runs.connect()
    prospects = [_forecast(experiment, arm) for arm in arms]
    seconds = _seconds_per_epoch([prospect.arm for prospect in prospects if prospect.epochs])
    rows = [
        {"arm": found.arm.title, "hash": found.arm.hash, "state": found.state, "about": _about(found, seconds)}
        for found in prospects
    ]
    create_table_artifact(rows, key="dry-run", description="what a study would do")
    for row in rows:
        LOGGER.info("%(arm)s  [%(hash)s]  %(state)s%(about)s", row)
    whole = sum(seconds[_kind(found.arm)] * found.epochs for found in prospects if found.epochs)
    together = runner.at_once(arms[0].device)
    new, done = sum(found.state == "new" for found in prospects), sum(not found.epochs for found in prospects)
    LOGGER.info(
        "%d arms: %d finished before, %d go on, %d new; about %s, %d at a time",
        len(arms), done, len(arms) - new - done, new, spoken(whole / together), together,
    )  # fmt: skip
    return whole / together


def _forecast(experiment: str, arm: ImageArm) -> ArmForecast:
    known = mlflow_runs.find(experiment, mlflow_runs.ARM_TAG, arm.hash)
    if known is not None and known.info.status == "FINISHED":
        return ArmForecast(arm, f"finished before, run {known.info.run_id[:8]}", 0)
    kept = read_state(arm.checkpoint)
    if kept is None:
        return ArmForecast(arm, "new", arm.epochs)
    before = len(kept["timestamps_ms"])
    # an arm that only has to be scored is no work, but work all the same
    return ArmForecast(arm, f"goes on after epoch {before} of {arm.epochs}", max(1, arm.epochs - before))


def _kind(arm: ImageArm) -> tuple[str, int]:
    """Arms of a kind take the same time."""
    return arm.method.name, len(arm.labels)


def _seconds_per_epoch(arms: Sequence[ImageArm]) -> dict[tuple[str, int], float]:
    one_of_each = {_kind(arm): arm for arm in arms}
    found = {}
    with progress("timing") as update:
        for kind, arm in one_of_each.items():
            torch.set_num_threads(arm.threads)
            inputs = load_image_inputs(arm)
            found[kind] = seconds_of_an_epoch(
                inputs.network, inputs.weighting, inputs.train, len(inputs.val), arm.training, device=arm.device
            )
            update(len(found), len(one_of_each))
    return found


def _about(prospect: ArmForecast, seconds: dict[tuple[str, int], float]) -> str:
    if not prospect.epochs:
        return ""
    return f", about {spoken(seconds[_kind(prospect.arm)] * prospect.epochs)}"
