"""Train an image arm, score it on the test set, and log both."""

import time
from collections.abc import Sequence

import mlflow
import numpy as np

from data_prep.noise.registry import NoiseMask, NoNoise
from models.data.image_batches import steps_per_epoch
from models.evaluation.auc import Evaluation, Score, score
from models.evaluation.leakage import check_disjoint
from models.training.image_training import EpochReport, Fitted, fit, predict
from models.training.peak_memory import PeakMemory
from models.weighting.label_trust import LabelTrust
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmRef, OnStep, ResumableEpochs, arm_task, log_results, train_all, train_once
from tasks.arms.runner import RunnerSettings
from tasks.images.inputs import load_image_inputs
from tasks.images.model_registry import log_model
from tasks.images.spec import ImageArm
from tasks.records.study import ArmRecord, NoiseOnLabel, NoiseRecord, TrustRecord, scores_of


@arm_task()
def train_image_arm(arm: ImageArm, parent: str | None = None) -> ArmRef:
    """Train an arm, score it on the test set and log all of it, or find it done.

    parent: the MLflow run of the study it belongs to.

    Raises:
        DataError, SettingError: the inputs are not usable.
        DivergenceError: a loss is not finite; the run is marked failed.
    """
    return train_once(arm, parent, _train)


def train_image_arms(
    arms: Sequence[ImageArm], parent: str, runner: RunnerSettings
) -> tuple[list[ArmRef], list[ArmRecord]]:
    """Train the arms, several at a time; returns those that finished, and a record of each that diverged, in order.

    Raises:
        DivergenceError: all of them diverged.
    """
    outcomes = train_all(train_image_arm, arms, parent, runner)
    finished = [outcome for _, outcome in outcomes if isinstance(outcome, ArmRef)]
    return finished, [_failure(arm, outcome) for arm, outcome in outcomes if not isinstance(outcome, ArmRef)]


def _train(arm: ImageArm, run_id: str, on_step: OnStep) -> ArmRecord:
    epochs = ResumableEpochs(arm, run_id)
    inputs = load_image_inputs(arm)
    store, mask, network, weighting = inputs.store, inputs.mask, inputs.network, inputs.weighting
    mlflow_runs.log_dataset(arm.store.name, store.path, store.fingerprint, "store")
    mlflow_runs.log_dataset(f"noise: {arm.noise.name}", arm.mask.path, arm.mask.fingerprint, "noise mask")
    with epochs, PeakMemory(arm.device) as memory:
        fitted = fit(
            network, weighting, inputs.train, inputs.val, arm.training,
            seed=arm.seed, device=arm.device, state=epochs.state, progress=on_step,
            on_epoch=lambda report, state: epochs.keep(report.epoch, epoch_metrics(arm.labels, report), state),
        )  # fmt: skip

    check_disjoint(network.trained_on, inputs.test.patients)
    scoring = time.perf_counter()
    predictions = {part: predict(network, getattr(inputs, part).pixels).numpy() for part in ("val", "test")}
    targets, patients = inputs.test.targets.numpy(), store.patients[inputs.split.test]
    evaluation = score(targets, predictions["test"], patients, arm.labels, arm.seed)
    computing = sum(r.seconds + r.validation_seconds + r.weighting_seconds for r in fitted.history)
    computing += time.perf_counter() - scoring
    log_model(network, inputs.test.pixels[:2].numpy())
    steps = steps_per_epoch(len(inputs.train), arm.training.batch_size)
    trained_here = arm.training.devices == 1 and epochs.before < arm.training.epochs
    scores, mean = scores_of(evaluation)
    record = ArmRecord(
        method=arm.method.name,
        noise=_noise_record(arm, mask),
        seed=arm.seed,
        labels=arm.labels,
        scores=scores,
        mean=mean,
        facts=weighting.diagnostics(),
        trust=_trust(arm.labels, weighting.trust()),
        weights=_weights(arm.labels, fitted, steps),
        best_epoch=fitted.best_epoch,
        images_per_second=float(np.median([report.images_per_second for report in fitted.history])),
        seconds=epochs.seconds,
        computing_seconds=computing,
        step_seconds=float(np.median([report.seconds for report in fitted.history])) / steps,
        weighting_seconds=sum(report.weighting_seconds for report in fitted.history),
        peak_memory_mib=memory.mib if trained_here else None,
        mlflow_run_id=run_id,
        hash=arm.hash,
    )
    mlflow.log_artifact(str(arm.mask.path), "noise")
    mlflow.set_tags({"medmtl.compilation": fitted.compilation, "medmtl.placement": fitted.placement})
    log_results(arm, run_id, record, predictions, _metrics(record, fitted), epochs.last_ms)
    return record


def _noise_record(arm: ImageArm, mask: NoiseMask) -> NoiseRecord:
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


def _failure(arm: ImageArm, error: Exception) -> ArmRecord:
    nothing = Score(None, None, None, str(error))
    scores, mean = scores_of(Evaluation({}, nothing, ()))
    return ArmRecord(
        method=arm.method.name, noise=_noise_record(arm, NoiseMask.load(arm.mask.path)), seed=arm.seed,
        labels=(), scores=scores, mean=mean, best_epoch=None, images_per_second=None, seconds=0.0,
        hash=arm.hash, status="failed", reason=str(error),
    )  # fmt: skip


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


def _metrics(record: ArmRecord, fitted: Fitted) -> dict[str, float | None]:
    costs = ("step_seconds", "weighting_seconds", "peak_memory_mib")
    scores = {f"test_auc/{label}": found.value for label, found in record.scores.items()}
    return (
        scores
        | {f"cost/{name}": getattr(record, name) for name in costs}
        | {
            "test_auc_mean": record.mean.value,
            "test_auc_mean_lo": record.mean.lo,
            "test_auc_mean_hi": record.mean.hi,
            "best_epoch": fitted.best_epoch,
            "best_val_auc_mean": fitted.best_val_mean_auc,
        }
    )


def _weights(labels: tuple[str, ...], fitted: Fitted, steps: int) -> tuple[dict[str, float], ...]:
    """steps: in an epoch."""
    return tuple(
        {"step": report.epoch * steps} | dict(zip(labels, report.weights, strict=True)) for report in fitted.history
    )
