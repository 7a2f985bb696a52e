"""Metrics: scikit-learn's values to the last bit, and influences that are derivatives with respect to weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef, roc_auc_score

from models.errors import SettingError
from models.evaluation.intervals import jackknife_influence, placements
from models.evaluation.metrics import METRICS, Metric, average, find_metric, scores

SCIKIT = {"accuracy": accuracy_score, "f1": f1_score, "matthews": matthews_corrcoef}
unhurried = settings(deadline=None, max_examples=60)


def simulated(seed: int, n: int, classes: int = 2) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes, size=n)
    return targets, np.where(rng.random(n) < rng.random(), targets, rng.integers(classes, size=n))


@pytest.mark.filterwarnings("ignore:A single label|F-score is ill-defined")  # of the reference
@unhurried
@given(st.integers(0, 9999), st.sampled_from(sorted(METRICS)), st.integers(1, 2000), st.integers(2, 5))
def test_values_are_those_of_scikit_learn_to_the_last_bit(seed: int, name: str, n: int, classes: int) -> None:
    targets, predicted = simulated(seed, n, 2 if name == "f1" else classes)
    metric, reference = find_metric(name), SCIKIT[name](targets, predicted)
    assert metric.value(targets, predicted) == reference
    assert metric.influence(targets, predicted)[0] == pytest.approx(reference, abs=1e-14)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_order_of_the_rows_changes_no_bit_of_a_value(name: str) -> None:
    targets, predicted = simulated(0, 1043)
    values = set()
    for seed in range(20):
        rows = np.random.default_rng(seed).permutation(1043)
        values.add(METRICS[name].value(targets[rows], predicted[rows]))
    assert len(values) == 1


@unhurried
@given(st.integers(0, 9999), st.sampled_from(sorted(METRICS)))
def test_an_influence_is_what_a_little_more_weight_on_a_row_does(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    targets = np.resize([0, 1, 1], 30)
    predicted = np.where(rng.random(30) < 0.8, targets, 1 - targets)
    value, influence = METRICS[name].influence(targets, predicted)
    step = 1e-6
    for i in range(3):
        weights = np.full(30, (1 - step) / 30)
        weights[i] += step
        reweighted = SCIKIT[name](targets, predicted, sample_weight=weights)
        assert (reweighted - value) / step == pytest.approx(influence[i], abs=1e-4)
    assert influence.mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["f1", "matthews"])
def test_where_a_class_is_never_predicted_the_value_is_zero_without_a_warning(name: str, recwarn) -> None:
    none = np.zeros(4, int)
    for targets in (np.array([0, 0, 1, 0]), none):
        value, influence = METRICS[name].influence(targets, none)
        assert value == METRICS[name].value(targets, none) == 0
        assert np.isfinite(influence).all()
    assert not recwarn


def test_f1_is_class_1s_by_hand() -> None:
    targets, predicted = np.array([1, 1, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0])
    assert scores(["f1"], targets, np.eye(2)[predicted]) == {"f1": pytest.approx(2 / 3)}


def test_a_task_with_two_metrics_is_scored_by_their_mean() -> None:
    targets, probabilities = np.array([1, 1, 0, 0, 0]), np.eye(2)[[1, 0, 0, 0, 0]]
    assert average(["accuracy", "f1"], targets, probabilities) == pytest.approx((0.8 + 2 / 3) / 2)


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingError, match="unknown metric 'mathews'; did you mean 'matthews'"):
        scores(["mathews"], np.zeros(3, int), np.eye(2)[[0, 0, 0]])


def test_an_auc_is_a_metric_too() -> None:
    """Its influence by placements gives the variance of leaving rows out, up to its correction for few."""

    def influence(targets: NDArray, predicted: NDArray) -> tuple[float, NDArray]:
        positive, negative = targets == 1, targets == 0
        placed, moved = placements(predicted[positive], predicted[negative]), np.zeros(len(targets))
        moved[positive] = (placed.positive - placed.auc) / positive.mean()
        moved[negative] = (placed.negative - placed.auc) / negative.mean()
        return placed.auc, moved

    targets, _ = simulated(1, 2000)
    predicted = targets + np.random.default_rng(1).normal(size=2000)
    metric = Metric("auc", influence)
    value, moved = metric.influence(targets, predicted)
    assert metric.higher_is_better
    assert metric.value(targets, predicted) == value == pytest.approx(roc_auc_score(targets, predicted))
    placed = placements(predicted[targets == 1], predicted[targets == 0])
    rows = np.arange(2000)
    left_out = jackknife_influence(placed, rows[targets == 1], rows[targets == 0], 2000)
    assert ((moved / 2000) ** 2).sum() == pytest.approx((left_out**2).sum(), rel=4e-3)
