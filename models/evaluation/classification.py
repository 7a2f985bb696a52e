"""How well predicted classes agree with the true ones, and how sure that is: accuracy, F1 and Matthews' correlation.

n test sentences, c classes, t tasks, p distinct sentences.

Each metric M is a function of means over the sentences, so a sentence moves it by its influence, the derivative of M
in the direction of that sentence (the infinitesimal jackknife; Efron, The Jackknife, the Bootstrap and Other
Resampling Plans, 1982, chapter 6). The sum of squared influences is the variance of M over the choice of the
sentences; of a difference of two models' M, of a mean over tasks and of a mean over seeds it is that of the differences
and means of the influences, because all of them are linear. `models.evaluation.metrics` gives the values by scikit-learn alone.
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
    """The test part of a task.

    targets: (n,) int, classes 0..c-1. sentences: (n,) keys; equal keys are the same sentence, also in another task.
    metrics: names of `models.evaluation.metrics`; the task's score is their mean.
    """

    targets: NDArray
    sentences: NDArray
    metrics: tuple[str, ...]


# --- One metric ---


def _accuracy(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
    right = (targets == predicted).astype(np.float64)
    return float(right.mean()), right - right.mean()


def _f1(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
    """Of class 1: 2 E[yp] / (E[y] + E[p]), with y and p whether a sentence is of that class and taken for it."""
    y, p = (targets == 1).astype(np.float64), (predicted == 1).astype(np.float64)
    of_either = y.mean() + p.mean()
    if not of_either:
        return 0.0, np.zeros(len(y))
    value = 2 * (y * p).mean() / of_either
    return float(value), (2 * (y * p) - value * (y + p)) / of_either


def _matthews(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
    """Correlation of the classes' indicators (Gorodkin, Computational Biology and Chemistry 2004), any number of them:
    c(Y, P) / sqrt(c(Y, Y) c(P, P)), c the covariances summed over the classes. 0 where one of both never varies.
    """
    classes = np.union1d(targets, predicted)
    y, p = (of[:, None] == classes for of in (targets, predicted))
    y, p = y - y.mean(axis=0), p - p.mean(axis=0)
    products = np.stack([(y * p).sum(axis=1), (y * y).sum(axis=1), (p * p).sum(axis=1)])
    together, of_targets, of_predicted = products.mean(axis=1)
    if not of_targets or not of_predicted:
        return 0.0, np.zeros(len(targets))
    scale = np.sqrt(of_targets * of_predicted)
    value = together / scale
    return float(value), products[0] / scale - value / 2 * (products[1] / of_targets + products[2] / of_predicted)


INFLUENCES: Mapping[str, Callable[[NDArray, NDArray], tuple[float, NDArray]]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
}


def metric_influence(metric: str, targets: NDArray, predicted: NDArray) -> tuple[float, NDArray[np.float64]]:
    """A metric and its influence function.

    targets, predicted: (n,) int classes. Returns the value, in [0, 1] or for matthews in [-1, 1], and (n,) influences,
    whose mean is 0.

    Raises:
        SettingError: there is no such metric.
    """
    if metric not in INFLUENCES:
        raise unknown_name("metric", metric, INFLUENCES)
    return INFLUENCES[metric](targets, predicted)


# --- One task, one model ---


def task_score(tested: TaskTest, probabilities: NDArray) -> tuple[float, NDArray[np.float64]]:
    """A task's score, the mean of its metrics, and how much each sentence moved it.

    probabilities: (n, c). Returns the value and (n,) shares of it, of which the sum of squares over independent
    sentences is the variance (less by 1 / n than unbiased).

    Raises:
        ValueError: the shapes differ, or a number is not finite.
    """
    if probabilities.shape[:1] != tested.targets.shape or not np.isfinite(probabilities).all():
        raise ValueError(f"{len(tested.targets)} sentences need as many rows of finite numbers: {probabilities.shape}")
    predicted = probabilities.argmax(axis=1)
    parts = [metric_influence(metric, tested.targets, predicted) for metric in tested.metrics]
    values, influences = zip(*parts, strict=True)
    return float(np.mean(values)), np.mean(influences, axis=0) / len(predicted)


def sum_by_sentence(influence: NDArray, numbers: NDArray[np.int64], distinct: int) -> NDArray[np.float64]:
    """Shares of the rows summed by sentence, scaled to an unbiased variance.

    moved: (n,); numbers: (n,), each row's sentence, 0..p-1. Returns (p,).
    """
    own = len(np.unique(numbers))
    return np.bincount(numbers, influence, minlength=distinct) * np.sqrt(own / max(1, own - 1))


def number_sentences(tested: list[TaskTest]) -> tuple[list[NDArray[np.int64]], int]:
    """For each task (n,) numbers 0..p-1 of its sentences, the same sentence the same in all of them; and p."""
    distinct, numbers = np.unique(np.concatenate([each.sentences for each in tested]), return_inverse=True)
    return np.split(numbers, np.cumsum([len(each.sentences) for each in tested])[:-1]), len(distinct)


def evaluate(tested: Mapping[str, TaskTest], probabilities: Mapping[str, NDArray]) -> Evaluation:
    """The score of each task and their mean, each with a 95 % interval over the test sentences.

    probabilities: task -> (n, c). Intervals are on the logit scale, that of [-1, 1] where Matthews' correlation is
    among the metrics (`models.evaluation.intervals.logit_interval`).
    """
    numbers, distinct = number_sentences([tested[task] for task in probabilities])
    scores, influence = {}, []
    for (task, of_task), of_rows in zip(probabilities.items(), numbers, strict=True):
        value, shares = task_score(tested[task], of_task)
        influence.append(sum_by_sentence(shares, of_rows, distinct))
        scores[task] = _score(value, influence[-1], len(of_rows), "matthews" in tested[task].metrics)
    signed = any("matthews" in tested[task].metrics for task in probabilities)
    mean = float(np.mean([each.value for each in scores.values()]))
    fewest = min(len(of_rows) for of_rows in numbers)
    return Evaluation(scores, _score(mean, np.mean(influence, axis=0), fewest, signed), tuple(scores))


_NO_SPREAD = "no interval: the sentences do not differ in what they say of it"


def _score(value: float, influence: NDArray, n: int, signed: bool) -> Score:
    low, width = (-1.0, 2.0) if signed else (0.0, 1.0)
    interval = logit_interval((value - low) / width, float(influence @ influence) / width**2, degrees=max(1, n - 1))
    if interval is None:
        return Score(value, None, None, _NO_SPREAD)
    return Score(value, low + width * interval[0], low + width * interval[1])
