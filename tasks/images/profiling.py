"""Profile an image arm: time of each part of training, on the arm that would be trained, with its logging."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from models.training.image_training import ImageEpochReport
from models.training.profiling import Profile, profile
from tasks.arms import mlflow_runs
from tasks.arms.checkpoint_writer import AsyncCheckpointWriter
from tasks.images.inputs import load_image_inputs
from tasks.images.kind import epoch_metrics
from tasks.images.spec import ImageArm
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.interrupts import interruptible
from tasks.runtime.progress import LOGGER, progress

PROFILE = "profile.json"


@task(name="profile arm", cache_policy=NO_CACHE)
def profile_arm(arm: ImageArm, folder: Path) -> Path:
    """Train the arm's network for a short time, measure the parts of training and write them to a file.

    Checkpoints and metrics are written as in a real training, but into `folder` and into a separate MLflow run.

    Returns:
        Path of profile.json in `folder`.

    Raises:
        DataError, SettingError: see `load_image_inputs` and `models.training.profiling.profile`.
    """
    torch.set_num_threads(arm.threads)
    inputs = load_image_inputs(arm)
    title, checkpoint = f"profile · {arm.title}", folder / "checkpoint.pt"
    run_id = mlflow_runs.create_run(mlflow_runs.connect(), title, {mlflow_runs.KIND_TAG: "profile"}, {"arm": arm.hash})

    def save(report: ImageEpochReport, state: dict[str, Any]) -> None:
        writer.save(state, epoch_metrics(arm.labels, report), report.epoch, time.time_ns() // 1_000_000)

    with mlflow_runs.active_run(run_id), progress(title) as update, interruptible() as raise_if_stopped:

        def on_step(done: int, total: int) -> None:
            raise_if_stopped()
            update(done, total)

        with AsyncCheckpointWriter(run_id, checkpoint) as writer:
            profiled = profile(
                *inputs.trained,
                arm.training,
                seed=arm.seed,
                policy=arm.policy,
                device=arm.device,
                on_epoch=save,
                progress=on_step,
            )
    checkpoint.unlink(missing_ok=True)
    path = folder / PROFILE
    write_atomically(path, json.dumps(asdict(profiled), indent=1).encode())
    rows = profile_table(profiled)
    create_table_artifact(rows, key="profile", description=title)
    for row in rows:
        LOGGER.info("%(part)-12s %(milliseconds)9s ms per step %(share)7s", row)
    LOGGER.info("profile: %s", path)
    return path


def profile_table(profiled: Profile) -> list[dict[str, str]]:
    """Return a row for each part of training, for a whole step timed without interruption, and for its lower bound."""
    floor = profiled.floor
    rows = [(row.part, row.seconds, f"{row.share:.1%}") for row in profiled.rows]
    rows += [
        ("whole step", profiled.step_seconds, f"{profiled.of_floor:.1f} x floor"),
        ("floor", floor.seconds, ""),
        ("operations", floor.operation_seconds, f"{floor.limits.operations_per_second / 1e9:,.0f} G/s"),
        ("bytes", floor.byte_seconds, f"{floor.limits.bytes_per_second / 1e9:,.0f} GB/s"),
    ]
    return [{"part": part, "milliseconds": f"{1e3 * seconds:.3f}", "share": share} for part, seconds, share in rows]
