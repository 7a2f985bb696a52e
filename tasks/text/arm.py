"""Train a text arm, score it on the test parts of its tasks, and log both."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import mlflow
import numpy as np

from models.evaluation.auc import Evaluation, Score
from models.evaluation.classification import TaskTest, evaluate
from models.evaluation.metrics import scores as metric_values
from models.networks.alignment import covariance_similarity
from models.networks.text import embedding_covariance
from models.training.peak_memory import PeakMemory
from models.training.text_training import FittedText, TextEpochReport, fit_text, predict_text
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmRef, OnStep, ResumableEpochs, arm_task, log_results, train_all, train_once
from tasks.arms.runner import RunnerSettings
from tasks.data.texts import display_name
from tasks.records.study import ArmRecord, NoiseRecord, SimilarityRecord, scores_of
from tasks.runtime.atomic_files import write_state
from tasks.text.inputs import NETWORK, TextInputs, load_text_inputs
from tasks.text.spec import TextArm


@arm_task()
def train_text_arm(arm: TextArm, parent: str | None = None) -> ArmRef:
    """Train an arm, score it on the tasks' test parts and log all of it, or find it done.

    Raises:
        DataError, SettingError: the inputs are not usable.
        DivergenceError: a loss is not finite; the run is marked failed.
    """
    return train_once(arm, parent, _train)


def train_text_arms(
    arms: Sequence[TextArm], parent: str, runner: RunnerSettings
) -> tuple[dict[str, ArmRef], list[ArmRecord]]:
    """Train the arms, several at a time; returns those that finished by hash, and a record of each that diverged."""
    outcomes = train_all(train_text_arm, arms, parent, runner)
    finished = {arm.hash: outcome for arm, outcome in outcomes if isinstance(outcome, ArmRef)}
    return finished, [_failure(arm, outcome) for arm, outcome in outcomes if not isinstance(outcome, ArmRef)]


def _train(arm: TextArm, run_id: str, on_step: OnStep) -> ArmRecord:
    epochs = ResumableEpochs(arm, run_id)
    inputs = load_text_inputs(arm)
    for name, fingerprint in arm.tasks.items():
        mlflow_runs.log_dataset(display_name(name), inputs.folder, fingerprint, "task")
    metrics = {name: inputs.tasks[name].metrics for name in arm.tasks}
    at_start = _similarities(inputs, aligned=False)
    with epochs, PeakMemory(arm.device) as memory:
        fitted = fit_text(
            inputs.network, inputs.train, inputs.val, arm.training,
            metrics=metrics, seed=arm.seed, device=arm.device, state=epochs.state, progress=on_step,
            on_epoch=lambda report, state: epochs.keep(report.epoch, epoch_metrics(report), state),
        )  # fmt: skip
    probabilities = {name: predict_text(inputs.network, name, inputs.test[name]).numpy() for name in arm.tasks}
    tests = {
        name: TaskTest(each.test.labels, inputs.test_keys(name), each.metrics) for name, each in inputs.tasks.items()
    }
    scores, mean = scores_of(_named(evaluate(tests, probabilities)), "sentences")
    parts = {name: metric_values(metrics[name], tests[name].targets, probabilities[name]) for name in arm.tasks}
    record = ArmRecord(
        method=arm.method,
        noise=_condition(arm),
        seed=arm.seed,
        labels=tuple(display_name(name) for name in arm.tasks),
        metric=score_name(metrics),
        scores={
            display_name(name): scores[display_name(name)].model_copy(update={"parts": parts[name]})
            for name in arm.tasks
        },
        mean=mean,
        similarity=tuple(_similarity_records(arm, inputs, at_start)),
        facts=_facts(arm, inputs, fitted),
        best_epoch=fitted.best_epoch,
        images_per_second=float(np.median([report.texts_per_second for report in fitted.history])),
        seconds=epochs.seconds,
        peak_memory_mib=memory.mib if epochs.before < arm.epochs else None,
        mlflow_run_id=run_id,
        hash=arm.hash,
    )
    if arm.keep_network:
        write_state(inputs.network.checkpoint(), arm.folder / NETWORK)
        mlflow.log_artifact(str(arm.folder / NETWORK))
    log_results(arm, run_id, record, _arrays(probabilities, tests), _final(record, fitted), epochs.last_ms)
    return record


def score_name(metrics: Mapping[str, Sequence[str]]) -> str:
    """What the mean over tasks measures: the one metric that all of them have, or GLUE's mean of official metrics."""
    names = {tuple(of_task) for of_task in metrics.values()}
    return next(iter(names))[0] if len(names) == 1 and len(next(iter(names))) == 1 else "GLUE score"


def epoch_metrics(report: TextEpochReport) -> dict[str, float]:
    """What MLflow shows of an epoch; a slash makes a group of charts."""
    by_task = {
        "train_loss": report.losses, "alignment_loss": report.alignment_losses, "val_score": report.val_scores,
    }  # fmt: skip
    metrics = {
        f"{what}/{display_name(name)}": value for what, found in by_task.items() for name, value in found.items()
    }
    return metrics | {
        "val_score_mean": report.val_mean,
        "learning_rate": report.learning_rate,
        "texts_per_second": report.texts_per_second,
        "padding_share": report.padding_share,
        "seconds/training": report.seconds,
        "seconds/validation": report.validation_seconds,
    }


def _named(evaluation: Evaluation) -> Evaluation:
    """By the tasks' printed names."""
    labels = {display_name(name): score for name, score in evaluation.labels.items()}
    return Evaluation(labels, evaluation.mean, tuple(map(display_name, evaluation.scored)))


def named_as(arm: TextArm, record: ArmRecord) -> ArmRecord:
    """The record with the arm's method and condition."""
    return record.model_copy(update={"method": arm.method, "noise": _condition(arm)})


def _condition(arm: TextArm) -> NoiseRecord:
    return NoiseRecord(kind="none", name=arm.condition)


def _facts(arm: TextArm, inputs: TextInputs, fitted: FittedText) -> dict[str, float]:
    return {
        "validation": fitted.best_val_mean,
        "padding": float(np.mean([report.padding_share for report in fitted.history])),
        "width": float(inputs.network.width),
        "words": float(inputs.network.words.num_embeddings),
    }


def _similarities(inputs: TextInputs, *, aligned: bool) -> dict[tuple[str, str], float | None]:
    """The covariance similarity of the training embeddings of every two tasks, see `models.networks.alignment`."""
    pairs = list(combinations(inputs.train, 2))
    needed = inputs.train if pairs else ()
    found = {name: embedding_covariance(inputs.network, name, inputs.train[name], aligned=aligned) for name in needed}
    scores = {(one, other): covariance_similarity(found[one], found[other]) for one, other in pairs}
    return {pair: value if math.isfinite(value) else None for pair, value in scores.items()}


def _similarity_records(arm: TextArm, inputs: TextInputs, start: Mapping[Any, float | None]) -> list[SimilarityRecord]:
    before, after = (_similarities(inputs, aligned=aligned) for aligned in (False, True))
    is_aligned = arm.network.alignment != "none"
    return [
        SimilarityRecord(
            tasks=(display_name(pair[0]), display_name(pair[1])),
            start=start[pair],
            before=before[pair],
            after=after[pair] if is_aligned else None,
        )
        for pair in before
    ]


def _arrays(probabilities: Mapping[str, np.ndarray], tests: Mapping[str, TaskTest]) -> dict[str, np.ndarray]:
    """By task: what was predicted for its test part, (n, c), the true classes, the sentences' keys."""
    arrays = {}
    for name, test in tests.items():
        arrays[f"test/{display_name(name)}"] = probabilities[name]
        arrays[f"targets/{display_name(name)}"] = test.targets
        arrays[f"sentences/{display_name(name)}"] = test.sentences
    return arrays


def _final(record: ArmRecord, fitted: FittedText) -> dict[str, float | None]:
    scores = {f"test_score/{name}": found.value for name, found in record.scores.items()}
    parts = {f"test_{metric}/{name}": v for name, found in record.scores.items() for metric, v in found.parts.items()}
    similarity = {
        f"similarity_{when}/{' and '.join(found.tasks)}": getattr(found, when)
        for found in record.similarity
        for when in ("start", "before", "after")
    }
    return (
        {"test_score_mean": record.mean.value, "best_epoch": fitted.best_epoch, "best_val_mean": fitted.best_val_mean}
        | scores
        | parts
        | similarity
    )


def _failure(arm: TextArm, error: Exception) -> ArmRecord:
    scores, mean = scores_of(Evaluation({}, Score(None, None, None, str(error)), ()))
    return ArmRecord(
        method=arm.method, noise=_condition(arm), seed=arm.seed, labels=(), scores=scores, mean=mean,
        best_epoch=None, images_per_second=None, seconds=0.0, hash=arm.hash, status="failed", reason=str(error),
    )  # fmt: skip
