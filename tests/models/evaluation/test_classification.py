"""Scores of text tasks: intervals as wide as those of resampled sentences, which tasks may share."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from models.evaluation.classification import TaskTest, evaluate, task_score

SCIKIT = {"accuracy": accuracy_score, "f1": f1_score, "matthews": matthews_corrcoef}


def simulated(seed: int, n: int = 200) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=n)
    return targets, np.where(rng.random(n) < 0.8, targets, rng.integers(2, size=n))


def certain(predicted: NDArray) -> NDArray:
    """Probabilities of 1 for the predicted classes."""
    return np.eye(2)[predicted]


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
