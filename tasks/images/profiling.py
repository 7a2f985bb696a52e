"""Where the time of a training goes: measured on the very arm that would be trained, logging included."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from models.training.image_training import EpochReport
from models.training.profiling import Profile, profile
from tasks.arms import mlflow_runs
from tasks.arms.checkpoint_writer import AsyncCheckpointWriter
from tasks.images.arm import epoch_metrics
from tasks.images.inputs import load_image_inputs
from tasks.images.spec import ImageArm
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.interrupts import interruptible
from tasks.runtime.progress import LOGGER, progress

PROFILE = "profile.json"


@task(name="profile arm", cache_policy=NO_CACHE)
def profile_arm(arm: ImageArm, folder: Path) -> Path:
    """Train a copy of the arm's network with a clock running, and write where the time went to `folder`/profile.json.

    Checkpoints and metrics are written as in a training, into `folder` and a run of its own in MLflow.

    Raises:
        DataError, SettingError: see `load_image_inputs`, `models.training.profiling.profile`.
    """
    torch.set_num_threads(arm.threads)
    inputs = load_image_inputs(arm)
    title, checkpoint = f"profile · {arm.title}", folder / "checkpoint.pt"
    run_id = mlflow_runs.new_run(mlflow_runs.connect(), title, {"medmtl.kind": "profile"}, {"arm": arm.hash})

    def keep(report: EpochReport, state: dict[str, Any]) -> None:
        keeper.keep(state, epoch_metrics(arm.labels, report), report.epoch, time.time_ns() // 1_000_000)

    with mlflow_runs.running(run_id), progress(title) as update, interruptible() as raise_if_stopped:

        def on_step(done: int, total: int) -> None:
            raise_if_stopped()
            update(done, total)

        with AsyncCheckpointWriter(run_id, checkpoint) as keeper:
            found = profile(
                inputs.network, inputs.weighting, inputs.train, inputs.val, arm.training,
                seed=arm.seed, device=arm.device, on_epoch=keep, progress=on_step,
            )  # fmt: skip
    checkpoint.unlink(missing_ok=True)
    path = folder / PROFILE
    write_atomically(path, json.dumps(asdict(found), indent=1).encode())
    rows = table(found)
    create_table_artifact(rows, key="profile", description=title)
    for row in rows:
        LOGGER.info("%(part)-12s %(milliseconds)9s ms a step %(share)7s", row)
    LOGGER.info("profile: %s", path)
    return path


def table(found: Profile) -> list[dict[str, str]]:
    """A row for each part of training, for a whole step left alone, and for the least that it could take."""
    floor = found.floor
    rows = [(row.part, row.seconds, f"{row.share:.1%}") for row in found.rows]
    rows += [
        ("whole step", found.step_seconds, f"{found.of_floor:.1f} x floor"),
        ("floor", floor.seconds, ""),
        ("operations", floor.operation_seconds, f"{floor.limits.operations_per_second / 1e9:,.0f} G/s"),
        ("bytes", floor.byte_seconds, f"{floor.limits.bytes_per_second / 1e9:,.0f} GB/s"),
    ]
    return [{"part": part, "milliseconds": f"{1e3 * seconds:.3f}", "share": share} for part, seconds, share in rows]
