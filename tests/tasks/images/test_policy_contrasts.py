"""Contrasts between policies: every one in its place once, paired by seed, and under noise minus without it."""

from collections import Counter
from itertools import product
from typing import Any, ClassVar

import pytest

from models.augmentation.policies import (
    NO_POLICY,
    ComposedPolicy,
    ComputeMatchedPolicy,
    PolicySettings,
    SimplePolicy,
    UncertaintyPolicy,
)
from models.errors import SettingError
from tasks.arms.base import BaseArm
from tasks.engine.plan import Contrast
from tasks.images.policy_contrasts import baseline_policy, interactions, policy_contrasts
from tasks.records.arms import ConditionRecord
from tasks.records.comparisons import EQUAL_COMPUTE


class Arm(BaseArm):
    version: ClassVar[int] = 1
    epochs: ClassVar[int] = 1
    outputs: ClassVar[int] = 1
    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition", "policy")
    method: str
    policy: PolicySettings = NO_POLICY

    def hash_inputs(self) -> list[Any]:
        return [self.method, self.condition, self.seed]

    def parameters(self) -> dict[str, Any]:
        return {}

    def condition_record(self) -> ConditionRecord:
        rate = float(self.condition)
        return ConditionRecord(name=self.condition, kind="random" if rate else "none", rate=rate)


COMPOSED, HIGHEST, LOWEST = ComposedPolicy(), UncertaintyPolicy(), UncertaintyPolicy(selection="lowest")
LATE = UncertaintyPolicy(warmup=0.5)
MATCHED, MATCHED_SIMPLE = ComputeMatchedPolicy(), ComputeMatchedPolicy(of=SimplePolicy())
CONDITIONS = "0", "0.2", "0.4"


def arms(*policies: PolicySettings, conditions: tuple[str, ...] = CONDITIONS) -> list[Arm]:
    return [
        Arm(method=method, condition=condition, policy=policy, seed=seed, device="cpu", threads=1)
        for policy, condition, seed, method in product(policies, conditions, (0, 1), ("uniform", "svd"))
    ]


def named(found: Any) -> Counter[tuple[str | None, str, str]]:
    return Counter((each.experiment, each.method, each.baseline) for each in found)


def of_role(found: tuple[Contrast, ...], role: str) -> list[Contrast]:
    return [each for each in found if each.role == role]


def test_policies_of_one_cost_are_compared_at_equal_compute_and_the_compute_matched_nowhere_else() -> None:
    found = policy_contrasts(arms(NO_POLICY, SimplePolicy(), COMPOSED, HIGHEST, LOWEST, LATE, MATCHED), "composed")
    names = "none", "simple", "uncertainty", LOWEST.name, LATE.name
    cells = 2 * len(CONDITIONS)
    expected = {(None, name, "composed"): cells for name in names}
    expected |= {(EQUAL_COMPUTE, name, MATCHED.name): cells for name in names[2:]}
    assert named(of_role(found, "method")) == expected
    for each in of_role(found, "method"):
        assert each.family == (each.experiment or "policies")


def test_other_candidates_have_a_compute_matched_policy_of_their_own() -> None:
    eight, matched = UncertaintyPolicy(candidates=8), ComputeMatchedPolicy(candidates=8)
    found = policy_contrasts(arms(COMPOSED, HIGHEST, eight, MATCHED, matched, conditions=("0",)), "composed")
    at_equal_compute = [each for each in found if each.experiment]
    assert set(named(at_equal_compute)) == {
        (EQUAL_COMPUTE, HIGHEST.name, MATCHED.name),
        (EQUAL_COMPUTE, eight.name, matched.name),
    }


@pytest.mark.parametrize(
    ("baseline", "policies", "against"),
    [
        (SimplePolicy(), (MATCHED, MATCHED_SIMPLE), MATCHED_SIMPLE),
        (NO_POLICY, (MATCHED_SIMPLE, MATCHED), MATCHED),
        (NO_POLICY, (MATCHED_SIMPLE,), MATCHED_SIMPLE),
    ],
)
def test_at_equal_compute_the_baseline_is_that_of_the_baseline_policy_or_of_compositions_or_the_first(
    baseline: PolicySettings, policies: tuple[PolicySettings, ...], against: PolicySettings
) -> None:
    found = policy_contrasts(arms(baseline, HIGHEST, *policies, conditions=("0",)), baseline.name)
    at_equal_compute = [each for each in found if each.experiment]
    assert {each.baseline for each in at_equal_compute} == {against.name}
    others = {policy.name for policy in policies} - {against.name}
    assert {each.method for each in at_equal_compute} == {HIGHEST.name, *others}


def test_a_compute_matched_policy_without_a_counterpart_is_compared_at_equal_steps() -> None:
    found = policy_contrasts(arms(COMPOSED, MATCHED, UncertaintyPolicy(candidates=2), conditions=("0",)), "composed")
    assert set(named(found)) == {
        (None, MATCHED.name, "composed"),
        (None, "uncertainty(candidates=2)", "composed"),
    }


def test_an_interaction_subtracts_the_same_difference_without_noise_seed_by_seed() -> None:
    given = arms(NO_POLICY, COMPOSED, HIGHEST, MATCHED)
    by_hash = {arm.hash: arm for arm in given}
    found = policy_contrasts(given, "composed")
    asked, changes = of_role(found, "method"), of_role(found, "interaction")
    assert named(changes) == {name: 2 * len(CONDITIONS[1:]) for name in named(asked)}
    assert {(each.family, each.experiment) for each in changes} == {
        ("method policies", None),
        (f"method {EQUAL_COMPUTE}", EQUAL_COMPUTE),
    }
    for each in changes:
        assert each.minus is not None
        assert (each.minus.condition.name, each.condition.kind) == ("0", "random")
        for units, condition in ((each.units, each.condition.name), (each.minus.units, "0")):
            (pairs,) = units.values()
            assert set(pairs) == {0, 1}
            for seed, ((one,), (other,)) in pairs.items():
                assert (by_hash[one].policy.name, by_hash[other].policy.name) == (each.method, each.baseline)
                for of in (by_hash[one], by_hash[other]):
                    assert (of.seed, of.condition, of.method) == (seed, condition, each.held["method"])


def test_without_a_clean_condition_or_with_conditions_that_were_drawn_there_is_no_interaction() -> None:
    noisy = policy_contrasts(arms(COMPOSED, HIGHEST, conditions=CONDITIONS[1:]), "composed")
    clean = policy_contrasts(arms(COMPOSED, HIGHEST, conditions=("0",)), "composed")
    drawn = policy_contrasts(arms(COMPOSED, HIGHEST), "composed", population_size=91)
    for found in (noisy, clean, drawn):
        assert found
        assert not of_role(found, "interaction")
    contrasts = policy_contrasts(arms(COMPOSED, HIGHEST), "composed")
    assert interactions(contrasts)
    assert interactions([each.model_copy(update={"population_size": 91}) for each in contrasts]) == ()


def test_the_floor_has_an_interaction_in_a_family_of_its_own() -> None:
    methods = policy_contrasts(arms(COMPOSED, HIGHEST, conditions=CONDITIONS[:2]), "composed")
    floor = [each.model_copy(update={"role": "floor", "family": ""}) for each in of_role(methods, "method")]
    assert {each.family for each in interactions(floor)} == {"floor"}
    assert len(interactions([*methods, *floor])) == 2 * len(interactions(floor))


def test_the_baseline_policy_is_the_one_named_and_a_policy_of_the_study() -> None:
    policies = HIGHEST, COMPOSED, NO_POLICY
    assert baseline_policy(policies) == "none"
    assert baseline_policy(policies[:2]) == "composed"
    assert baseline_policy([HIGHEST, MATCHED]) == "uncertainty"
    assert baseline_policy(policies, "uncertainty") == "uncertainty"
    with pytest.raises(SettingError, match="unknown baseline_policy 'compose'; did you mean 'composed'"):
        baseline_policy(policies, "compose")
