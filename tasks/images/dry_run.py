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
from tasks.images.arm import Arm
from tasks.images.inputs import inputs_of
from tasks.runtime.atomic_files import read_state
from tasks.runtime.progress import LOGGER, progress, spoken


@dataclass(frozen=True)
class Prospect:
    """What becomes of an arm. epochs: still to train."""

    arm: Arm
    state: str
    epochs: int


@task(name="dry run", cache_policy=NO_CACHE)
def foresee(arms: Sequence[Arm], runner: RunnerSettings) -> float:
    """Say of every arm what would become of it, and about how long the study would take; nothing is kept.

    A few steps of each method that has something to train are made and timed, one arm at a time. Returns seconds.

    Raises:
        DataError, SettingError: see `inputs_of`.
    """
    experiment = mlflow_runs.connect()
    prospects = [_prospect(experiment, arm) for arm in arms]
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


def _prospect(experiment: str, arm: Arm) -> Prospect:
    known = mlflow_runs.find(experiment, mlflow_runs.ARM_TAG, arm.hash)
    if known is not None and known.info.status == "FINISHED":
        return Prospect(arm, f"finished before, run {known.info.run_id[:8]}", 0)
    kept = read_state(arm.checkpoint)
    if kept is None:
        return Prospect(arm, "new", arm.epochs)
    before = len(kept["timestamps_ms"])
    # an arm that only has to be scored is no work, but work all the same
    return Prospect(arm, f"goes on after epoch {before} of {arm.epochs}", max(1, arm.epochs - before))


def _kind(arm: Arm) -> tuple[str, int]:
    """Arms of a kind take the same time."""
    return arm.method.name, len(arm.labels)


def _seconds_per_epoch(arms: Sequence[Arm]) -> dict[tuple[str, int], float]:
    one_of_each = {_kind(arm): arm for arm in arms}
    found = {}
    with progress("timing") as update:
        for kind, arm in one_of_each.items():
            torch.set_num_threads(arm.threads)
            inputs = inputs_of(arm)
            found[kind] = seconds_of_an_epoch(
                inputs.network, inputs.weighting, inputs.train, len(inputs.val), arm.training, device=arm.device
            )
            update(len(found), len(one_of_each))
    return found


def _about(prospect: Prospect, seconds: dict[tuple[str, int], float]) -> str:
    if not prospect.epochs:
        return ""
    return f", about {spoken(seconds[_kind(prospect.arm)] * prospect.epochs)}"
