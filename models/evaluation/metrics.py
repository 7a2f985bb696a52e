"""Metrics: the value of predictions, the influence of each test row on it, and which direction is better.

The influence of a row is the derivative of the value with respect to the weight of that row (the infinitesimal
jackknife; Efron, The Jackknife, the Bootstrap and Other Resampling Plans, 1982, chapter 6). The variance of the value
over the sampling of the rows is the sum of (influence / n)^2. Differences between models, means over tasks and means
over seeds are linear: their influences are the differences and means of the influences.

Shapes: n test rows, c classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import unknown_name


@dataclass(frozen=True)
class Metric:
    """A score of predictions.

    Attributes:
        name: of the metric.
        influence: (n, ...) targets and (n, ...) predictions -> the value, and (n,) influences, whose mean is 0.
        higher_is_better: whether a higher value is better.
        from_counts: the same value up to rounding, but from whole numbers, so that predictions with the same counts
            have the same value to the last bit: of two equal epochs the first is selected. None: as `influence`.
    """

    name: str
    influence: Callable[[NDArray, NDArray], tuple[float, NDArray[np.float64]]]
    higher_is_better: bool = True
    from_counts: Callable[[NDArray, NDArray], float] | None = None

    def value(self, targets: NDArray, predicted: NDArray) -> float:
        """Compute the value alone."""
        return self.from_counts(targets, predicted) if self.from_counts else self.influence(targets, predicted)[0]


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


def _f1_from_counts(targets: NDArray, predicted: NDArray) -> float:
    y, p = targets == 1, predicted == 1
    return float(2 * (y & p).sum() / max(1, y.sum() + p.sum()))


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


def _matthews_from_counts(targets: NDArray, predicted: NDArray) -> float:
    n, classes = len(targets), 1 + max(targets.max(), predicted.max())
    y, p = (np.bincount(values, minlength=classes).astype(np.float64) for values in (targets, predicted))
    variances = (n**2 - p @ p) * (n**2 - y @ y)
    return float((n * (targets == predicted).sum() - y @ p) / np.sqrt(variances)) if variances else 0.0


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", _accuracy),  # in [0, 1]
        Metric("f1", _f1, from_counts=_f1_from_counts),  # in [0, 1]; 0 if class 1 is neither true nor predicted
        Metric("matthews", _matthews, from_counts=_matthews_from_counts),  # in [-1, 1]
    )
}
"""The metrics of class numbers."""


def find_metric(name: str) -> Metric:
    """Return the metric in METRICS; raise SettingError if there is none."""
    if name not in METRICS:
        raise unknown_name("metric", name, METRICS)
    return METRICS[name]


def scores(metrics: Sequence[str], targets: NDArray, probabilities: NDArray) -> dict[str, float]:
    """Compute the metrics of a task.

    Args:
        metrics: names in METRICS.
        targets: (n,) class numbers.
        probabilities: (n, c), or other numbers of which the largest gives the predicted class.

    Returns:
        Value of each metric by its name.

    Raises:
        SettingError: a metric is not known.
    """
    return {name: find_metric(name).value(targets, probabilities.argmax(axis=1)) for name in metrics}


def average(metrics: Sequence[str], targets: NDArray, probabilities: NDArray) -> float:
    """Compute the score of a task: the mean of its metrics, as in GLUE (MRPC: accuracy and F1)."""
    return float(np.mean(list(scores(metrics, targets, probabilities).values())))
