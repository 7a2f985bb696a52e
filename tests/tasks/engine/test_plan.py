"""Contrasts: arms that differ in one factor only, seed by seed."""

from itertools import product
from typing import Any, ClassVar

from tasks.arms.base import ArmRef, BaseArm, Source
from tasks.engine.plan import against_baseline, resolve_sources, varied_levels


class Arm(BaseArm):
    version: ClassVar[int] = 1
    epochs: ClassVar[int] = 1
    outputs: ClassVar[int] = 1
    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition", "policy")
    method: str
    policy: str = "none"

    def hash_inputs(self) -> list[Any]:
        return [self.method, self.condition, self.seed]

    def parameters(self) -> dict[str, Any]:
        return {}


def arm(method: str, condition: str = "clean", policy: str = "none", seed: int = 0) -> Arm:
    return Arm(method=method, condition=condition, policy=policy, seed=seed, device="cpu", threads=1)


ARMS = [
    arm(method, condition, policy, seed)
    for policy, condition, seed, method in product(("none", "mixup"), ("clean", "noisy"), (0, 1), ("uniform", "svd"))
]


def test_a_contrast_joins_arms_that_agree_in_all_other_factors_and_the_seed() -> None:
    found = against_baseline(ARMS, "uniform")
    by_hash = {each.hash: each for each in ARMS}
    assert len(found) == 4
    for contrast in found:
        assert (contrast.method, contrast.baseline) == ("svd", "uniform")
        (pairs,) = contrast.units.values()
        assert set(pairs) == {0, 1}
        for seed, ((method,), (baseline,)) in pairs.items():
            one, other = by_hash[method], by_hash[baseline]
            assert one.seed == other.seed == seed
            assert one.factors | {"method": "uniform"} == other.factors
            assert contrast.condition.name == one.condition


def test_another_factor_is_contrasted_in_the_same_way() -> None:
    given = [each.model_copy(update={"policy": each.policy.replace("none", "flip")}) for each in ARMS]
    found = against_baseline(given, "flip", factor="policy")
    assert [contrast.method for contrast in found] == ["mixup"] * 4
    assert [list(contrast.units) for contrast in found] == [
        ["uniform, clean"], ["svd, clean"], ["uniform, noisy"], ["svd, noisy"]
    ]  # fmt: skip


def test_arms_at_the_default_of_a_factor_are_contrasted_too() -> None:
    found = against_baseline(ARMS, "none", factor="policy")
    assert {(contrast.method, contrast.baseline, contrast.factor) for contrast in found} == {
        ("mixup", "none", "policy")
    }
    by_hash = {each.hash: each for each in ARMS}
    assert len(found) == 4
    for contrast in found:
        (pairs,) = contrast.units.values()
        assert set(pairs) == {0, 1}
        for (mixup,), (none,) in pairs.values():
            assert (by_hash[mixup].policy, by_hash[none].policy) == ("mixup", "none")
            assert by_hash[mixup].method == by_hash[none].method == contrast.held["method"]
            assert by_hash[mixup].condition == by_hash[none].condition == contrast.condition.name


def test_a_contrast_says_what_it_holds_fixed_where_the_study_has_several_levels() -> None:
    assert [each.held for each in against_baseline(ARMS, "uniform")] == 2 * [{"policy": "none"}] + 2 * [
        {"policy": "mixup"}
    ]
    assert {str(each.held) for each in against_baseline(ARMS[:8], "uniform")} == {"{}"}
    assert {str(each.held) for each in against_baseline(ARMS[8:], "uniform")} == {"{}"}


def test_a_level_that_only_some_arms_have_is_contrasted_only_there() -> None:
    floor = [arm("uniform, other seeds", condition) for condition in ("clean", "noisy")]
    found = against_baseline([*ARMS, *floor], "uniform")
    other = [each for each in found if each.method == "uniform, other seeds"]
    assert [(each.condition.name, each.held) for each in other] == [
        (name, {"policy": "none"}) for name in ("clean", "noisy")
    ]
    assert len(found) == 4 + 2


def test_conditions_that_were_drawn_are_one_contrast_for_each_level_that_is_held() -> None:
    found = against_baseline(ARMS, "uniform", population_size=91)
    assert [each.held for each in found] == [{"policy": "none"}, {"policy": "mixup"}]
    assert [list(each.units) for each in found] == [
        [f"{c}, {p}" for c in ("clean", "noisy")] for p in ("none", "mixup")
    ]


def test_levels_are_named_of_the_factors_that_some_arm_changes() -> None:
    assert varied_levels(ARMS[:1]) == [{"method": "uniform", "condition": "clean"}]
    assert varied_levels(ARMS)[0] == {"method": "uniform", "condition": "clean", "policy": "none"}
    assert varied_levels([]) == []


def test_conditions_that_were_drawn_are_one_contrast_with_a_unit_each() -> None:
    (found,) = against_baseline(ARMS[:8], "uniform", population_size=91)
    assert list(found.units) == ["clean", "noisy"]
    assert found.population_size == 91
    assert found.condition.name.endswith("over 2 groups of labels")


def test_a_seed_without_the_baseline_is_left_out() -> None:
    arms = [each for each in ARMS[:4] if (each.method, each.seed) != ("uniform", 1)]
    (found,) = against_baseline(arms, "uniform")
    assert set(found.units["clean"]) == {0}


def test_a_condition_without_the_baseline_has_no_contrast() -> None:
    arms = [each for each in ARMS[:8] if (each.method, each.condition) != ("uniform", "noisy")]
    (found,) = against_baseline(arms, "uniform")
    assert list(found.units) == ["clean"]
    assert against_baseline(arms, "oracle") == against_baseline(arms, "oracle", population_size=9) == ()


def test_an_arm_whose_source_did_not_finish_is_not_trained() -> None:
    source = arm("source")
    needy = arm("transfer").model_copy(update={"source": Source(hash=source.hash)})
    (ready,) = resolve_sources([needy], {source.hash: ArmRef(run_id="run", reused=False)})
    assert ready.source == Source(hash=source.hash, run_id="run")
    assert ready.hash == needy.hash
    assert resolve_sources([needy], {}) == []
