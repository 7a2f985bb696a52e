"""Images as a kind of study: networks with a head per label, trained under label noise and scored by AUC."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.labels.splits import PARTS, SplitSettings
from models.data.image_batches import steps_per_epoch
from models.evaluation.auc import score
from models.evaluation.leakage import check_disjoint
from models.evaluation.operating_points import operating_points
from models.evaluation.paired import Differences, Unit, auc_differences
from models.networks.multitask import MultiTaskNetwork
from models.training.cross_fit import NETWORKS
from models.training.image_training import ImageEpochReport, ImageFitted, fit, predict
from models.training.profiling import estimate_epoch_seconds
from models.training.selection import chosen_over_drawn
from models.weighting.base import COMMON_FACTOR
from models.weighting.label_trust import LabelTrust
from tasks.arms import mlflow_runs
from tasks.arms.base import OnStep
from tasks.arms.kept_network import keep_network, read_network
from tasks.arms.runner import uses_gpu
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.engine import kind as engine
from tasks.engine.kind import Finished, Kind, Report, SaveEpoch, Scored
from tasks.engine.plan import Plan
from tasks.images.adjudication import score_adjudicated
from tasks.images.inputs import ImageInputs, load_image_inputs, start_weighting
from tasks.images.model_facts import ModelFacts
from tasks.images.model_registry import log_model
from tasks.images.plan import SOURCE
from tasks.images.report import contents, draw_figures, study_answer, study_question
from tasks.images.spec import ImageArm
from tasks.records.arms import ArmRecord, TrustRecord, WeightsRecord
from tasks.records.data import CheckRecord, DataRecord, SplitRecord
from tasks.reporting.page import example_images


@dataclass(frozen=True)
class ImageKind(Kind[ImageArm, ImageInputs, ImageFitted]):
    """Images of one store and one split.

    Attributes:
        store: the images and labels.
        split: which patients train, validate and test.
        checks: of the data.
        adjudicated: table of adjudicated labels, see `tasks.images.adjudication`; None for no scores against them.
        command: of the command line that runs the study.
    """

    items: ClassVar[str] = "images"
    metric = score_name = "auc"
    report: ClassVar[Report] = Report(
        study_question, study_answer, figures=draw_figures, contents=contents, template="study.html.j2"
    )

    store: StoreRef
    split: SplitSettings
    checks: tuple[CheckRecord, ...] = ()
    adjudicated: Path | None = None
    command: str = "study"

    def prepare(self, arm: ImageArm) -> ImageInputs:
        """See the base class."""
        mlflow_runs.log_dataset(arm.store.name, arm.store.path, arm.store.fingerprint, "store")
        mlflow_runs.log_dataset(f"noise: {arm.noise.name}", arm.mask.path, arm.mask.fingerprint, "noise mask")
        return load_image_inputs(arm)

    def fit(
        self, arm: ImageArm, inputs: ImageInputs, state: Mapping[str, Any] | None, save: SaveEpoch, on_step: OnStep
    ) -> ImageFitted:
        """See the base class."""
        steps_before = 0
        steps = arm.training.epochs * steps_per_epoch(len(inputs.train), arm.training.batch_size)

        def before(done: int, total: int) -> None:
            nonlocal steps_before
            steps_before = total
            on_step(done, total + steps)

        start_seconds = state.get(_START_SECONDS, 0.0) if state else _start(arm, inputs, before)
        fitted = fit(
            *inputs.trained,
            arm.training,
            seed=arm.seed,
            policy=arm.policy,
            device=arm.device,
            state=state,
            progress=lambda done, total: on_step(steps_before + done, steps_before + total),
            on_epoch=lambda report, state: save(
                report.epoch, epoch_metrics(arm.labels, report), state | {_START_SECONDS: start_seconds}
            ),
        )
        return replace(fitted, start_seconds=start_seconds)

    def epoch_seconds(self, arm: ImageArm) -> float:
        """Estimate the duration of an epoch by a few training steps, with those of cross-fitting."""
        inputs = load_image_inputs(arm)
        # the networks of cross-fitting make as many steps as the other trainings
        trainings = NETWORKS if arm.method.feature_source == "cross_fitted" else 1
        how: dict[str, Any] = {"policy": arm.policy, "device": arm.device}
        return trainings * estimate_epoch_seconds(
            inputs.network, inputs.weighting, inputs.train, len(inputs.val), arm.training, **how
        )

    def score(self, arm: ImageArm, inputs: ImageInputs, fitted: ImageFitted) -> Scored:
        """Score the test part, and log the network as a model."""
        check_disjoint(inputs.network.trained_on, inputs.test.patients)
        begun = time.perf_counter()
        predictions = {part: predict(inputs.network, getattr(inputs, part).pixels).numpy() for part in ("val", "test")}
        patients = inputs.store.patients[inputs.split.test]
        evaluation = score(inputs.test.targets.numpy(), predictions["test"], patients, arm.labels)
        weighting_seconds = fitted.start_seconds + sum(report.weighting_seconds for report in fitted.history)
        computing_seconds = weighting_seconds + sum(r.seconds + r.validation_seconds for r in fitted.history)
        computing_seconds += time.perf_counter() - begun
        if arm.method == SOURCE:
            keep_network(arm, inputs.network.checkpoint())
        points = operating_points(inputs.val.targets.numpy(), predictions["val"], arm.labels)
        log_model(inputs.network, ModelFacts.of(inputs.network, inputs.store.manifest["recipe"], points=points))
        mlflow_runs.log_artifact(str(arm.mask.path), "noise")
        mlflow_runs.set_tags({"medmtl.compilation": fitted.compilation, "medmtl.placement": fitted.placement})
        steps = steps_per_epoch(len(inputs.train), arm.training.batch_size)
        costs = {
            "step_seconds": float(np.median([report.seconds for report in fitted.history])) / steps,
            "weighting_seconds": weighting_seconds,
        }
        facts = inputs.weighting.diagnostics()
        details: dict[str, Any] = costs | {
            "facts": facts,
            "common_factor": facts.pop(COMMON_FACTOR, None),
            "trust": _trust(arm.labels, inputs.weighting.trust()),
            "weights": _weights(arm.labels, fitted, steps),
            "chosen": chosen_over_drawn(arm.policy, [(report.drawn, report.chosen) for report in fitted.history]),
            "computing_seconds": computing_seconds,
        }
        if arm.training.devices > 1:
            details["peak_memory_mib"] = None  # other processes trained
        metrics = {f"cost/{name}": value for name, value in costs.items()} | {
            "test_auc_mean_lo": evaluation.mean.lo,
            "test_auc_mean_hi": evaluation.mean.hi,
            "best_val_auc_mean": fitted.best_val_mean,
        }
        return Scored(evaluation, arm.labels, predictions, details, metrics)

    def differences(self, units: Mapping[str, engine.Unit]) -> Mapping[str, Differences | str]:
        """See the base class: mean AUC over the labels, influence of patients."""
        store, split = open_split(self.store, self.split)
        targets = store.targets[split.test]

        def unit(pairs: engine.Unit) -> Unit:
            labels = next(iter(pairs.values()))[0][0].record.labels
            columns = [store.labels.index(label) for label in labels]
            method, baseline = (
                {seed: sides[side][0].predictions["test"] for seed, sides in pairs.items()} for side in (0, 1)
            )
            return Unit(targets[:, columns], method, baseline)

        return auc_differences({name: unit(pairs) for name, pairs in units.items()}, store.patients[split.test])

    def data(self) -> DataRecord:
        """See the base class."""
        store, split = open_split(self.store, self.split)
        rows = {part: getattr(split, part) for part in PARTS}
        return DataRecord.of(
            self.store.name,
            store,
            self.checks,
            split=SplitRecord.of(split, store),
            n={part: len(of_part) for part, of_part in rows.items()},
            patients={part: len(np.unique(store.patients[of_part])) for part, of_part in rows.items()},
            positives={
                part: dict(zip(store.labels, (store.targets[of_part] == 1).sum(axis=0).tolist(), strict=True))
                for part, of_part in rows.items()
            },
        )

    def notes(self, plan: Plan[ImageArm], records: Sequence[ArmRecord]) -> Sequence[str]:
        """See the base class."""
        return ["Noise was added to the training labels only; validation and test labels are unchanged."]

    def more_results(self, finished: Sequence[Finished]) -> Mapping[str, Any]:
        """Score the arms with adjudicated labels too, if there are such labels."""
        if self.adjudicated is None:
            return {}
        store, split = open_split(self.store, self.split)
        records, predictions = [each.record for each in finished], [each.predictions["test"] for each in finished]
        return {"adjudicated": score_adjudicated(self.adjudicated, store, split.test, records, predictions)}

    def examples(self) -> tuple[NDArray[np.uint8], Sequence[str]]:
        """Return training images, one without a finding and one of each label."""
        store, split = open_split(self.store, self.split)
        return example_images(store, split.train)


_START_SECONDS = "start_seconds"  # in an arm's checkpoint


def _start(arm: ImageArm, inputs: ImageInputs, on_step: OnStep) -> float:
    """Let a weighting that needs features before training compute its weights; return how many seconds it took."""
    begun = time.perf_counter()
    if arm.method.feature_source == "running":
        return 0.0
    source = None
    if arm.source is not None:
        source = MultiTaskNetwork.restore(read_network(arm.source.run_id))
        source.to("cuda" if uses_gpu(arm.device) else "cpu")
    start_weighting(arm, inputs, source, on_step)
    return time.perf_counter() - begun


def epoch_metrics(labels: tuple[str, ...], report: ImageEpochReport) -> dict[str, float]:
    """Return the metrics of an epoch for MLflow, which shows names with a common part before the slash as a group."""
    per_label = {"train_loss": report.losses, "val_auc": report.val_scores, "weight": report.weights}
    metrics = {
        f"{name}/{label}": value
        for name, values in per_label.items()
        for label, value in zip(labels, values, strict=True)
    }
    return metrics | {
        "val_auc_mean": report.val_mean,
        "learning_rate": report.learning_rate,
        "images_per_second": report.items_per_second,
        "seconds/training": report.seconds,
        "seconds/validation": report.validation_seconds,
        "seconds/weighting": report.weighting_seconds,
    }


def _trust(labels: tuple[str, ...], trust: LabelTrust | None) -> tuple[TrustRecord, ...]:
    rows = trust.table(labels) if trust else []
    return tuple(TrustRecord(**{key: None if value != value else value for key, value in row.items()}) for row in rows)


def _weights(labels: tuple[str, ...], fitted: ImageFitted, epoch_steps: int) -> tuple[WeightsRecord, ...]:
    """Return the task weights after each epoch, with the number of training steps made by then."""
    return tuple(
        WeightsRecord(step=report.epoch * epoch_steps, labels=dict(zip(labels, report.weights, strict=True)))
        for report in fitted.history
    )
