"""Two methods compared over groups of tasks: what is paired, what is shared, and what the interval is over."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.classification import TaskTest
from models.evaluation.paired import Comparison, compare_units
from models.evaluation.paired_classes import Group, class_differences

N = 300


def sentences_of(number: int) -> TaskTest:
    targets = np.random.default_rng(number).integers(2, size=N)
    return TaskTest(targets, number * N + np.arange(N), ("accuracy",))


def answers(task: TaskTest, seed: int, right: float) -> NDArray:
    """Probabilities (n, 2) that are right with this chance; the same sentences are hard for every seed."""
    rng = np.random.default_rng([17, seed])
    hard = np.random.default_rng(5).random(N)
    is_right = 0.7 * hard + 0.3 * rng.random(N) < right
    return np.eye(2)[np.where(is_right, task.targets, 1 - task.targets)]


def group(tasks: dict[str, TaskTest], better: float, seeds: int = 3) -> Group:
    return Group(
        dict.fromkeys(range(seeds), tasks),
        {seed: {name: answers(task, seed, 0.7 + better) for name, task in tasks.items()} for seed in range(seeds)},
        {seed: {name: answers(task, 100 + seed, 0.7) for name, task in tasks.items()} for seed in range(seeds)},
    )


def compare(groups: dict[str, Group], crossed: bool) -> Comparison:
    return compare_units(class_differences(groups), crossed=crossed, sampled="sentences")


A, B, C = sentences_of(1), sentences_of(2), sentences_of(3)


def test_differences_are_paired_by_seed_and_averaged_over_tasks_then_groups() -> None:
    both, one = group({"a": A, "b": B}, 0.1), group({"c": C}, 0.0)
    found = compare({"a and b": both, "c": one}, crossed=False)
    for seed in range(3):
        deltas = [
            np.mean(both.method[seed][name].argmax(1) == task.targets)
            - np.mean(both.baseline[seed][name].argmax(1) == task.targets)
            for name, task in both.tests[seed].items()
        ]
        assert found.by_unit["a and b"][seed] == pytest.approx(np.mean(deltas))
    assert found.delta == pytest.approx(np.mean([np.mean(list(by.values())) for by in found.by_unit.values()]))
    assert found.over == "seeds and sentences"
    assert found.by_unit["a and b"][0] > 0.05
    assert compare({"a and b": both}, crossed=False).p_value < 0.05


def test_few_seeds_speak_for_these_networks_only() -> None:
    found = compare({"a": group({"a": A}, 0.1, seeds=2)}, crossed=False)
    assert found.over == "sentences"
    assert found.limit == "2 seed(s) are too few for an interval over seeds; at least 3 are needed"


def test_over_sentences_the_error_of_a_single_pair_is_mcnemars() -> None:
    found = compare({"a": group({"a": A}, 0.1, seeds=1)}, crossed=False)
    one = group({"a": A}, 0.1, seeds=1)
    right = [predicted[0]["a"].argmax(1) == A.targets for predicted in (one.method, one.baseline)]
    apart = right[0].astype(int) - right[1].astype(int)
    error = apart.std(ddof=1) / np.sqrt(N)
    assert (found.hi - found.lo) / 2 == pytest.approx(1.97 * error, rel=0.02)


def test_groups_that_share_networks_count_a_seed_once() -> None:
    """The same group twice tells as much as once: crossed gives its interval, independent seeds a narrower one."""
    one = group({"a": A, "b": B}, 0.05)
    alone = compare({"x": one}, crossed=True)
    twice = compare({"x": one, "y": one}, crossed=True)
    assert (twice.lo, twice.hi) == pytest.approx((alone.lo, alone.hi))
    narrower = compare({"x": one, "y": one}, crossed=False)
    assert narrower.hi - narrower.lo < 0.9 * (twice.hi - twice.lo)


def test_a_seed_that_a_group_lacks_is_left_out_where_groups_share_networks() -> None:
    whole, part = group({"a": A}, 0.05, seeds=4), group({"b": B}, 0.05, seeds=3)
    found = compare({"x": whole, "y": part}, crossed=True)
    assert found.delta == pytest.approx(
        np.mean([found.by_unit[unit][seed] for unit in ("x", "y") for seed in range(3)])
    )
    apart = Group(whole.tests, {0: whole.method[0]}, {1: whole.baseline[1]})
    assert compare({"x": apart}, crossed=True).reason == "no seed in common"


def test_equal_predictions_differ_by_nothing() -> None:
    one = group({"a": A}, 0.0)
    same = compare({"a": Group(one.tests, one.method, one.method)}, crossed=False)
    assert (same.delta, same.lo, same.hi, same.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_folds_of_their_own_are_as_good_as_their_sentences_together() -> None:
    """Three seeds on three folds: the error over sentences is that of one model on all of them."""
    whole = group({"a": A}, 0.1, seeds=1)
    folds = [np.arange(N)[i::3] for i in range(3)]
    tests = {i: {"a": TaskTest(A.targets[rows], A.sentences[rows], ("accuracy",))} for i, rows in enumerate(folds)}
    method, baseline = (
        {i: {"a": predictions[0]["a"][rows]} for i, rows in enumerate(folds)}
        for predictions in (whole.method, whole.baseline)
    )
    found = compare({"a": Group(tests, method, baseline)}, crossed=False)
    assert found.delta == pytest.approx(compare({"a": whole}, crossed=False).delta)
    assert found.over == "seeds and sentences"


def test_a_group_without_a_finished_network_has_a_reason() -> None:
    assert class_differences({"a": Group({}, {}, {})}) == {"a": "no seed in common"}
    assert class_differences({"a": Group({}, {}, {}), "b": group({"b": B}, 0.1)})["a"] == "no seed in common"
