"""The official metrics are scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from models.errors import SettingError
from models.evaluation.metrics import average, scores


@pytest.mark.filterwarnings("ignore:A single label")  # of the reference
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(2, 4))
def test_they_equal_scikit_learns(seed, n, classes):
    rng = np.random.default_rng(seed)
    targets, probabilities = rng.integers(0, classes, n), rng.random((n, classes))
    predicted = probabilities.argmax(1)
    found = scores(["accuracy", "matthews"], targets, probabilities)
    assert found["accuracy"] == np.mean(targets == predicted)
    assert found["matthews"] == pytest.approx(sklearn_metrics.matthews_corrcoef(targets, predicted))


def test_f1_is_class_1s_by_hand():
    targets, predicted = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0])
    assert scores(["f1"], targets, np.eye(2)[predicted]) == {"f1": pytest.approx(2 / 3)}


def test_where_nothing_is_positive_f1_is_0_without_a_warning(recwarn):
    assert scores(["f1"], np.zeros(3, int), np.eye(2)[[0, 0, 0]]) == {"f1": 0.0}
    assert not recwarn


def test_a_task_with_two_metrics_is_scored_by_their_mean():
    targets, probabilities = np.array([1, 1, 0, 0, 0]), np.eye(2)[[1, 0, 0, 0, 0]]
    assert average(["accuracy", "f1"], targets, probabilities) == pytest.approx((0.8 + 2 / 3) / 2)


def test_an_unknown_metric_is_named():
    with pytest.raises(SettingError, match="unknown metric 'mathews'; did you mean 'matthews'"):
        scores(["mathews"], np.zeros(3, int), np.eye(2)[[0, 0, 0]])
