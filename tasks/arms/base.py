"""The base of all arms: an arm is trained once, and MLflow records it under the hash of everything it depends on.

A finished arm is a finished MLflow run with its predictions; it is never trained again on the same MLflow store. An
unfinished arm has a checkpoint under MEDMTL_HOME, from which training resumes in the same MLflow run.
"""

import hashlib
import json
import shutil
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import mlflow
import numpy as np
import torch
from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.context import TagsContext
from prefect.futures import as_completed
from prefect.states import State
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from models.errors import DivergenceError
from tasks.arms import mlflow_runs
from tasks.arms.checkpoint_writer import AsyncCheckpointWriter
from tasks.arms.runner import Device, RunnerSettings, task_runner, uses_gpu
from tasks.records.study import ArmRecord
from tasks.runtime.atomic_files import read_state, write_atomically
from tasks.runtime.home import home
from tasks.runtime.interrupts import interrupt_all, interruptible
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.readers_writer_lock import shared

RECORD, PREDICTIONS = "arm.json", "predictions.npz"
WAIT_SECONDS = 0.5  # for another command's lock, between two checks for a stop signal

OnStep = Callable[[int, int], None]
"""Called after every step with the steps done and their total; raises after a stop signal."""


class BaseArm(BaseModel):
    """Everything on which an arm's numbers depend, and the places of its inputs."""

    model_config = ConfigDict(frozen=True)

    version: ClassVar[int]  # raise it when a change of the code makes the same settings give other numbers

    seed: int
    device: Device
    threads: int

    @property
    @abstractmethod
    def title(self) -> str:
        """The arm's name in MLflow, in Prefect and on the terminal."""

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Epochs of a complete training."""

    @abstractmethod
    def hash_inputs(self) -> list[Any]:
        """Return plain values on which the arm's numbers depend: settings and content hashes, not paths."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """Return the parameters that MLflow shows for the arm."""

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the hash of everything on which the arm's numbers depend.

        That includes the version of torch, the kind of device and the number of threads: they change the last bits.
        """
        place = ["cuda" if uses_gpu(self.device) else self.threads, torch.__version__, self.version]
        return hashlib.sha256(json.dumps([*self.hash_inputs(), place], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """The folder of the arm's checkpoint and results while it is unfinished."""
        return home().arms / self.hash

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file, written after every epoch."""
        return self.folder / "checkpoint.pt"


ArmT = TypeVar("ArmT", bound=BaseArm)


class ArmRef(BaseModel):
    """The MLflow run of a finished arm, and whether it was trained by an earlier run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    reused: bool


def _is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Tell whether another try can help: MLflow's server may be busy, and an arm resumes from its checkpoint."""
    return isinstance(state.result(raise_on_failure=False), (MlflowException, ConnectionError))


arm_task: Callable[[], Callable[..., Task[Any, Any]]] = partial(
    task,
    name="train arm",
    task_run_name="{arm.title}",
    cache_policy=NO_CACHE,  # finished arms are found in MLflow, see the module's docstring
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=_is_transient,
)
"""Decorator for the function that trains one kind of arm: makes it a Prefect task. See `train_or_reuse`."""


def train_or_reuse(arm: ArmT, parent: str | None, train: Callable[[ArmT, str, OnStep], ArmRecord]) -> ArmRef:
    """Train an arm within its MLflow run, unless MLflow has it as finished.

    Args:
        arm: to train.
        parent: the id of the study's MLflow run, if there is one.
        train: the training; it gets the arm, the id of the arm's MLflow run, and a function to call at every step.

    Returns:
        The arm's MLflow run.
    """
    torch.set_num_threads(arm.threads)  # holds for this thread and those that it starts
    with interruptible() as raise_if_stopped, _arm_lock(arm, raise_if_stopped):
        return _reuse_or_train(arm, parent, train, raise_if_stopped)


@contextmanager
def _arm_lock(arm: BaseArm, raise_if_stopped: Callable[[], None]) -> Iterator[None]:
    """Hold the arm's file lock, so that no other command on this MEDMTL_HOME trains it; wait for the lock if needed."""
    home().arms.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home().arms / f"{arm.hash}.lock")
    for attempt in count():
        raise_if_stopped()
        with suppress(Timeout):
            lock.acquire(timeout=WAIT_SECONDS)
            break
        if attempt == 0:
            LOGGER.info("%s: another command is training it; waiting for that to end", arm.title)
    try:
        yield
        # Only after success. If a lock file were deleted while the arm is unfinished, a command that waits for it
        # and one that creates it anew could train the arm at the same time.
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()


def _reuse_or_train(
    arm: ArmT, parent: str | None, train: Callable[[ArmT, str, OnStep], ArmRecord], raise_if_stopped: Callable[[], None]
) -> ArmRef:
    experiment_id = mlflow_runs.connect()
    known = mlflow_runs.find_run(experiment_id, mlflow_runs.ARM_TAG, arm.hash)
    if known is not None and known.info.status == "FINISHED":
        shutil.rmtree(arm.folder, ignore_errors=True)  # still there if a kill came between finishing and this
        LOGGER.info("%s: reused, trained before as run %s", arm.title, known.info.run_id[:8])
        return ArmRef(run_id=known.info.run_id, reused=True)
    if known is not None:
        run_id = mlflow_runs.resume_run(known, arm.parameters())
    else:
        tags = {mlflow_runs.ARM_TAG: arm.hash, "medmtl.kind": "arm"} | (
            {mlflow_runs.PARENT_TAG: parent} if parent else {}
        )
        run_id = mlflow_runs.create_run(experiment_id, arm.title, tags, arm.parameters())
    with mlflow_runs.active_run(run_id), progress(arm.title) as update, shared() as pause_for_exclusive:

        def on_step(done: int, total: int) -> None:
            raise_if_stopped()
            pause_for_exclusive()
            update(done, total)

        record = train(arm, run_id, on_step)
    shutil.rmtree(arm.folder, ignore_errors=True)
    LOGGER.info(
        "%s: test %s %s, best epoch %s of %d, %.0f s",
        arm.title,
        "AUC" if record.metric == "auc" else record.metric,
        "none" if record.mean.value is None else f"{record.mean.value:.3f}",
        record.best_epoch,
        arm.epochs,
        record.seconds,
    )
    return ArmRef(run_id=run_id, reused=False)


class ResumableEpochs:
    """An arm's epochs: resumed from the checkpoint, and each new epoch saved while the next one trains.

    As a context manager, it waits at the end until the last epoch is written.

    Attributes:
        state: the training state from which to resume, or None at the start.
        resumed_epochs: number of epochs that earlier processes trained.
    """

    def __init__(self, arm: BaseArm, run_id: str) -> None:
        self._start = time.perf_counter()
        self._run_id, self._writer = run_id, AsyncCheckpointWriter(run_id, arm.checkpoint)
        saved = read_state(arm.checkpoint)
        self.state: dict[str, Any] | None = saved["fit"] if saved else None
        self._earlier_seconds: float = saved["seconds"] if saved else 0.0
        self._timestamps_ms: list[int] = list(saved["timestamps_ms"]) if saved else []
        self.resumed_epochs = len(self._timestamps_ms)
        if saved:
            LOGGER.info("%s: goes on after epoch %d of %d", arm.title, self.resumed_epochs, arm.epochs)
            # again, because a kill may have come between the checkpoint and its metrics
            mlflow_runs.log_metrics(run_id, saved["metrics"], self.resumed_epochs, self._timestamps_ms[-1])

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def save(self, epoch: int, metrics: Mapping[str, float], state: Mapping[str, Any]) -> None:
        """Save an epoch in the background.

        Args:
            epoch: counted from 1.
            metrics: of the epoch, for MLflow.
            state: the training state; it must not change after this call.
        """
        self._timestamps_ms.append(time.time_ns() // 1_000_000)
        saved = {"fit": state, "timestamps_ms": list(self._timestamps_ms), "metrics": metrics, "seconds": self.seconds}
        self._writer.save(saved, metrics, epoch, self._timestamps_ms[-1])

    @property
    def seconds(self) -> float:
        """Wall time spent on the arm so far, in all processes."""
        return self._earlier_seconds + time.perf_counter() - self._start

    @property
    def last_timestamp_ms(self) -> int:
        """End of the last epoch, Unix time in milliseconds; a resumed run logs the same metrics with the same time."""
        return self._timestamps_ms[-1]


def log_results(
    arm: BaseArm,
    run_id: str,
    record: ArmRecord,
    arrays: Mapping[str, np.ndarray],
    metrics: Mapping[str, float | None],
    timestamp_ms: int,
) -> None:
    """Log a finished arm to its MLflow run: the record and the predictions as artifacts, and the final metrics.

    Args:
        arm: that was trained.
        run_id: of its MLflow run, which must be the active one.
        record: of the arm.
        arrays: the predictions, by name.
        metrics: final metrics by name; those that are None are left out.
        timestamp_ms: of the metrics, Unix time in milliseconds.
    """
    known = {key: value for key, value in metrics.items() if value is not None}
    mlflow_runs.log_metrics(run_id, known, record.best_epoch or 0, timestamp_ms)
    write_atomically(arm.folder / RECORD, record.model_dump_json(indent=1).encode())
    np.savez(arm.folder / PREDICTIONS, allow_pickle=False, **arrays)
    mlflow.log_artifact(str(arm.folder / PREDICTIONS), "arm")
    mlflow.log_artifact(str(arm.folder / RECORD), "arm")


def train_arms(
    train: Task[Any, ArmRef], arms: Sequence[ArmT], parent: str, runner: RunnerSettings
) -> list[tuple[ArmT, ArmRef | DivergenceError]]:
    """Train the arms, several at a time.

    Args:
        train: the Prefect task that trains one arm.
        arms: to train.
        parent: the id of the study's MLflow run.
        runner: how many arms train at a time, and where.

    Returns:
        Each arm, in order, with its MLflow run, or with the error if it diverged.

    Raises:
        DivergenceError: all arms diverged.
    """
    outcomes: dict[str, ArmRef | DivergenceError] = {}
    # For each tag of a task, Prefect asks its server for a concurrency slot: two seconds per arm. So no tags here.
    untagged = TagsContext(current_tags=set())
    with untagged, progress("arms") as update, interruptible(), task_runner(runner, arms[0].device) as pool:
        futures = {pool.submit(train, {"arm": arm, "parent": parent}): arm for arm in arms}
        update(0, len(arms))
        try:
            for future in as_completed(list(futures)):
                arm = futures[future]
                try:
                    outcomes[arm.hash] = future.result()
                except DivergenceError as error:
                    LOGGER.warning("%s: %s", arm.title, error)
                    outcomes[arm.hash] = error
                update(len(outcomes), len(arms))
        except BaseException:
            interrupt_all()  # each arm leaves a checkpoint; without this, leaving `pool` would wait until all finish
            raise
    in_order = [(arm, outcomes[arm.hash]) for arm in arms]
    diverged = [error for _, error in in_order if isinstance(error, DivergenceError)]
    if len(diverged) == len(arms):
        raise diverged[0]
    return in_order


def read_arm(ref: ArmRef) -> tuple[ArmRecord, dict[str, np.ndarray]]:
    """Read a finished arm's record and predictions from MLflow.

    Raises:
        DataError: MLflow no longer has the files.
    """
    try:
        with TemporaryDirectory() as temporary:
            artifacts = mlflow.artifacts.download_artifacts(run_id=ref.run_id, artifact_path="arm", dst_path=temporary)
            folder = Path(artifacts)
            record = ArmRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
            with np.load(folder / PREDICTIONS, allow_pickle=False) as arrays:
                return record.model_copy(update={"reused": ref.reused}), dict(arrays)
    except (MlflowException, OSError) as error:
        raise DataError(
            f"MLflow has run {ref.run_id} but not its files ({error}): delete the run in MLflow to train the arm again"
        ) from error
