"""Operating points: for each label the probability from which on an image counts as positive.

The threshold maximises Youden's J = sensitivity + specificity - 1 (Youden, Index for rating diagnostic tests, Cancer
1950), which weighs both errors alike and does not depend on how frequent the finding is.

Shapes: n images, k labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_IMAGES = 10  # with the finding, and without it


@dataclass(frozen=True)
class OperatingPoint:
    """The threshold of a label, and what it gave on the images on which it was chosen.

    On those images both shares are too high: the threshold is the best for just them.

    Attributes:
        threshold: an image with at least this probability counts as positive.
        sensitivity: share of the images with the finding that count as positive.
        specificity: share of the images without it that do not.
        positives: number of images with the finding.
        negatives: number of images without it.
    """

    threshold: float
    sensitivity: float
    specificity: float
    positives: int
    negatives: int


def operating_points(
    targets: NDArray[np.int8], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> dict[str, OperatingPoint]:
    """Choose the operating point of each label that has at least `LEAST_IMAGES` images with and without the finding.

    Args:
        targets: (n, k); 1 present, 0 absent, -1 unknown, which is left out.
        probabilities: (n, k) in [0, 1], of images on which the network was not trained.
        labels: k names.

    Returns:
        By label. The threshold is one of its probabilities; of several best ones the highest.
    """
    points = {}
    for column, label in enumerate(labels):
        known = targets[:, column] >= 0
        present = targets[known, column] == 1
        positives, negatives = int(present.sum()), int((~present).sum())
        if min(positives, negatives) < LEAST_IMAGES:
            continue
        thresholds, place = np.unique(probabilities[known, column], return_inverse=True)
        with_finding, without = (
            np.bincount(place[group], minlength=len(thresholds))[::-1].cumsum() / group.sum()
            for group in (present, ~present)
        )  # shares at or above each threshold, from the highest threshold on
        best = int(np.argmax(with_finding - without))
        points[label] = OperatingPoint(
            threshold=float(thresholds[::-1][best]),
            sensitivity=float(with_finding[best]),
            specificity=float(1 - without[best]),
            positives=positives,
            negatives=negatives,
        )
    return points
