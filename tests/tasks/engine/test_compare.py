"""Comparisons of a plan: seeds that finished on both sides, and an adjustment for each family."""

from typing import Any

import numpy as np
import pytest

from models.evaluation.auc import Score, holm
from models.evaluation.paired import Differences, compare_units
from tasks.engine.compare import _comparisons
from tasks.engine.kind import Finished, Kind, Report
from tasks.engine.plan import Contrast, Subtracted
from tasks.records.arms import ArmRecord, Condition, ConditionRecord
from tasks.records.scores import MeanRecord


class Scores(Kind[Any, Any, Any]):
    sampled, metric, report = "rows", "gain", Report(lambda results: "?")

    def prepare(self, arm): ...

    def fit(self, arm, inputs, state, save, on_step): ...

    def score(self, arm, inputs, fitted): ...

    def data(self): ...


def finished(mean: float, seed: int) -> Finished:
    influence = np.random.default_rng([seed, round(1000 * mean)]).normal(size=200) / 200
    record = ArmRecord(
        factors={"method": "m", "condition": "clean"}, condition=ConditionRecord(), seed=seed, by_label={},
        best_epoch=1, seconds=1.0, items_per_second=None,
        mean=MeanRecord.of(Score(mean, None, None, "no test"), labels=("a",)),
    )  # fmt: skip
    return Finished(record, {"influence": influence})


ARMS = {
    f"{name}{seed}": finished(mean, seed) for name, mean in (("x", 0.5), ("y", 0.62), ("z", 0.53)) for seed in (0, 1, 2)
}


def contrast(method: str, family: str = "", **units: str) -> Contrast:
    pairs = {
        unit: {seed: ((f"{method}{seed}",), (f"{baseline}{seed}",)) for seed in range(3)}
        for unit, baseline in units.items()
    }
    return Contrast(method=method, baseline="x", condition=Condition(), units=pairs, family=family)


def test_p_values_are_adjusted_within_their_family_and_the_order_stays() -> None:
    contrasts = [contrast("y", "one", a="x"), contrast("z", "two", a="x"), contrast("z", "one", a="x")]
    found = _comparisons(Scores(), contrasts, ARMS)["method"]
    assert [each.method for each in found] == ["y", "z", "z"]
    assert [found[0].p_adjusted, found[2].p_adjusted] == holm([found[0].p_value, found[2].p_value])
    assert found[1].p_adjusted == found[1].p_value
    assert found[0].delta == pytest.approx(0.12)
    assert {each.metric for each in found} == {"gain"}
    assert {each.over for each in found} == {"seeds and rows"}


def test_a_seed_counts_only_if_both_sides_finished() -> None:
    arms = {name: arm for name, arm in ARMS.items() if name not in ("y1", "x2")}
    (found,) = _comparisons(Scores(), [contrast("y", a="x")], arms)["method"]
    assert [pair.seed for pair in found.by_seed] == [0]


def test_a_contrast_without_a_finished_pair_says_so() -> None:
    (found,) = _comparisons(Scores(), [contrast("y", a="x")], {})["method"]
    assert found.delta is None
    assert found.reason == "no seed in common"


def test_floor_and_controls_stand_apart_and_take_no_part_in_the_adjustment_of_the_methods() -> None:
    methods = [contrast("y", a="x"), contrast("z", a="x")]
    others = [contrast("z", a="x").model_copy(update={"role": role}) for role in ("floor", "control", "control")]
    found = _comparisons(Scores(), [others[0], methods[0], others[1], methods[1], others[2]], ARMS)
    assert [len(found[role]) for role in ("method", "floor", "control")] == [2, 1, 2]
    assert [each.p_adjusted for each in found["method"]] == holm([each.p_value for each in found["method"]])
    assert found["floor"][0].p_adjusted == found["floor"][0].p_value
    assert [each.p_adjusted for each in found["control"]] == holm([each.p_value for each in found["control"]])


def interaction(family: str = "", method: str = "y") -> Contrast:
    """(method - x) of one unit minus (z - x) of another."""
    given, other = contrast(method, family, noisy="x"), contrast("z", clean="x")
    minus = Subtracted(condition=Condition(name="clean"), units=other.units)
    condition = Condition(name="noisy", kind="random", rate=0.4)
    return given.model_copy(update={"role": "interaction", "minus": minus, "condition": condition})


def test_an_interaction_is_a_difference_of_differences_and_says_what_was_subtracted() -> None:
    (found,) = _comparisons(Scores(), [interaction()], ARMS)["interaction"]
    assert found.delta == pytest.approx((0.62 - 0.5) - (0.53 - 0.5))
    assert (found.condition.name, found.minus and found.minus.name) == ("noisy", "clean")
    assert [(pair.unit, pair.seed) for pair in found.by_seed] == [("noisy", seed) for seed in range(3)]
    influence = {
        name: np.stack([ARMS[f"{name}{seed}"].predictions["influence"] for seed in range(3)], axis=1) for name in "xyz"
    }
    expected = (influence["y"] - influence["x"]) - (influence["z"] - influence["x"])
    naive = compare_units({"": Differences([0, 1, 2], np.full(3, 0.09), expected)}, sampled="rows")
    assert (found.lo, found.hi, found.p_value) == pytest.approx((naive.lo, naive.hi, naive.p_value))
    assert found.over == "seeds and rows"


def test_an_interaction_has_only_the_seeds_that_finished_under_both_conditions() -> None:
    arms = {name: arm for name, arm in ARMS.items() if name not in ("y0", "z2")}
    (found,) = _comparisons(Scores(), [interaction()], arms)["interaction"]
    assert [pair.seed for pair in found.by_seed] == [1]
    without = {name: arm for name, arm in ARMS.items() if not name.startswith("z")}
    (nothing,) = _comparisons(Scores(), [interaction()], without)["interaction"]
    assert (nothing.delta, nothing.reason) == (None, "no seed in common")


def test_interactions_take_no_part_in_the_adjustment_of_what_they_are_made_of() -> None:
    contrasts = [contrast("y", "one", a="x"), interaction("one"), interaction("one", "x"), interaction("two")]
    found = _comparisons(Scores(), contrasts, ARMS)
    assert found["method"][0].p_adjusted == found["method"][0].p_value
    one = found["interaction"][:2]
    assert [each.p_adjusted for each in one] == holm([each.p_value for each in one])
    assert found["interaction"][2].p_adjusted == found["interaction"][2].p_value
