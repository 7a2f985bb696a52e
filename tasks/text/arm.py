"""Training, testing and MLflow logging of a text arm."""

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
from tasks.arms.base import ArmRef, OnStep, ResumableEpochs, arm_task, log_results, train_arms, train_or_reuse
from tasks.arms.runner import RunnerSettings
from tasks.data.texts import display_name
from tasks.records.study import ArmRecord, ConditionRecord, SimilarityRecord, score_records
from tasks.runtime.atomic_files import write_state
from tasks.text.inputs import NETWORK, TextInputs, load_text_inputs
from tasks.text.spec import TextArm


@arm_task()
def train_text_arm(arm: TextArm, parent: str | None = None) -> ArmRef:
    """Train an arm, score it on the test parts of its tasks and log the results; reuse it if it is already finished.

    Args:
        arm: the arm.
        parent: MLflow run of the study that the arm belongs to.

    Returns:
        Where the arm is in MLflow.

    Raises:
        DataError, SettingError: the inputs are not usable.
        DivergenceError: a loss is not finite; the run is marked failed.
    """
    return train_or_reuse(arm, parent, _train)


def train_text_arms(
    arms: Sequence[TextArm], parent: str, runner: RunnerSettings
) -> tuple[dict[str, ArmRef], list[ArmRecord]]:
    """Train the arms, several at a time.

    Args:
        arms: the arms.
        parent: MLflow run of the study.
        runner: number of arms that train at the same time.

    Returns:
        The finished arms by hash, and a record of each arm that diverged.

    Raises:
        DivergenceError: all arms diverged.
    """
    results = train_arms(train_text_arm, arms, parent, runner)
    finished = {arm.hash: result for arm, result in results if isinstance(result, ArmRef)}
    return finished, [_failed_record(arm, result) for arm, result in results if not isinstance(result, ArmRef)]


def _train(arm: TextArm, run_id: str, on_step: OnStep) -> ArmRecord:
    epochs = ResumableEpochs(arm, run_id)
    inputs = load_text_inputs(arm)
    for name, fingerprint in arm.tasks.items():
        mlflow_runs.log_dataset(display_name(name), inputs.folder, fingerprint, "task")
    metrics = {name: inputs.tasks[name].metrics for name in arm.tasks}
    initial_similarities = _similarities(inputs, aligned=False)
    with epochs, PeakMemory(arm.device) as memory:
        fitted = fit_text(
            inputs.network,
            inputs.train,
            inputs.val,
            arm.training,
            metrics=metrics,
            seed=arm.seed,
            device=arm.device,
            state=epochs.state,
            progress=on_step,
            on_epoch=lambda report, state: epochs.save(report.epoch, epoch_metrics(report), state),
        )
    probabilities = {name: predict_text(inputs.network, name, inputs.test[name]).numpy() for name in arm.tasks}
    tests = {
        name: TaskTest(task.test.labels, inputs.test_keys(name), task.metrics) for name, task in inputs.tasks.items()
    }
    scores, mean = score_records(_with_display_names(evaluate(tests, probabilities)), "sentences")
    parts = {name: metric_values(metrics[name], tests[name].targets, probabilities[name]) for name in arm.tasks}
    record = ArmRecord(
        method=arm.method,
        condition=_condition_record(arm),
        seed=arm.seed,
        labels=tuple(display_name(name) for name in arm.tasks),
        metric=mean_score_name(metrics),
        scores={
            display_name(name): scores[display_name(name)].model_copy(update={"parts": parts[name]})
            for name in arm.tasks
        },
        mean=mean,
        similarity=tuple(_similarity_records(arm, inputs, initial_similarities)),
        facts=_facts(arm, inputs, fitted),
        best_epoch=fitted.best_epoch,
        items_per_second=float(np.median([report.texts_per_second for report in fitted.history])),
        seconds=epochs.seconds,
        peak_memory_mib=memory.mib if epochs.resumed_epochs < arm.epochs else None,
        mlflow_run_id=run_id,
        hash=arm.hash,
    )
    if arm.keep_network:
        write_state(inputs.network.checkpoint(), arm.folder / NETWORK)
        mlflow.log_artifact(str(arm.folder / NETWORK))
    log_results(
        arm, run_id, record, _arrays(probabilities, tests), _final_metrics(record, fitted), epochs.last_timestamp_ms
    )
    return record


def mean_score_name(metrics: Mapping[str, Sequence[str]]) -> str:
    """Return the name of the score that is averaged over tasks.

    It is the metric if all tasks have the same single metric, else "GLUE score": the mean of a task's official metrics.
    """
    distinct = {tuple(of_task) for of_task in metrics.values()}
    first = next(iter(distinct))
    return first[0] if len(distinct) == 1 and len(first) == 1 else "GLUE score"


def epoch_metrics(report: TextEpochReport) -> dict[str, float]:
    """Return the metrics of an epoch that MLflow shows; it draws metrics with a common prefix and slash as a group."""
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
        "texts_per_second": report.texts_per_second,
        "padding_share": report.padding_share,
        "seconds/training": report.seconds,
        "seconds/validation": report.validation_seconds,
    }


def _with_display_names(evaluation: Evaluation) -> Evaluation:
    labels = {display_name(name): score for name, score in evaluation.labels.items()}
    return Evaluation(labels, evaluation.mean, tuple(map(display_name, evaluation.scored)))


def rename_record(record: ArmRecord, arm: TextArm) -> ArmRecord:
    """Return the record under the arm's method and condition: another study may have trained it under other names."""
    return record.model_copy(update={"method": arm.method, "noise": _condition_record(arm)})


def _condition_record(arm: TextArm) -> ConditionRecord:
    return ConditionRecord(name=arm.condition)


def _facts(arm: TextArm, inputs: TextInputs, fitted: FittedText) -> dict[str, float]:
    return {
        "validation": fitted.best_val_mean,
        "padding": float(np.mean([report.padding_share for report in fitted.history])),
        "width": float(inputs.network.width),
        "words": float(inputs.network.words.num_embeddings),
    }


def _similarities(inputs: TextInputs, *, aligned: bool) -> dict[tuple[str, str], float | None]:
    """Return the covariance similarity of the training embeddings of each pair of tasks; None if it is undefined.

    See `models.networks.alignment`.
    """
    pairs = list(combinations(inputs.train, 2))
    tasks = inputs.train if pairs else ()
    covariances = {
        name: embedding_covariance(inputs.network, name, inputs.train[name], aligned=aligned) for name in tasks
    }
    scores = {pair: covariance_similarity(covariances[pair[0]], covariances[pair[1]]) for pair in pairs}
    return {pair: value if math.isfinite(value) else None for pair, value in scores.items()}


def _similarity_records(
    arm: TextArm, inputs: TextInputs, initial: Mapping[Any, float | None]
) -> list[SimilarityRecord]:
    """Return the similarities before training (`initial`), and after it without and with the alignment matrices."""
    before, after = (_similarities(inputs, aligned=aligned) for aligned in (False, True))
    is_aligned = arm.network.alignment != "none"
    return [
        SimilarityRecord(
            tasks=(display_name(pair[0]), display_name(pair[1])),
            start=initial[pair],
            before=before[pair],
            after=after[pair] if is_aligned else None,
        )
        for pair in before
    ]


def _arrays(probabilities: Mapping[str, np.ndarray], tests: Mapping[str, TaskTest]) -> dict[str, np.ndarray]:
    """Return for each task the predicted probabilities of its test part, (n, c), true classes and sentence keys."""
    arrays = {}
    for name, test in tests.items():
        arrays[f"test/{display_name(name)}"] = probabilities[name]
        arrays[f"targets/{display_name(name)}"] = test.targets
        arrays[f"sentences/{display_name(name)}"] = test.sentences
    return arrays


def _final_metrics(record: ArmRecord, fitted: FittedText) -> dict[str, float | None]:
    scores = {f"test_score/{name}": score.value for name, score in record.scores.items()}
    parts = {
        f"test_{metric}/{name}": value for name, score in record.scores.items() for metric, value in score.parts.items()
    }
    similarity = {
        f"similarity_{when}/{' and '.join(pair.tasks)}": getattr(pair, when)
        for pair in record.similarity
        for when in ("start", "before", "after")
    }
    return (
        {"test_score_mean": record.mean.value, "best_epoch": fitted.best_epoch, "best_val_mean": fitted.best_val_mean}
        | scores
        | parts
        | similarity
    )


def _failed_record(arm: TextArm, error: Exception) -> ArmRecord:
    scores, mean = score_records(Evaluation({}, Score(None, None, None, str(error)), ()))
    return ArmRecord(
        method=arm.method,
        condition=_condition_record(arm),
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
