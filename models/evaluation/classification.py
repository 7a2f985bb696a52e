"""Scores of text tasks by `models.evaluation.metrics`, with intervals over the test sentences.

Shapes: n test sentences, c classes, t tasks, p distinct sentences.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.auc import Evaluation, Score
from models.evaluation.intervals import logit_interval
from models.evaluation.metrics import find_metric


@dataclass(frozen=True)
class TaskTest:
    """The test set of a task.

    Attributes:
        targets: (n,) int, classes 0..c-1.
        sentences: (n,) keys; equal keys mean the same sentence, also in different tasks.
        metrics: names in `models.evaluation.metrics.METRICS`; the task's score is their mean.
    """

    targets: NDArray
    sentences: NDArray
    metrics: tuple[str, ...]


def task_score(test: TaskTest, probabilities: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Compute a task's score, the mean of its metrics, and the influence of each sentence on it.

    Args:
        test: of the task.
        probabilities: (n, c).

    Returns:
        The score, and (n,) influences divided by n: for independent sentences their sum of squares is the variance
        (smaller than the unbiased estimate by the factor 1 - 1 / n).

    Raises:
        ValueError: the shapes differ, or a number is not finite.
    """
    if probabilities.shape[:1] != test.targets.shape or not np.isfinite(probabilities).all():
        raise ValueError(
            f"probabilities must be finite, one row for each of {len(test.targets)} sentences; got shape "
            f"{probabilities.shape}. Did the training diverge?"
        )
    predicted = probabilities.argmax(axis=1)
    results = [find_metric(name).influence(test.targets, predicted) for name in test.metrics]
    values, influences = zip(*results, strict=True)
    return float(np.mean(values)), np.mean(influences, axis=0) / len(predicted)


def sum_by_sentence(influence: NDArray, sentences: NDArray, distinct: NDArray) -> NDArray[np.float64]:
    """Sum the influence of a task's test rows by sentence, scaled so that the variance is unbiased.

    Args:
        influence: (n,), as from `task_score`.
        sentences: (n,) keys of the rows.
        distinct: (p,), as from `distinct_sentences`.

    Returns:
        (p,); 0 for a sentence that the task does not have.
    """
    numbers = np.searchsorted(distinct, sentences)
    n = len(np.unique(numbers))
    return np.bincount(numbers, influence, minlength=len(distinct)) * np.sqrt(n / max(1, n - 1))


def distinct_sentences(tests: Iterable[TaskTest]) -> NDArray:
    """Return the sorted keys (p,) of the sentences of all tasks."""
    keys = [test.sentences for test in tests]
    return np.unique(np.concatenate(keys)) if keys else np.empty(0)


def evaluate(tests: Mapping[str, TaskTest], probabilities: Mapping[str, NDArray]) -> Evaluation:
    """Compute the score of each task and their mean, each with a 95 % interval over the test sentences.

    Intervals are on the logit scale, of [-1, 1] if Matthews' correlation is among the metrics
    (`models.evaluation.intervals.logit_interval`).

    Args:
        tests: task -> test set.
        probabilities: task -> (n, c).

    Raises:
        ValueError: the shapes differ, or a number is not finite.
    """
    distinct = distinct_sentences(tests[task] for task in probabilities)
    scores, influence = {}, []
    for task, task_probabilities in probabilities.items():
        value, row_influence = task_score(tests[task], task_probabilities)
        influence.append(sum_by_sentence(row_influence, tests[task].sentences, distinct))
        scores[task] = _score(value, influence[-1], [tests[task]])
    mean = float(np.mean([score.value for score in scores.values()]))
    return Evaluation(scores, _score(mean, np.mean(influence, axis=0), [tests[task] for task in scores]), tuple(scores))


_NO_VARIANCE = "no interval: the score does not vary with the choice of the test sentences"


def _score(value: float, influence: NDArray, tests: list[TaskTest]) -> Score:
    low, width = (-1.0, 2.0) if any("matthews" in test.metrics for test in tests) else (0.0, 1.0)
    degrees = max(1, min(len(test.targets) for test in tests) - 1)
    interval = logit_interval((value - low) / width, float(influence @ influence) / width**2, degrees)
    if interval is None:
        return Score(value, None, None, _NO_VARIANCE)
    return Score(value, low + width * interval[0], low + width * interval[1])
