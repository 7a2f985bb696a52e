"""Classification metrics of texts with intervals over the test sentences: accuracy, F1 and Matthews' correlation.

Each metric M is a function of means over the sentences. The influence of a sentence is the derivative of M with respect
to the weight of that sentence (the infinitesimal jackknife; Efron, The Jackknife, the Bootstrap and Other Resampling
Plans, 1982, chapter 6). The sum of (influence / n)^2 over the sentences is the variance of M over their
sampling. Differences between models, means over tasks and means over seeds are linear: their influences are the
differences and means of the influences. `models.evaluation.metrics` computes the values only, by scikit-learn.

Shapes: n test sentences, c classes, t tasks, p distinct sentences.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import unknown_name
from models.evaluation.auc import Evaluation, Score
from models.evaluation.intervals import logit_interval


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


# --- One metric ---


def _accuracy(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
    correct = (targets == predicted).astype(np.float64)
    return float(correct.mean()), correct - correct.mean()


def _f1(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
    """Compute F1 of class 1: 2 E[yp] / (E[y] + E[p]), with indicators y of the true and p of the predicted class 1."""
    y, p = (targets == 1).astype(np.float64), (predicted == 1).astype(np.float64)
    denominator = y.mean() + p.mean()
    if not denominator:
        return 0.0, np.zeros(len(y))
    value = 2 * (y * p).mean() / denominator
    return float(value), (2 * (y * p) - value * (y + p)) / denominator


def _matthews(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
    """Compute the correlation of the class indicators for any number of classes.

    c(Y, P) / sqrt(c(Y, Y) c(P, P)), where c is the covariance summed over the classes; 0 if the targets or the
    predictions are all equal (Gorodkin, Computational Biology and Chemistry 2004).
    """
    classes = np.union1d(targets, predicted)
    y, p = (values[:, None] == classes for values in (targets, predicted))
    y, p = y - y.mean(axis=0), p - p.mean(axis=0)
    products = np.stack([(y * p).sum(axis=1), (y * y).sum(axis=1), (p * p).sum(axis=1)])
    covariance, y_variance, p_variance = products.mean(axis=1)
    if not y_variance or not p_variance:
        return 0.0, np.zeros(len(targets))
    scale = np.sqrt(y_variance * p_variance)
    value = covariance / scale
    return float(value), products[0] / scale - value / 2 * (products[1] / y_variance + products[2] / p_variance)


INFLUENCES: Mapping[str, Callable[[NDArray, NDArray], tuple[float, NDArray]]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
}


def metric_influence(metric: str, targets: NDArray, predicted: NDArray) -> tuple[float, NDArray[np.float64]]:
    """Compute a metric and its influence function.

    Args:
        metric: name of the metric.
        targets: (n,) int, true classes.
        predicted: (n,) int, predicted classes.

    Returns:
        The value, in [0, 1] or for matthews in [-1, 1], and (n,) influences, whose mean is 0.

    Raises:
        SettingError: there is no such metric.
    """
    if metric not in INFLUENCES:
        raise unknown_name("metric", metric, INFLUENCES)
    return INFLUENCES[metric](targets, predicted)


# --- One task, one model ---


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
    results = [metric_influence(metric, test.targets, predicted) for metric in test.metrics]
    values, influences = zip(*results, strict=True)
    return float(np.mean(values)), np.mean(influences, axis=0) / len(predicted)


def sum_by_sentence(influence: NDArray, numbers: NDArray[np.int64], distinct: int) -> NDArray[np.float64]:
    """Sum the influence of a task's test rows by sentence, scaled so that the variance is unbiased.

    Args:
        influence: (n,), as from `task_score`.
        numbers: (n,) sentence numbers of the rows, 0..p-1.
        distinct: number p of distinct sentences of all tasks.

    Returns:
        (p,); 0 for a sentence that the task does not have.
    """
    n = len(np.unique(numbers))
    return np.bincount(numbers, influence, minlength=distinct) * np.sqrt(n / max(1, n - 1))


def number_sentences(tests: list[TaskTest]) -> tuple[list[NDArray[np.int64]], int]:
    """Assign numbers to the distinct sentences of all tasks.

    Args:
        tests: of the tasks.

    Returns:
        For each task (n,) numbers 0..p-1 of its sentences, the same number for the same sentence in all tasks; and p.
    """
    distinct, numbers = np.unique(np.concatenate([test.sentences for test in tests]), return_inverse=True)
    return np.split(numbers, np.cumsum([len(test.sentences) for test in tests])[:-1]), len(distinct)


def evaluate(tests: Mapping[str, TaskTest], probabilities: Mapping[str, NDArray]) -> Evaluation:
    """Compute the score of each task and their mean, each with a 95 % interval over the test sentences.

    Intervals are on the logit scale, of [-1, 1] if Matthews' correlation is among the metrics
    (`models.evaluation.intervals.logit_interval`).

    Args:
        tests: task -> test set.
        probabilities: task -> (n, c).

    Returns:
        The scores of the tasks and their mean.

    Raises:
        ValueError: the shapes differ, or a number is not finite.
    """
    numbers, distinct = number_sentences([tests[task] for task in probabilities])
    scores, influence = {}, []
    for (task, task_probabilities), task_numbers in zip(probabilities.items(), numbers, strict=True):
        value, row_influence = task_score(tests[task], task_probabilities)
        influence.append(sum_by_sentence(row_influence, task_numbers, distinct))
        scores[task] = _score(value, influence[-1], len(task_numbers), "matthews" in tests[task].metrics)
    signed = any("matthews" in tests[task].metrics for task in probabilities)
    mean = float(np.mean([score.value for score in scores.values()]))
    fewest = min(len(task_numbers) for task_numbers in numbers)
    return Evaluation(scores, _score(mean, np.mean(influence, axis=0), fewest, signed), tuple(scores))


_NO_VARIANCE = "no interval: the score does not vary with the choice of the test sentences"


def _score(value: float, influence: NDArray, n: int, signed: bool) -> Score:
    low, width = (-1.0, 2.0) if signed else (0.0, 1.0)
    interval = logit_interval((value - low) / width, float(influence @ influence) / width**2, degrees=max(1, n - 1))
    if interval is None:
        return Score(value, None, None, _NO_VARIANCE)
    return Score(value, low + width * interval[0], low + width * interval[1])
