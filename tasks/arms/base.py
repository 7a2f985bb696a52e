"""What every arm is, whatever it trains on: something trained once, and remembered by MLflow under its hash.

A finished arm is a finished MLflow run with its predictions; it is never trained again on the same MLflow store.
An unfinished one has a checkpoint under MEDMTL_HOME and goes on from there, into the same MLflow run.
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
from tasks.arms.runner import Device, RunnerSettings, on_gpu, task_runner
from tasks.records.study import ArmRecord
from tasks.runtime.atomic_files import read_state, write_atomically
from tasks.runtime.home import home
from tasks.runtime.interrupts import interrupt_all, interruptible
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.readers_writer_lock import shared

RECORD, PREDICTIONS = "arm.json", "predictions.npz"
WAIT_SECONDS = 0.5  # for another command's arm, before asking whether to stop

OnStep = Callable[[int, int], None]
"""Called after every step with the steps done and their total; raises where a stop was asked for."""


class BaseArm(BaseModel):
    """All that determines an arm, and where its inputs are."""

    model_config = ConfigDict(frozen=True)

    version: ClassVar[int]  # raise it when the same settings would train to other numbers

    seed: int
    device: Device
    threads: int

    @property
    @abstractmethod
    def title(self) -> str:
        """Its name for people, in MLflow, in Prefect and on the terminal."""

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Epochs of a whole training."""

    @abstractmethod
    def determined_by(self) -> list[Any]:
        """Plain values on which the numbers depend: settings and content, not paths."""

    @abstractmethod
    def parameters(self) -> dict[str, Any]:
        """What MLflow shows of it."""

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of what determines the numbers.

        The version of torch, the kind of device and the number of threads are in it: they change the last bits.
        """
        place = ["cuda" if on_gpu(self.device) else self.threads, torch.__version__, self.version]
        return hashlib.sha256(json.dumps([*self.determined_by(), place], sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """What an unfinished arm has so far."""
        return home().arms / self.hash

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"


ArmT = TypeVar("ArmT", bound=BaseArm)


class ArmRef(BaseModel):
    """Where a finished arm is in MLflow."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    reused: bool


def _is_transient(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether trying again can help: MLflow's server or database may be busy; an arm goes on from its checkpoint."""
    return isinstance(state.result(raise_on_failure=False), (MlflowException, ConnectionError))


arm_task: Callable[[], Callable[..., Task[Any, Any]]] = partial(
    task,
    name="train arm",
    task_run_name="{arm.title}",
    cache_policy=NO_CACHE,  # MLflow is the memory, see the top
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=_is_transient,
)
"""Makes the Prefect task that trains one kind of arm, see `train_once`."""


def train_once(arm: ArmT, parent: str | None, train: Callable[[ArmT, str, OnStep], ArmRecord]) -> ArmRef:
    """Train an arm within its MLflow run, or find it done.

    parent: the MLflow run of the study it belongs to. train: gets the arm, its run and what to call at every step.
    """
    torch.set_num_threads(arm.threads)  # of this thread, and of those that it starts
    with interruptible() as raise_if_stopped, _arm_lock(arm, raise_if_stopped):
        return _train_or_find(arm, parent, train, raise_if_stopped)


@contextmanager
def _arm_lock(arm: BaseArm, raise_if_stopped: Callable[[], None]) -> Iterator[None]:
    """Keep other commands on this MEDMTL_HOME from training the same arm meanwhile; wait where one is at it.

    ask: raises where a stop was asked for.
    """
    home().arms.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home().arms / f"{arm.hash}.lock")
    for attempt in count():
        raise_if_stopped()
        with suppress(Timeout):
            lock.acquire(timeout=WAIT_SECONDS)
            break
        if attempt == 0:
            LOGGER.info("%s: another command is training it; waiting for what comes of that", arm.title)
    try:
        yield
        # only once it is finished: who waits for a lock that is gone may train beside who makes it anew
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()


def _train_or_find(
    arm: ArmT, parent: str | None, train: Callable[[ArmT, str, OnStep], ArmRecord], raise_if_stopped: Callable[[], None]
) -> ArmRef:
    experiment = mlflow_runs.connect()
    known = mlflow_runs.find(experiment, mlflow_runs.ARM_TAG, arm.hash)
    if known is not None and known.info.status == "FINISHED":
        shutil.rmtree(arm.folder, ignore_errors=True)  # a kill may have come just before this
        LOGGER.info("%s: reused, trained before as run %s", arm.title, known.info.run_id[:8])
        return ArmRef(run_id=known.info.run_id, reused=True)
    if known is not None:
        run_id = mlflow_runs.resume_run(known, arm.parameters())
    else:
        tags = {mlflow_runs.ARM_TAG: arm.hash, "medmtl.kind": "arm"} | (
            {mlflow_runs.PARENT_TAG: parent} if parent else {}
        )
        run_id = mlflow_runs.new_run(experiment, arm.title, tags, arm.parameters())
    with mlflow_runs.running(run_id), progress(arm.title) as update, shared() as give_way:

        def on_step(done: int, total: int) -> None:
            raise_if_stopped()
            give_way()
            update(done, total)

        record = train(arm, run_id, on_step)
    shutil.rmtree(arm.folder, ignore_errors=True)
    LOGGER.info(
        "%s: test %s %s, best epoch %s of %d, %.0f s",
        arm.title, "AUC" if record.metric == "auc" else record.metric,
        "none" if record.mean.value is None else f"{record.mean.value:.3f}",
        record.best_epoch, arm.epochs, record.seconds,
    )  # fmt: skip
    return ArmRef(run_id=run_id, reused=False)


class ResumableEpochs:
    """An arm's epochs: those of an earlier process are taken up, and each new one is kept while the next one trains.

    As a context manager it waits for the last one to be written. state: where training goes on, or None. before: epochs
    of earlier processes.
    """

    def __init__(self, arm: BaseArm, run_id: str) -> None:
        self._begun = time.perf_counter()
        self._run_id, self._writer = run_id, AsyncCheckpointWriter(run_id, arm.checkpoint)
        kept = read_state(arm.checkpoint)
        self.state: dict[str, Any] | None = kept["fit"] if kept else None
        self._seconds_before: float = kept["seconds"] if kept else 0.0
        self._stamps: list[int] = list(kept["timestamps_ms"]) if kept else []
        self.before = len(self._stamps)
        if kept:
            LOGGER.info("%s: goes on after epoch %d of %d", arm.title, len(self._stamps), arm.epochs)
            mlflow_runs.log_metrics(run_id, kept["metrics"], len(self._stamps), self._stamps[-1])

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def keep(self, epoch: int, metrics: Mapping[str, float], state: Mapping[str, Any]) -> None:
        """Keep an epoch, counted from 1; its state must not change any more."""
        self._stamps.append(time.time_ns() // 1_000_000)
        kept = {"fit": state, "timestamps_ms": list(self._stamps), "metrics": metrics, "seconds": self.seconds}
        self._writer.keep(kept, metrics, epoch, self._stamps[-1])

    @property
    def seconds(self) -> float:
        """Wall time spent on the arm so far, in all processes."""
        return self._seconds_before + time.perf_counter() - self._begun

    @property
    def last_ms(self) -> int:
        """When the last epoch ended, in milliseconds: by it, a resumed run logs the same metrics again."""
        return self._stamps[-1]


def log_results(
    arm: BaseArm, run_id: str, record: ArmRecord, arrays: Mapping[str, np.ndarray],
    metrics: Mapping[str, float | None], timestamp_ms: int,
) -> None:  # fmt: skip
    """Keep an arm's record, its predictions and final metrics (those that are known) in its MLflow run."""
    known = {key: value for key, value in metrics.items() if value is not None}
    mlflow_runs.log_metrics(run_id, known, record.best_epoch or 0, timestamp_ms)
    write_atomically(arm.folder / RECORD, record.model_dump_json(indent=1).encode())
    np.savez(arm.folder / PREDICTIONS, allow_pickle=False, **arrays)
    mlflow.log_artifact(str(arm.folder / PREDICTIONS), "arm")
    mlflow.log_artifact(str(arm.folder / RECORD), "arm")


def train_all(
    train: Task[Any, ArmRef], arms: Sequence[ArmT], parent: str, runner: RunnerSettings
) -> list[tuple[ArmT, ArmRef | DivergenceError]]:
    """Train the arms, several at a time; returns what became of each, in order.

    Raises:
        DivergenceError: all of them diverged.
    """
    found: dict[str, ArmRef | DivergenceError] = {}
    # without tags: for each tag of a task, Prefect asks its server for a slot, which took two seconds an arm
    untagged = TagsContext(current_tags=set())
    with untagged, progress("arms") as update, interruptible(), task_runner(runner, arms[0].device) as pool:
        futures = {pool.submit(train, {"arm": arm, "parent": parent}): arm for arm in arms}
        update(0, len(arms))
        try:
            for future in as_completed(list(futures)):
                arm = futures[future]
                try:
                    found[arm.hash] = future.result()
                except DivergenceError as error:
                    LOGGER.warning("%s: %s", arm.title, error)
                    found[arm.hash] = error
                update(len(found), len(arms))
        except BaseException:
            interrupt_all()  # they leave a checkpoint each; without this they would be waited for to their ends
            raise
    outcomes = [(arm, found[arm.hash]) for arm in arms]
    failed = [error for _, error in outcomes if isinstance(error, DivergenceError)]
    if len(failed) == len(arms):
        raise failed[0]
    return outcomes


def read_arm(ref: ArmRef) -> tuple[ArmRecord, dict[str, np.ndarray]]:
    """A finished arm's record and its predictions.

    Raises:
        DataError: MLflow no longer has its files.
    """
    try:
        with TemporaryDirectory() as copies:
            folder = Path(mlflow.artifacts.download_artifacts(run_id=ref.run_id, artifact_path="arm", dst_path=copies))
            record = ArmRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
            with np.load(folder / PREDICTIONS, allow_pickle=False) as arrays:
                return record.model_copy(update={"reused": ref.reused}), dict(arrays)
    except (MlflowException, OSError) as error:
        raise DataError(
            f"MLflow has run {ref.run_id} but not its files ({error}): delete the run there, and it is trained anew"
        ) from error
