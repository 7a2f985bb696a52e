"""Texts as a kind of study: one network for one or several tasks, scored by the tasks' official metrics."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from data_prep.labels.splits import PARTS
from data_prep.text.task import TextTask
from models.augmentation.word_replacement import WORD_OPERATIONS
from models.evaluation.classification import TaskTest, evaluate
from models.evaluation.metrics import scores as metric_values
from models.evaluation.paired import Differences
from models.evaluation.paired_classes import Group, class_differences
from models.training.loop import Fitted
from models.training.selection import chosen_over_drawn
from models.training.text_training import TextEpochReport, fit_text, predict_text
from tasks.arms import mlflow_runs
from tasks.arms.base import OnStep
from tasks.arms.kept_network import keep_network
from tasks.data.texts import GlueData, SentimentData, display_name, read_texts
from tasks.engine.kind import Kind, Report, SaveEpoch, Scored, Unit
from tasks.engine.plan import Plan
from tasks.records.arms import ArmRecord, LabelRecord, SimilarityRecord
from tasks.records.data import DataRecord, SplitRecord, TaskRecord
from tasks.records.scores import score_records
from tasks.records.summary_text import join_names
from tasks.text.figures import draw_figures
from tasks.text.inputs import TextInputs, load_text_inputs, similarities
from tasks.text.outcomes import GLUE_SCORE, answer, metric_name, question
from tasks.text.report import contents
from tasks.text.spec import TextArm

TextFitted = Fitted[TextEpochReport]


@dataclass
class TextKind(Kind[TextArm, TextInputs, TextFitted]):
    """Tasks of one text benchmark.

    Attributes:
        texts: the benchmark, with its folder.
    """

    items: ClassVar[str] = "texts"
    sampled: ClassVar[str] = "sentences"
    report: ClassVar[Report] = Report(question, answer, metric_name, draw_figures, contents, "texts.html.j2")

    texts: SentimentData | GlueData

    def __post_init__(self) -> None:
        self.command = self.texts.corpus
        self.metric = mean_score_name(task.metrics for task in self._tasks().values())

    def prepare(self, arm: TextArm) -> TextInputs:
        """See the base class."""
        inputs = load_text_inputs(arm)
        for name, fingerprint in arm.tasks.items():
            mlflow_runs.log_dataset(display_name(name), inputs.folder, fingerprint, "task")
        return inputs

    def fit(
        self, arm: TextArm, inputs: TextInputs, state: Mapping[str, Any] | None, save: SaveEpoch, on_step: OnStep
    ) -> TextFitted:
        """See the base class."""
        return fit_text(
            inputs.network,
            inputs.train,
            inputs.val,
            arm.training,
            metrics={name: task.metrics for name, task in inputs.tasks.items()},
            policy=arm.policy,
            seed=arm.seed,
            device=arm.device,
            state=state,
            progress=on_step,
            on_epoch=lambda report, state: save(report.epoch, epoch_metrics(report), state),
        )

    def score(self, arm: TextArm, inputs: TextInputs, fitted: TextFitted) -> Scored:
        """Score the tasks on their test parts, and log the network if other arms are fine-tuned from it."""
        tests, predictions = {}, {}
        for name, task in inputs.tasks.items():
            tests[display_name(name)] = TaskTest(task.test.labels, inputs.test_keys(name), task.metrics)
            predictions[display_name(name)] = predict_text(inputs.network, name, inputs.test[name]).numpy()
        evaluation = evaluate(tests, predictions)
        parts = {name: metric_values(test.metrics, test.targets, predictions[name]) for name, test in tests.items()}
        scores, _ = score_records(evaluation, self.sampled)
        similarity = _similarity_records(arm, inputs)
        if arm.keep_network:
            keep_network(arm, inputs.network.checkpoint())
        details = {
            "metric": mean_score_name(test.metrics for test in tests.values()),
            "by_label": {
                name: LabelRecord(score=score.model_copy(update={"parts": parts[name]}))
                for name, score in scores.items()
            },
            "similarity": similarity,
            "chosen": chosen_over_drawn(arm.policy, [(r.drawn, r.chosen) for r in fitted.history], WORD_OPERATIONS),
            "facts": {
                "validation": fitted.best_val_mean,
                "padding": float(np.mean([report.padding_share for report in fitted.history])),
                "width": float(inputs.network.width),
                "words": float(inputs.network.words.num_embeddings),
            },
        }
        metrics = {f"test_{metric}/{name}": value for name, part in parts.items() for metric, value in part.items()} | {
            f"similarity_{when}/{' and '.join(pair.tasks)}": getattr(pair, when)
            for pair in similarity
            for when in ("start", "before", "after")
        }
        arrays = {
            f"{what}/{name}": array
            for name, test in tests.items()
            for what, array in (("test", predictions[name]), ("targets", test.targets), ("sentences", test.sentences))
        }
        metrics["best_val_mean"] = fitted.best_val_mean
        return Scored(evaluation, tuple(tests), arrays, details, metrics)

    def differences(self, units: Mapping[str, Unit]) -> Mapping[str, Differences | str]:
        """See the base class: mean score over the tasks, influence of sentences."""
        metrics = {display_name(name): task.metrics for name, task in self._tasks().items()}
        return class_differences({name: _group(unit, metrics) for name, unit in units.items()})

    def data(self) -> DataRecord:
        """See the base class."""
        tasks = {display_name(name): task for name, task in self._tasks().items()}
        of_tasks = json.dumps([task.fingerprint for task in tasks.values()])
        fingerprint = "sha256:" + hashlib.sha256(of_tasks.encode()).hexdigest()
        records = tuple(
            TaskRecord(
                name=name,
                fingerprint=task.fingerprint,
                classes=task.classes,
                metrics=task.metrics,
                n={part: len(getattr(task, part)) for part in PARTS},
                skipped=task.skipped,
                notes=task.notes,
            )
            for name, task in tasks.items()
        )
        binary = {name: task for name, task in tasks.items() if len(task.classes) == 2}
        return DataRecord(
            name=self.texts.corpus,
            fingerprint=fingerprint,
            labels=tuple(tasks),
            split=SplitRecord(name=f"official parts, else drawn with seed {self.texts.seed}", fingerprint=fingerprint),
            tasks=records,
            n={part: sum(record.n[part] for record in records) for part in PARTS},
            positives={
                part: {name: int((getattr(task, part).labels == 1).sum()) for name, task in binary.items()}
                for part in PARTS
            },
        )

    def notes(self, plan: Plan[TextArm], records: Sequence[ArmRecord]) -> Sequence[str]:
        """Return notes on what each overlap group changes in the data of its tasks."""
        notes, seed = [], plan.arms[0].seed
        for overlap_group in dict.fromkeys(arm.overlap_group for arm in plan.arms if not arm.keep_overlap):
            for name, task in read_texts(self.texts, overlap_group, seed).items():
                ungrouped = read_texts(self.texts, (name,), seed)[name].notes
                others = join_names([display_name(other) for other in overlap_group if other != name])
                new = [note for note in task.notes if note not in ungrouped]
                notes += [f"{display_name(name)}, in a group with {others}: {note}." for note in new]
        return notes

    def _tasks(self) -> dict[str, TextTask]:
        """Return the benchmark's tasks, each read as a single task."""
        return {name: read_texts(self.texts, (name,))[name] for name in self.texts.tasks}


def mean_score_name(metrics: Iterable[Sequence[str]]) -> str:
    """Return the name of the score that is averaged over tasks.

    It is the metric if all tasks have the same single metric, else the GLUE score.

    Args:
        metrics: of each task.
    """
    first, *others = {tuple(of_task) for of_task in metrics}
    return GLUE_SCORE if others or len(first) > 1 else first[0]


def epoch_metrics(report: TextEpochReport) -> dict[str, float]:
    """Return the metrics of an epoch for MLflow, which shows names with a common part before the slash as a group."""
    by_task = {
        "train_loss": report.losses,
        "alignment_loss": report.alignment_losses,
        "val_score": report.val_scores,
    }
    metrics = {
        f"{metric}/{display_name(name)}": value for metric, values in by_task.items() for name, value in values.items()
    }
    return metrics | {
        "val_score_mean": report.val_mean,
        "learning_rate": report.learning_rate,
        "texts_per_second": report.items_per_second,
        "padding_share": report.padding_share,
        "seconds/training": report.seconds,
        "seconds/validation": report.validation_seconds,
    }


def _similarity_records(arm: TextArm, inputs: TextInputs) -> tuple[SimilarityRecord, ...]:
    """Return the similarities before training, and after it without and with the alignment matrices."""
    before, after = (similarities(inputs.network, inputs.train, aligned=aligned) for aligned in (False, True))
    is_aligned = arm.network.alignment != "none"
    return tuple(
        SimilarityRecord(
            tasks=(display_name(pair[0]), display_name(pair[1])),
            start=start,
            before=before[pair],
            after=after[pair] if is_aligned else None,
        )
        for pair, start in inputs.initial_similarities.items()
    )


def _group(unit: Unit, metrics: Mapping[str, tuple[str, ...]]) -> Group:
    """Return both sides' predictions for the tasks of the method's arms; each task has one arm on either side."""
    arrays = {
        seed: [{key: array for arm in side for key, array in arm.predictions.items()} for side in sides]
        for seed, sides in unit.items()
    }
    tests = {
        seed: {
            name: TaskTest(method[f"targets/{name}"], method[f"sentences/{name}"], metrics[name])
            for name in (key.removeprefix("test/") for key in method if key.startswith("test/"))
        }
        for seed, (method, _) in arrays.items()
    }
    method, baseline = (
        {seed: {name: sides[i][f"test/{name}"] for name in tests[seed]} for seed, sides in arrays.items()}
        for i in (0, 1)
    )
    return Group(tests, method, baseline)
