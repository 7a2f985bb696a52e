"""The base of all arms: an arm is trained once, and MLflow records it under the hash of everything it depends on.

A finished arm is a finished MLflow run with its predictions; it is never trained again on the same MLflow store. An
unfinished arm has a checkpoint under MEDMTL_HOME, from which training resumes in the same MLflow run.
"""

import hashlib
import json
import shutil
import time
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from tasks.arms import mlflow_runs
from tasks.arms.checkpoint_writer import UNSENT, AsyncCheckpointWriter, Unsent
from tasks.arms.runner import Device, uses_gpu
from tasks.records.arms import ArmRecord, ConditionRecord
from tasks.runtime.atomic_files import read_state, write_atomically
from tasks.runtime.home import home
from tasks.runtime.interrupts import interruptible
from tasks.runtime.part_errors import is_away
from tasks.runtime.progress import LOGGER, progress
from tasks.runtime.readers_writer_lock import shared

RECORD, PREDICTIONS = "arm.json", "predictions.npz"
WAIT_SECONDS = 0.5  # for another command's lock, between two checks for a stop signal

OnStep = Callable[[int, int], None]
"""Called after every step with the steps done and their total; raises after a stop signal."""


def floor_level(method: str) -> str:
    """Return the level of the factor method for the baseline under other seeds, the noise floor of a study."""
    return f"{method}, other seeds"


class Source(BaseModel):
    """The arm whose trained network another arm needs, to start from it or to read its features.

    Attributes:
        hash: hash of that arm.
        run_id: its MLflow run; None until it has finished.
    """

    model_config = ConfigDict(frozen=True)

    hash: str
    run_id: str | None = None


class BaseArm(BaseModel):
    """Everything on which an arm's numbers depend, and the places of its inputs."""

    model_config = ConfigDict(frozen=True)

    version: ClassVar[int]  # raise it when a change of the code makes the same settings give other numbers

    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition")
    """The fields that a study varies, besides the seed; one with a default counts only where it differs from it."""

    condition: str
    seed: int
    device: Device
    threads: int
    source: Source | None = None
    floor_of: int | None = None
    """In the noise floor: the seed of the baseline's arm on the same data, with which this one is compared."""

    @property
    def levels(self) -> dict[str, str]:
        """The level of each of the arm's factors by name, also of those at their default.

        The baseline under other seeds is a level of its own of the factor method.
        """
        values = {name: getattr(self, name) for name in self.factor_fields}
        levels = {name: value if isinstance(value, str) else value.name for name, value in values.items()}
        return levels if self.floor_of is None else levels | {"method": floor_level(levels["method"])}

    @property
    def factors(self) -> dict[str, str]:
        """The levels by name, but for factors at their default."""
        return {name: level for name, level in self.levels.items() if not self._has_default(name)}

    @property
    def title(self) -> str:
        """The factors and the seed, as shown in MLflow (with data and date), in Prefect and on the terminal."""
        return f"{' · '.join(self.factors.values())} · seed {self.seed}"

    @property
    def data_title(self) -> str:
        """The data in a few words, for the name of the arm's MLflow run; empty if the factors say it."""
        return ""

    @property
    def paired_seed(self) -> int:
        """The seed of the arms with which this one is compared: its own, but for arms of a noise floor."""
        return self.seed if self.floor_of is None else self.floor_of

    @property
    @abstractmethod
    def epochs(self) -> int:
        """Epochs of a complete training."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of the network's heads."""

    def condition_record(self) -> ConditionRecord:
        """Return the condition for the results."""
        return ConditionRecord(name=self.condition)

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
        A factor at its default adds nothing, so that a new factor leaves the hashes of finished arms as they are.
        """
        place = ["cuda" if uses_gpu(self.device) else self.threads, torch.__version__, self.version]
        fields = self.__class__.model_fields
        changed = {name for name in self.factors if not fields[name].is_required()}
        more = [self.model_dump(mode="json", include=changed)] if changed else []
        inputs = [*self.hash_inputs(), place, *more]
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]

    def _has_default(self, name: str) -> bool:
        field = self.__class__.model_fields[name]
        return not field.is_required() and getattr(self, name) == field.get_default(call_default_factory=True)

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


def train_or_reuse(arm: BaseArm, parent: str | None, train: Callable[[str, OnStep], ArmRecord]) -> ArmRef:
    """Train an arm within its MLflow run, unless MLflow has it as finished.

    Args:
        arm: to train.
        parent: the id of the study's MLflow run, if there is one.
        train: the training; it gets the id of the arm's MLflow run, and a function to call at every step.

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
    arm: BaseArm, parent: str | None, train: Callable[[str, OnStep], ArmRecord], raise_if_stopped: Callable[[], None]
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
        tags = {mlflow_runs.ARM_TAG: arm.hash, mlflow_runs.KIND_TAG: "arm"} | (
            {mlflow_runs.PARENT_TAG: parent} if parent else {}
        )
        name = " · ".join(filter(None, (arm.data_title, arm.title, f"{datetime.now():%Y-%m-%d %H:%M}")))
        run_id = mlflow_runs.create_run(experiment_id, name, tags, arm.parameters())
    with mlflow_runs.active_run(run_id), progress(arm.title) as update, shared() as pause_for_exclusive:

        def on_step(done: int, total: int) -> None:
            raise_if_stopped()
            pause_for_exclusive()
            update(done, total)

        record = train(run_id, on_step)
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

    As a context manager, it waits at the end until the last epoch is written and all metrics are sent.

    Attributes:
        state: the training state from which to resume, or None at the start.
        resumed_epochs: number of epochs that earlier processes trained.
    """

    def __init__(self, arm: BaseArm, run_id: str) -> None:
        self._start = time.perf_counter()
        saved = read_state(arm.checkpoint)
        self.state: dict[str, Any] | None = saved["fit"] if saved else None
        self._earlier_seconds: float = saved["seconds"] if saved else 0.0
        self._timestamps_ms: list[int] = list(saved["timestamps_ms"]) if saved else []
        self.resumed_epochs = len(self._timestamps_ms)
        if saved:
            LOGGER.info("%s: goes on after epoch %d of %d", arm.title, self.resumed_epochs, arm.epochs)
        self._writer = AsyncCheckpointWriter(run_id, arm.checkpoint, self._unsent(saved) if saved else None)

    def _unsent(self, saved: Mapping[str, Any]) -> Unsent:
        """Return the metrics to send again, of a checkpoint of an older version those of its last epoch."""
        return saved[UNSENT] if UNSENT in saved else {self.resumed_epochs: (self._timestamps_ms[-1], saved["metrics"])}

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
        saved = {"fit": state, "timestamps_ms": list(self._timestamps_ms), "seconds": self.seconds}
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
    mlflow_runs.log_artifact(str(arm.folder / PREDICTIONS), "arm")
    mlflow_runs.log_artifact(str(arm.folder / RECORD), "arm")


def read_arm(ref: ArmRef) -> tuple[ArmRecord, dict[str, np.ndarray]]:
    """Read a finished arm's record and predictions from MLflow.

    Raises:
        DataError: MLflow no longer has the files, or they are damaged.
    """
    try:
        with TemporaryDirectory() as temporary:
            folder = mlflow_runs.download(ref.run_id, "arm", temporary)
            record = ArmRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
            with np.load(folder / PREDICTIONS, allow_pickle=False) as arrays:
                return record.model_copy(update={"reused": ref.reused}), dict(arrays)
    except (MlflowException, OSError, ValueError, zipfile.BadZipFile) as error:
        if is_away(error):
            raise
        why = str(error).partition("\n")[0]
        raise DataError(
            f"MLflow has run {ref.run_id} but not its files, or not whole ({why}): delete the run in MLflow to train "
            "the arm again"
        ) from error
