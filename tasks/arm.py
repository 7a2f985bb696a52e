"""One arm: a method, a noise condition and a seed, trained once and remembered by MLflow under its hash.

A finished arm is a finished MLflow run with its predictions; it is never trained again on the same MLflow store.
An unfinished one has a checkpoint under MEDMTL_HOME and goes on from there, into the same MLflow run.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import as_completed
from prefect.states import State
from pydantic import BaseModel, ConfigDict

from data_prep.errors import DataError
from data_prep.noise import NoiseMask, NoiseSettings, NoNoise
from data_prep.splits import SplitSettings
from models.errors import DivergenceError
from models.evaluation import Evaluation, Score, score
from models.label_trust import LabelTrust
from models.networks import NetworkSettings
from models.oracle import realised_noise
from models.provenance import check_disjoint
from models.training import EpochReport, Fitted, TrainingSettings, fit, predict
from models.weighting import WeightingSettings, make_weighting
from tasks import tracking
from tasks.arm_inputs import alone, inputs_of
from tasks.files import read_state, write_atomically
from tasks.home import home
from tasks.ingest import StoreRef
from tasks.keeping import Keeper
from tasks.logged_model import log_model
from tasks.progress import LOGGER, progress
from tasks.results import ArmRecord, NoiseOnLabel, NoiseRecord, TrustRecord, scores_of
from tasks.runner import RunnerSettings, task_runner
from tasks.stopping import remembered_stops, stop_others

ARM_VERSION = 2  # raise it when the same settings would train to other numbers
RECORD, PREDICTIONS = "arm.json", "predictions.npz"


class MaskRef(BaseModel):
    """Where a noise mask is, and the hash of what is in it."""

    model_config = ConfigDict(frozen=True)

    path: Path
    fingerprint: str


class Arm(BaseModel):
    """All that determines an arm, and where its inputs are."""

    model_config = ConfigDict(frozen=True)

    store: StoreRef
    split: SplitSettings
    split_fingerprint: str
    labels: tuple[str, ...]
    condition: str
    noise: NoiseSettings
    mask: MaskRef
    method: WeightingSettings
    network: NetworkSettings
    training: TrainingSettings
    seed: int
    device: Literal["auto", "cpu", "cuda"]
    threads: int

    @property
    def title(self) -> str:
        """Its name for people, in MLflow, in Prefect and on the terminal."""
        return f"{self.method.name} · {self.condition} · seed {self.seed}"

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of what determines the numbers: content, not paths.

        The version of torch, the kind of device and the number of threads are in it: they change the last bits.
        """
        settings = {name: getattr(self, name).model_dump(mode="json") for name in ("noise", "method", "network")}
        settings["training"] = self.training.determining()
        inputs = [self.store.fingerprint, self.split_fingerprint, self.labels, self.mask.fingerprint, self.seed]
        on_gpu = torch.cuda.is_available() if self.device == "auto" else self.device == "cuda"
        place = ["cuda" if on_gpu else self.threads, torch.__version__, ARM_VERSION]
        return hashlib.sha256(json.dumps([settings, inputs, place], sort_keys=True).encode()).hexdigest()[:16]


class ArmRef(BaseModel):
    """Where a finished arm is in MLflow."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    reused: bool


def _is_passing(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Whether trying again can help: MLflow's server or database may be busy; an arm goes on from its checkpoint."""
    return isinstance(state.result(raise_on_failure=False), (MlflowException, ConnectionError))


@task(
    name="train arm",
    task_run_name="{arm.title}",
    cache_policy=NO_CACHE,  # MLflow is the memory, see the top
    retries=2,
    retry_delay_seconds=[2, 20],
    retry_condition_fn=_is_passing,
)
def train_arm(arm: Arm, parent: str | None = None) -> ArmRef:
    """Train an arm, score it on the test set and log all of it, or find it done.

    parent: the MLflow run of the study it belongs to.

    Raises:
        DataError, SettingError: the inputs are not usable.
        DivergenceError: a loss is not finite; the run is marked failed.
    """
    torch.set_num_threads(arm.threads)  # of this thread, and of those that it starts
    experiment = tracking.connect()
    known = tracking.find(experiment, tracking.ARM_TAG, arm.hash)
    if known is not None and known.info.status == "FINISHED":
        LOGGER.info("%s: reused, trained before as run %s", arm.title, known.info.run_id[:8])
        return ArmRef(run_id=known.info.run_id, reused=True)
    if known is not None:
        run_id = known.info.run_id
    else:
        tags = {tracking.ARM_TAG: arm.hash, "medmtl.kind": "arm"} | ({tracking.PARENT_TAG: parent} if parent else {})
        run_id = tracking.new_run(experiment, arm.title, tags, _parameters(arm))
    with tracking.running(run_id), progress(arm.title) as update, remembered_stops() as ask:

        def stepped(done: int, total: int) -> None:
            ask()
            update(done, total)

        record = _train(arm, run_id, stepped)
    shutil.rmtree(_folder(arm), ignore_errors=True)
    LOGGER.info(
        "%s: test AUC %s, best epoch %s of %d, %.0f s",
        arm.title, "none" if record.mean.value is None else f"{record.mean.value:.3f}",
        record.best_epoch, arm.training.epochs, record.seconds,
    )  # fmt: skip
    return ArmRef(run_id=run_id, reused=False)


def train_arms(arms: Sequence[Arm], parent: str, runner: RunnerSettings) -> tuple[list[ArmRef], list[ArmRecord]]:
    """Train the arms, several at a time; returns those that finished, and a record of each that diverged, in order.

    Raises:
        DivergenceError: all of them diverged.
    """
    found: dict[str, ArmRef | DivergenceError] = {}
    with progress("arms") as update, remembered_stops(), task_runner(runner, arms[0].device) as pool:
        futures = {pool.submit(train_arm, {"arm": arm, "parent": parent}): arm for arm in arms}
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
            stop_others()  # they leave a checkpoint each; without this they would be waited for to their ends
            raise
    outcomes = [(arm, found[arm.hash]) for arm in arms]
    failed = [(arm, error) for arm, error in outcomes if isinstance(error, DivergenceError)]
    if len(failed) == len(arms):
        raise failed[0][1]
    return [ref for _, ref in outcomes if isinstance(ref, ArmRef)], [_failure(*failure) for failure in failed]


def read_arm(ref: ArmRef) -> tuple[ArmRecord, dict[str, np.ndarray]]:
    """A finished arm's record and its predictions: `val` and `test`, (n, k) float32 probabilities.

    Raises:
        DataError: MLflow no longer has its files.
    """
    try:
        folder = Path(mlflow.artifacts.download_artifacts(run_id=ref.run_id, artifact_path="arm"))
        record = ArmRecord.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
        with np.load(folder / PREDICTIONS, allow_pickle=False) as arrays:
            return record.model_copy(update={"reused": ref.reused}), dict(arrays)
    except (MlflowException, OSError) as error:
        raise DataError(
            f"MLflow has run {ref.run_id} but not its files ({error}): delete the run there, and it is trained anew"
        ) from error


def _train(arm: Arm, run_id: str, stepped: Callable[[int, int], None]) -> ArmRecord:
    begun = time.perf_counter()
    inputs = inputs_of(arm)
    store, mask, network = inputs.store, inputs.mask, inputs.network
    harm = realised_noise(torch.from_numpy(mask.clean), torch.from_numpy(mask.targets))
    weighting = make_weighting(arm.method, len(arm.labels), seed=arm.seed, label_noise=harm)
    tracking.log_dataset(arm.store.name, store.path, store.fingerprint, "store")
    tracking.log_dataset(f"noise: {arm.noise.name}", arm.mask.path, arm.mask.fingerprint, "noise mask")
    state = read_state(_checkpoint(arm))
    seconds_before = state["seconds"] if state else 0.0
    stamps: list[int] = list(state["timestamps_ms"]) if state else []

    def keep(report: EpochReport, fit_state: dict[str, Any]) -> None:
        stamps.append(time.time_ns() // 1_000_000)
        so_far = seconds_before + time.perf_counter() - begun
        metrics = epoch_metrics(arm.labels, report)
        kept = {"fit": fit_state, "timestamps_ms": list(stamps), "metrics": metrics, "seconds": so_far}
        keeper.keep(kept, metrics, report.epoch, stamps[-1])

    if state:
        LOGGER.info("%s: goes on after epoch %d of %d", arm.title, len(stamps), arm.training.epochs)
        tracking.log_metrics(run_id, state["metrics"], len(stamps), stamps[-1])
    with Keeper(run_id, _checkpoint(arm)) as keeper:
        fitted = fit(
            network, weighting, inputs.train, inputs.val, arm.training,
            seed=arm.seed, device=arm.device, state=state["fit"] if state else None, on_epoch=keep, progress=stepped,
        )  # fmt: skip

    check_disjoint(network.trained_on, inputs.test.patients)
    predictions = {part: predict(network, getattr(inputs, part).pixels).numpy() for part in ("val", "test")}
    with alone:
        log_model(network, inputs.test.pixels[:2].numpy())
    targets, patients = inputs.test.targets.numpy(), store.patients[inputs.split.test]
    evaluation = score(targets, predictions["test"], patients, arm.labels, arm.seed)
    scores, mean = scores_of(evaluation)
    record = ArmRecord(
        method=arm.method.name,
        noise=_noise_record(arm, mask),
        seed=arm.seed,
        labels=arm.labels,
        scores=scores,
        mean=mean,
        facts=weighting.facts(),
        trust=_trust(arm.labels, weighting.trust()),
        weights=_weights(arm.labels, fitted, len(inputs.train), arm.training.batch_size),
        best_epoch=fitted.best_epoch,
        images_per_second=float(np.median([report.images_per_second for report in fitted.history])),
        seconds=seconds_before + time.perf_counter() - begun,
        mlflow_run_id=run_id,
        hash=arm.hash,
    )
    _log_outcome(arm, run_id, record, predictions, fitted, stamps[-1])
    return record


def _noise_record(arm: Arm, mask: NoiseMask) -> NoiseRecord:
    noise = arm.noise
    condition = {"kind": noise.kind, "rate": noise.level, "title": noise.title, "name": arm.condition}
    if isinstance(noise, NoNoise):
        return NoiseRecord(**condition)
    summary = {
        found.label: NoiseOnLabel(
            known=found.known, selected=found.selected, changed=found.changed,
            prevalence_before=found.prevalence_before, prevalence_after=found.prevalence_after,
        )
        for found in mask.summary()
        if found.selected or found.label in noise.labels
    }  # fmt: skip
    return NoiseRecord(**condition, labels=noise.labels, mask=mask.fingerprint, summary=summary)


def _trust(labels: tuple[str, ...], trust: LabelTrust | None) -> tuple[TrustRecord, ...]:
    rows = trust.table(labels) if trust else []
    return tuple(TrustRecord(**{key: None if value != value else value for key, value in row.items()}) for row in rows)


def _failure(arm: Arm, error: Exception) -> ArmRecord:
    nothing = Score(None, None, None, str(error))
    scores, mean = scores_of(Evaluation({}, nothing, ()))
    return ArmRecord(
        method=arm.method.name, noise=_noise_record(arm, NoiseMask.load(arm.mask.path)), seed=arm.seed,
        labels=(), scores=scores, mean=mean, best_epoch=None, images_per_second=None, seconds=0.0,
        hash=arm.hash, status="failed", reason=str(error),
    )  # fmt: skip


def _folder(arm: Arm) -> Path:
    return home().arms / arm.hash


def _checkpoint(arm: Arm) -> Path:
    return _folder(arm) / "checkpoint.pt"


def _parameters(arm: Arm) -> dict[str, Any]:
    shown = arm.model_dump(mode="json", exclude={"store", "mask", "split_fingerprint"})
    return shown | {"data": {"name": arm.store.name, "fingerprint": arm.store.fingerprint}}


def epoch_metrics(labels: tuple[str, ...], report: EpochReport) -> dict[str, float]:
    """What MLflow shows of an epoch; a slash makes a group of charts."""
    per_label = {"train_loss": report.losses, "val_auc": report.val_auc, "weight": report.weights}
    metrics = {
        f"{what}/{label}": value
        for what, values in per_label.items()
        for label, value in zip(labels, values, strict=True)
    }
    return metrics | {
        "val_auc_mean": report.val_mean_auc,
        "learning_rate": report.learning_rate,
        "images_per_second": report.images_per_second,
        "seconds/training": report.seconds,
        "seconds/validation": report.validation_seconds,
        "seconds/weighting": report.weighting_seconds,
    }


def _log_outcome(
    arm: Arm,
    run_id: str,
    record: ArmRecord,
    predictions: Mapping[str, np.ndarray],
    fitted: Fitted,
    timestamp_ms: int,
) -> None:
    scores = {f"test_auc/{label}": found.value for label, found in record.scores.items()}
    scores |= {
        "test_auc_mean": record.mean.value,
        "test_auc_mean_lo": record.mean.lo,
        "test_auc_mean_hi": record.mean.hi,
    }
    scores |= {"best_epoch": fitted.best_epoch, "best_val_auc_mean": fitted.best_val_mean_auc}
    known = {key: value for key, value in scores.items() if value is not None}
    tracking.log_metrics(run_id, known, fitted.best_epoch, timestamp_ms)
    folder = _folder(arm)
    write_atomically(folder / RECORD, record.model_dump_json(indent=1).encode())
    np.savez(folder / PREDICTIONS, val=predictions["val"], test=predictions["test"])
    mlflow.log_artifact(str(arm.mask.path), "noise")
    mlflow.log_artifact(str(folder / PREDICTIONS), "arm")
    mlflow.log_artifact(str(folder / RECORD), "arm")


def _weights(labels: tuple[str, ...], fitted: Fitted, images: int, batch_size: int) -> tuple[dict[str, float], ...]:
    steps = -(-images // batch_size)
    return tuple(
        {"step": report.epoch * steps} | dict(zip(labels, report.weights, strict=True)) for report in fitted.history
    )
