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
from tasks.arms.base import ArmRef, OnStep, ResumableEpochs, arm_task, log_results, train_arms, train_or_reuse
from tasks.arms.runner import RunnerSettings
from tasks.images.inputs import load_image_inputs
from tasks.images.model_registry import log_model
from tasks.images.spec import ImageArm
from tasks.records.study import ArmRecord, NoiseOnLabel, ConditionRecord, TrustRecord, score_records


@arm_task()
def train_image_arm(arm: ImageArm, parent: str | None = None) -> ArmRef:
    """Train an arm, score it on the test set and log the results; reuse an arm that finished before.

    Args:
        arm: with the paths of its inputs.
        parent: the MLflow run of the study that the arm belongs to.

    Returns:
        Where the arm's results are.

    Raises:
        DataError: an input cannot be used.
        SettingError: a setting does not fit the inputs.
        DivergenceError: a loss is not finite; the run is marked failed.
    """
    return train_or_reuse(arm, parent, _train)


def train_image_arms(
    arms: Sequence[ImageArm], parent: str, runner: RunnerSettings
) -> tuple[list[ArmRef], list[ArmRecord]]:
    """Train the arms, several at a time.

    Args:
        arms: of one study.
        parent: the study's MLflow run.
        runner: how many arms train at a time.

    Returns:
        The arms that finished, and a record of each arm that diverged, both in the order of `arms`.

    Raises:
        DivergenceError: all of them diverged.
    """
    outcomes = train_arms(train_image_arm, arms, parent, runner)
    finished = [outcome for _, outcome in outcomes if isinstance(outcome, ArmRef)]
    return finished, [_failed_record(arm, outcome) for arm, outcome in outcomes if not isinstance(outcome, ArmRef)]


def _train(arm: ImageArm, run_id: str, on_step: OnStep) -> ArmRecord:
    epochs = ResumableEpochs(arm, run_id)
    inputs = load_image_inputs(arm)
    store, mask, network, weighting = inputs.store, inputs.mask, inputs.network, inputs.weighting
    mlflow_runs.log_dataset(arm.store.name, store.path, store.fingerprint, "store")
    mlflow_runs.log_dataset(f"noise: {arm.noise.name}", arm.mask.path, arm.mask.fingerprint, "noise mask")
    with epochs, PeakMemory(arm.device) as memory:
        fitted = fit(
            network,
            weighting,
            inputs.train,
            inputs.val,
            arm.training,
            seed=arm.seed,
            device=arm.device,
            state=epochs.state,
            progress=on_step,
            on_epoch=lambda report, state: epochs.save(report.epoch, epoch_metrics(arm.labels, report), state),
        )

    check_disjoint(network.trained_on, inputs.test.patients)
    scoring_started = time.perf_counter()
    predictions = {part: predict(network, getattr(inputs, part).pixels).numpy() for part in ("val", "test")}
    targets, patients = inputs.test.targets.numpy(), store.patients[inputs.split.test]
    evaluation = score(targets, predictions["test"], patients, arm.labels, arm.seed)
    computing_seconds = sum(r.seconds + r.validation_seconds + r.weighting_seconds for r in fitted.history)
    computing_seconds += time.perf_counter() - scoring_started
    log_model(network, inputs.test.pixels[:2].numpy())
    steps = steps_per_epoch(len(inputs.train), arm.training.batch_size)
    trained_here = arm.training.devices == 1 and epochs.resumed_epochs < arm.training.epochs
    scores, mean = score_records(evaluation)
    record = ArmRecord(
        method=arm.method.name,
        condition=_noise_record(arm, mask),
        seed=arm.seed,
        labels=arm.labels,
        scores=scores,
        mean=mean,
        facts=weighting.diagnostics(),
        trust=_trust(arm.labels, weighting.trust()),
        weights=_weights(arm.labels, fitted, steps),
        best_epoch=fitted.best_epoch,
        items_per_second=float(np.median([report.images_per_second for report in fitted.history])),
        seconds=epochs.seconds,
        computing_seconds=computing_seconds,
        step_seconds=float(np.median([report.seconds for report in fitted.history])) / steps,
        weighting_seconds=sum(report.weighting_seconds for report in fitted.history),
        peak_memory_mib=memory.mib if trained_here else None,
        mlflow_run_id=run_id,
        hash=arm.hash,
    )
    mlflow.log_artifact(str(arm.mask.path), "noise")
    mlflow.set_tags({"medmtl.compilation": fitted.compilation, "medmtl.placement": fitted.placement})
    log_results(arm, run_id, record, predictions, _test_metrics(record, fitted), epochs.last_timestamp_ms)
    return record


def _noise_record(arm: ImageArm, mask: NoiseMask) -> ConditionRecord:
    noise = arm.noise
    condition = {"kind": noise.kind, "rate": noise.level, "title": noise.title, "name": arm.condition}
    if isinstance(noise, NoNoise):
        return ConditionRecord(**condition)
    summary = {
        row.label: NoiseOnLabel(
            known=row.known,
            selected=row.selected,
            changed=row.changed,
            prevalence_before=row.prevalence_before,
            prevalence_after=row.prevalence_after,
        )
        for row in mask.summary()
        if row.selected or row.label in noise.labels
    }
    return ConditionRecord(**condition, labels=noise.labels, mask=mask.fingerprint, summary=summary)


def _trust(labels: tuple[str, ...], trust: LabelTrust | None) -> tuple[TrustRecord, ...]:
    rows = trust.table(labels) if trust else []
    return tuple(TrustRecord(**{key: None if value != value else value for key, value in row.items()}) for row in rows)


def _failed_record(arm: ImageArm, error: Exception) -> ArmRecord:
    scores, mean = score_records(Evaluation({}, Score(None, None, None, str(error)), ()))
    return ArmRecord(
        method=arm.method.name,
        condition=_noise_record(arm, NoiseMask.load(arm.mask.path)),
        seed=arm.seed,
        labels=(),
        scores=scores,
        mean=mean,
        best_epoch=None,
        items_per_second=None,
        seconds=0.0,
        hash=arm.hash,
        status="failed",
        reason=str(error),
    )


def epoch_metrics(labels: tuple[str, ...], report: EpochReport) -> dict[str, float]:
    """Return the metrics of an epoch for MLflow, which shows names with a common part before the slash as a group."""
    per_label = {"train_loss": report.losses, "val_auc": report.val_auc, "weight": report.weights}
    metrics = {
        f"{name}/{label}": value
        for name, values in per_label.items()
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


def _test_metrics(record: ArmRecord, fitted: Fitted) -> dict[str, float | None]:
    costs = ("step_seconds", "weighting_seconds", "peak_memory_mib")
    aucs = {f"test_auc/{label}": found.value for label, found in record.scores.items()}
    return (
        aucs
        | {f"cost/{name}": getattr(record, name) for name in costs}
        | {
            "test_auc_mean": record.mean.value,
            "test_auc_mean_lo": record.mean.lo,
            "test_auc_mean_hi": record.mean.hi,
            "best_epoch": fitted.best_epoch,
            "best_val_auc_mean": fitted.best_val_mean_auc,
        }
    )


def _weights(labels: tuple[str, ...], fitted: Fitted, epoch_steps: int) -> tuple[dict[str, float], ...]:
    """Return the task weights after each epoch, with the number of training steps made by then."""
    return tuple(
        {"step": report.epoch * epoch_steps} | dict(zip(labels, report.weights, strict=True))
        for report in fitted.history
    )
