"""The official metrics of text classification, by scikit-learn, behind one table of names.

Shapes: n texts, c classes.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from models.errors import unknown_name

Metric = Callable[[NDArray, NDArray], float]
"""(n,) true and (n,) predicted class numbers -> the metric."""


def _f1(targets: NDArray, predicted: NDArray) -> float:
    """Of class 1 against class 0, in [0, 1]; 0 where nothing is true or predicted."""
    return float(f1_score(targets, predicted, zero_division=0.0))


def _matthews(targets: NDArray, predicted: NDArray) -> float:
    """Matthews' correlation coefficient, in [-1, 1]; 0 where either side has one class."""
    if len(np.unique(targets)) < 2 or len(np.unique(predicted)) < 2:
        return 0.0  # as scikit-learn answers, which warns as well
    return float(matthews_corrcoef(targets, predicted))


METRICS: Mapping[str, Metric] = {
    "accuracy": lambda targets, predicted: float(accuracy_score(targets, predicted)),  # in [0, 1]
    "f1": _f1,
    "matthews": _matthews,
}


def scores(metrics: Sequence[str], targets: NDArray, probabilities: NDArray) -> dict[str, float]:
    """Each metric of a task.

    Args:
        metrics: names in METRICS.
        targets: (n,) class numbers.
        probabilities: (n, c), or any numbers whose largest is the predicted class.

    Raises:
        SettingError: a metric is not known.
    """
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    predicted = np.asarray(probabilities).argmax(1)
    return {name: METRICS[name](np.asarray(targets), predicted) for name in metrics}


def average(metrics: Sequence[str], targets: NDArray, probabilities: NDArray) -> float:
    """A task's one number: the mean of its metrics, as GLUE does it (MRPC: accuracy and F1)."""
    return float(np.mean(list(scores(metrics, targets, probabilities).values())))
