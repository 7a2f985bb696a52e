"""Classification of images as a kind of study: one class of several, scored by accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_prep.labels.class_split import ClassSplitSettings
from data_prep.labels.splits import PARTS
from models.data.image_batches import StoredPixels, steps_per_epoch
from models.evaluation.classification import TaskTest, evaluate, task_score
from models.training.image_training import ACCURACY, ImageEpochReport, ImageFitted, fit, predict
from models.training.profiling import estimate_epoch_seconds
from models.training.selection import chosen_over_drawn
from tasks.arms import mlflow_runs
from tasks.arms.base import OnStep
from tasks.classes.figures import draw_figures
from tasks.classes.inputs import ClassInputs, load_class_inputs
from tasks.classes.outcomes import answer, question
from tasks.classes.report import contents
from tasks.classes.spec import ClassArm
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.engine.kind import Kind, Report, SaveEpoch, Scored
from tasks.engine.plan import Plan
from tasks.images.model_facts import ModelFacts
from tasks.images.model_registry import log_model
from tasks.records.arms import ArmRecord
from tasks.records.data import CheckRecord, DataRecord, SplitRecord
from tasks.reporting.page import MAX_EXAMPLES

METRIC = "accuracy"
_TEST_SCORES = "test_scores"  # in an arm's checkpoint


@dataclass(frozen=True)
class ClassFitted(ImageFitted):
    """The result of a training, with the test accuracy after each epoch; empty if it was not asked for."""

    test_scores: tuple[float, ...] = field(default=())


@dataclass(frozen=True)
class ClassKind(Kind[ClassArm, ClassInputs, ClassFitted]):
    """Images of one store, each of one class.

    Attributes:
        store: the images and their classes.
        split: which images train, validate and test.
        checks: of the data.
    """

    items: ClassVar[str] = "images"
    metric = score_name = METRIC
    sampled: ClassVar[str] = "images"
    report: ClassVar[Report] = Report(
        question, answer, figures=draw_figures, contents=contents, template="classes.html.j2"
    )

    store: StoreRef
    split: ClassSplitSettings
    checks: tuple[CheckRecord, ...] = ()
    command: str = "classify"

    def prepare(self, arm: ClassArm) -> ClassInputs:
        """See the base class."""
        mlflow_runs.log_dataset(arm.store.name, arm.store.path, arm.store.fingerprint, "store")
        return load_class_inputs(arm)

    def fit(
        self, arm: ClassArm, inputs: ClassInputs, state: Mapping[str, Any] | None, save: SaveEpoch, on_step: OnStep
    ) -> ClassFitted:
        """See the base class; the test part is scored after each epoch if the arm asks for it, and nothing uses it."""
        test_scores = list(state.get(_TEST_SCORES, ())) if state else []

        def on_epoch(report: ImageEpochReport, state: dict[str, Any]) -> None:
            if arm.score_tests:
                predicted = predict(inputs.network, inputs.test.pixels).numpy()
                test_scores.append(float(ACCURACY.values(inputs.test.targets.numpy(), predicted)[0]))
            save(report.epoch, epoch_metrics(report), state | {_TEST_SCORES: list(test_scores)})

        fitted = fit(
            inputs.network,
            inputs.weighting,
            inputs.train,
            inputs.val,
            arm.training,
            seed=arm.seed,
            policy=arm.policy,
            device=arm.device,
            metric=ACCURACY,
            state=state,
            progress=on_step,
            on_epoch=on_epoch,
        )
        return ClassFitted(**vars(fitted), test_scores=tuple(test_scores))

    def epoch_seconds(self, arm: ClassArm) -> float:
        """Estimate the duration of an epoch by a few training steps."""
        inputs = load_class_inputs(arm)
        how: dict[str, Any] = {"policy": arm.policy, "device": arm.device}
        return estimate_epoch_seconds(
            inputs.network, inputs.weighting, inputs.train, len(inputs.val), arm.training, **how
        )

    def score(self, arm: ClassArm, inputs: ClassInputs, fitted: ClassFitted) -> Scored:
        """Score the test part by the epoch that is best on validation, and log the network as a model."""
        predictions = predict(inputs.network, inputs.test.pixels).numpy()
        (label,), names = inputs.store.labels, inputs.store.images[inputs.split.test]
        test = TaskTest(inputs.test.targets.numpy()[:, 0], names, (METRIC,))
        value, influence = task_score(test, predictions)
        log_model(
            inputs.network,
            ModelFacts.of(inputs.network, inputs.store.manifest["recipe"], inputs.store.classes),
        )
        mlflow_runs.set_tags({"medmtl.compilation": fitted.compilation, "medmtl.placement": fitted.placement})
        steps = steps_per_epoch(len(inputs.train), arm.training.batch_size)
        facts = {"training_seconds": sum(report.seconds for report in fitted.history)} | _learnt(inputs)
        if fitted.test_scores:
            facts["chosen_on_test"] = max(fitted.test_scores) - value
        details: dict[str, Any] = {
            "step_seconds": float(np.median([report.seconds for report in fitted.history])) / steps,
            "facts": facts,
            "chosen": chosen_over_drawn(arm.policy, [(report.drawn, report.chosen) for report in fitted.history]),
            "computing_seconds": sum(report.seconds + report.validation_seconds for report in fitted.history),
        }
        arrays = {"test": predictions, "influence": influence * np.sqrt(len(influence) / (len(influence) - 1))}
        metrics = {f"fact/{name}": number for name, number in facts.items()} | {"best_val_mean": fitted.best_val_mean}
        return Scored(evaluate({label: test}, {label: predictions}), (label,), arrays, details, metrics)

    def data(self) -> DataRecord:
        """See the base class."""
        store, split = open_split(self.store, self.split)
        rows = {part: getattr(split, part) for part in PARTS}
        counts = {
            part: np.bincount(store.targets[of_part][:, 0], minlength=len(store.classes))
            for part, of_part in rows.items()
        }
        return DataRecord.of(
            self.store.name,
            store,
            self.checks,
            split=SplitRecord.of(split, store),
            n={part: len(of_part) for part, of_part in rows.items()},
            positives={part: dict(zip(store.classes, each.tolist(), strict=True)) for part, each in counts.items()},
        )

    def notes(self, plan: Plan[ClassArm], records: Sequence[ArmRecord]) -> Sequence[str]:
        """See the base class."""
        return ["The epoch of each training is chosen on validation images, which are a part of the training images."]

    def examples(self) -> tuple[NDArray[np.uint8], Sequence[str]]:
        """Return a training image of each class."""
        store, split = open_split(self.store, self.split)
        targets = store.targets[split.train][:, 0]
        chosen = [split.train[np.flatnonzero(targets == number)[0]] for number in range(len(store.classes))]
        return store.pixels[np.array(chosen[:MAX_EXAMPLES])], store.classes[:MAX_EXAMPLES]


def epoch_metrics(report: ImageEpochReport) -> dict[str, float]:
    """Return the metrics of an epoch for MLflow."""
    return {
        "train_loss": report.losses[0],
        "val_accuracy": report.val_mean,
        "learning_rate": report.learning_rate,
        "images_per_second": report.items_per_second,
        "seconds/training": report.seconds,
        "seconds/validation": report.validation_seconds,
    }


def _learnt(inputs: ClassInputs) -> dict[str, float]:
    """Return the share of the training images with a wrong class for which the network predicts that class."""
    given = inputs.train.targets.numpy()[:, 0]
    wrong = np.flatnonzero(given != inputs.clean)
    if not len(wrong):
        return {}
    pixels = StoredPixels(inputs.store.pixels, inputs.split.train[wrong])
    predicted = predict(inputs.network, pixels).numpy().argmax(1)
    return {"wrong_labels_learnt": float((predicted == given[wrong]).mean())}
