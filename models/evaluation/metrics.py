"""Official metrics of text classification (accuracy, F1, Matthews' correlation), by scikit-learn.

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
    """Compute F1 of class 1, in [0, 1]; 0 if no text is of class 1 and none is predicted to be."""
    return float(f1_score(targets, predicted, zero_division=0.0))


def _matthews(targets: NDArray, predicted: NDArray) -> float:
    """Compute Matthews' correlation, in [-1, 1]; 0 if the targets or the predictions have only one class."""
    if len(np.unique(targets)) < 2 or len(np.unique(predicted)) < 2:
        return 0.0  # scikit-learn returns this too, but with a warning
    return float(matthews_corrcoef(targets, predicted))


METRICS: Mapping[str, Metric] = {
    "accuracy": lambda targets, predicted: float(accuracy_score(targets, predicted)),  # in [0, 1]
    "f1": _f1,
    "matthews": _matthews,
}


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
    for name in metrics:
        if name not in METRICS:
            raise unknown_name("metric", name, METRICS)
    predicted = np.asarray(probabilities).argmax(1)
    return {name: METRICS[name](np.asarray(targets), predicted) for name in metrics}


def average(metrics: Sequence[str], targets: NDArray, probabilities: NDArray) -> float:
    """Compute the score of a task: the mean of its metrics, as in GLUE (MRPC: accuracy and F1)."""
    return float(np.mean(list(scores(metrics, targets, probabilities).values())))
