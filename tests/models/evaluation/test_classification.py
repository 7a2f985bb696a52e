"""Metrics of classes: scikit-learn's values, and influences that give the variance of resampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from models.errors import SettingError
from models.evaluation.classification import INFLUENCES, TaskTest, evaluate, metric_influence, task_score

SCIKIT = {"accuracy": accuracy_score, "f1": f1_score, "matthews": matthews_corrcoef}
unhurried = settings(deadline=None, max_examples=40)


def simulated(seed: int, n: int = 200, classes: int = 2, right: float = 0.8) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(classes, size=n)
    return targets, np.where(rng.random(n) < right, targets, rng.integers(classes, size=n))


def certain(predicted: NDArray, classes: int = 2) -> NDArray:
    """Probabilities of 1 for the predicted classes."""
    return np.eye(classes)[predicted]


@unhurried
@given(st.integers(0, 9999), st.sampled_from(sorted(INFLUENCES)), st.integers(2, 5))
def test_values_are_those_of_scikit_learn(seed: int, metric: str, classes: int) -> None:
    targets, predicted = simulated(seed, classes=2 if metric == "f1" else classes)
    assert metric_influence(metric, targets, predicted)[0] == pytest.approx(SCIKIT[metric](targets, predicted))


@unhurried
@given(st.integers(0, 9999), st.sampled_from(sorted(INFLUENCES)))
def test_an_influence_is_what_a_little_more_weight_on_a_sentence_does(seed: int, metric: str) -> None:
    targets, predicted = simulated(seed, n=30)
    value, influence = metric_influence(metric, targets, predicted)
    step = 1e-6
    for i in range(3):
        weights = np.full(30, (1 - step) / 30)
        weights[i] += step
        reweighted = SCIKIT[metric](targets, predicted, sample_weight=weights)
        assert (reweighted - value) / step == pytest.approx(influence[i], abs=1e-4)
    assert influence.mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_where_a_class_is_never_predicted_the_value_is_zero_as_in_scikit_learn(metric: str) -> None:
    value, influence = metric_influence(metric, np.array([0, 0, 1, 0]), np.zeros(4, int))
    assert value == 0
    assert np.isfinite(influence).all()
    assert metric_influence(metric, np.zeros(4, int), np.zeros(4, int))[0] == 0


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingError, match="did you mean 'matthews'"):
        metric_influence("mathews", np.zeros(2, int), np.zeros(2, int))


@pytest.mark.parametrize("metrics", [("accuracy",), ("accuracy", "f1"), ("matthews",)])
def test_intervals_are_as_wide_as_those_of_resampled_sentences(metrics: tuple[str, ...]) -> None:
    targets, predicted = simulated(1, n=800)
    found = evaluate({"task": TaskTest(targets, np.arange(800), metrics)}, {"task": certain(predicted)}).mean
    rng = np.random.default_rng(0)
    drawn = rng.integers(800, size=(1500, 800))
    values = [np.mean([SCIKIT[metric](targets[rows], predicted[rows]) for metric in metrics]) for rows in drawn]
    assert (found.hi - found.lo) / 2 == pytest.approx(1.96 * np.std(values), rel=0.08)
    assert found.lo < found.value < found.hi


def test_a_repeated_sentence_tells_nothing_new() -> None:
    targets, predicted = simulated(2, n=100)
    once = evaluate({"a": TaskTest(targets, np.arange(100), ("accuracy",))}, {"a": certain(predicted)}).mean
    rows = np.tile(np.arange(100), 4)
    repeated = TaskTest(targets[rows], rows, ("accuracy",))
    four = evaluate({"a": repeated}, {"a": certain(predicted[rows])}).mean
    assert four.value == pytest.approx(once.value)
    assert four.hi - four.lo == pytest.approx(once.hi - once.lo, rel=0.02)


def test_the_mean_over_tasks_knows_that_they_share_sentences() -> None:
    targets, predicted = simulated(3, n=400)
    shared = {name: TaskTest(targets, np.arange(400), ("accuracy",)) for name in ("a", "b")}
    apart = {**shared, "b": TaskTest(targets, np.arange(400, 800), ("accuracy",))}
    answers = {"a": certain(predicted), "b": certain(predicted)}
    same, own = (evaluate(tested, answers).mean for tested in (shared, apart))
    assert same.hi - same.lo == pytest.approx(np.sqrt(2) * (own.hi - own.lo), rel=0.03)


def test_a_perfect_score_has_no_interval_and_says_why() -> None:
    targets, _ = simulated(4)
    found = evaluate({"a": TaskTest(targets, np.arange(200), ("accuracy",))}, {"a": certain(targets)}).labels["a"]
    assert (found.value, found.lo) == (1.0, None)
    assert found.reason is not None


def test_predictions_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one row for each of 3 sentences; got shape \(4, 2\)"):
        task_score(TaskTest(np.zeros(3, int), np.arange(3), ("accuracy",)), np.zeros((4, 2)))
