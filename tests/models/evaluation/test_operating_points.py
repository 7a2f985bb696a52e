"""Operating points: no other threshold separates the given images better, and rare labels have none."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.evaluation.operating_points import LEAST_IMAGES, operating_points

LABELS = ("Mass", "Nodule")


def youden(targets: np.ndarray, probabilities: np.ndarray, threshold: float) -> float:
    positive = probabilities >= threshold
    return float(positive[targets == 1].mean() - positive[targets == 0].mean())


@given(
    arrays(np.int8, (60, 2), elements=st.sampled_from([-1, 0, 1])),
    arrays(np.float32, (60, 2), elements=st.floats(0, 1, width=32)),
)
def test_no_threshold_separates_better_and_the_shares_are_those_of_the_threshold(
    targets: np.ndarray, probabilities: np.ndarray
) -> None:
    points = operating_points(targets, probabilities, LABELS)
    for column, label in enumerate(LABELS):
        of_label, values = targets[:, column], probabilities[:, column]
        counts = [int((of_label == value).sum()) for value in (1, 0)]
        assert (label in points) == (min(counts) >= LEAST_IMAGES)
        if label not in points:
            continue
        point = points[label]
        assert [point.positives, point.negatives] == counts
        best = max(youden(of_label, values, threshold) for threshold in np.unique(values))
        assert np.isclose(point.sensitivity + point.specificity - 1, best)
        positive = values >= point.threshold
        assert np.isclose(point.sensitivity, positive[of_label == 1].mean())
        assert np.isclose(point.specificity, 1 - positive[of_label == 0].mean())


def test_a_perfect_network_has_a_threshold_between_its_two_groups() -> None:
    targets = np.repeat([0, 1], 10).astype(np.int8)[:, None]
    probabilities = np.linspace(0, 1, 20, dtype=np.float32)[:, None]
    point = operating_points(targets, probabilities, ("Mass",))["Mass"]
    assert (point.sensitivity, point.specificity) == (1, 1)
    assert point.threshold == probabilities[10, 0]
