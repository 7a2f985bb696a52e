"""Parts of a study's results: one factor is compared, and nothing of another part gets in."""

import pytest

from tasks.records.comparisons import EQUAL_COMPUTE
from tasks.records.cost import method_costs
from tasks.records.slices import asked, joint, methods_under, policies_with
from tasks.records.study import AdjudicatedRecord, AdjudicatedScore, StudyResults
from tests.tasks.fake_study import big_study, fake_study, interaction_study, policy_study

BOTH = policy_study()


def one_policy(policy: str) -> StudyResults:
    return policy_study(policies=(policy,))


@pytest.mark.parametrize("study", [fake_study(), big_study(), one_policy("simple"), fake_study(methods=("uniform",))])
def test_a_study_of_methods_asks_about_itself(study: StudyResults) -> None:
    assert asked(study) == (study,)
    assert joint(study) is study


def test_a_study_of_policies_with_one_method_asks_about_the_policies() -> None:
    study = policy_study(methods=("uniform",))
    (part,) = asked(study)
    assert part == joint(study)
    assert (part.factor, part.baseline, part.methods) == ("policy", "none", ("none", "composed", "uncertainty"))
    assert [(c.method, c.baseline) for c in part.floor] == 2 * [("none, other seeds", "none")]
    assert part.comparisons == study.comparisons
    assert (study.baseline, study.baseline_policy) == ("uniform", "none")


def test_a_study_of_both_asks_about_methods_under_the_baseline_policy_and_policies_with_the_baseline_method() -> None:
    methods, policies = asked(BOTH)
    assert (methods.factor, methods.baseline, methods.methods) == ("method", "uniform", ("uniform", "svd"))
    assert {arm.policy for arm in methods.arms} == {"none"}
    assert {c.held["policy"] for c in (*methods.comparisons, *methods.floor)} == {"none"}
    assert (policies.factor, policies.baseline, policies.methods) == (
        "policy",
        "none",
        ("none", "composed", "uncertainty"),
    )
    assert {str(c.held) for c in (*policies.comparisons, *policies.floor)} == {"{'method': 'uniform'}"}


@pytest.mark.parametrize("method", ["uniform", "svd"])
@pytest.mark.parametrize("policy", ["none", "composed", "uncertainty"])
def test_every_part_has_the_arms_of_its_cells_and_no_others(method: str, policy: str) -> None:
    condition = BOTH.conditions[1]
    cell = [
        arm.mean for arm in BOTH.arms if (arm.method, arm.policy, arm.condition.shared()) == (method, policy, condition)
    ]
    assert len(cell) == 3
    for part, name in (
        (methods_under(BOTH, policy), method),
        (policies_with(BOTH, method), policy),
        (joint(BOTH), f"{method} · {policy}"),
    ):
        assert [arm.mean for arm in part.finished_arms(name, condition)] == cell


@pytest.mark.parametrize("method", ["uniform", "svd"])
def test_policies_are_compared_as_they_were_with_this_method(method: str) -> None:
    compared = [c for c in BOTH.comparisons if c.factor == "policy" and c.held["method"] == method]
    assert [c.delta for c in policies_with(BOTH, method).comparisons] == [c.delta for c in compared]


def test_the_noise_floor_is_only_where_it_was_trained() -> None:
    assert methods_under(BOTH, "composed").floor == policies_with(BOTH, "svd").floor == ()
    assert "none, other seeds" not in policies_with(BOTH, "svd").methods
    assert {c.method for c in joint(BOTH).floor} == {"uniform · none, other seeds"}
    assert len(joint(BOTH).methods) == 6


def test_all_cells_are_compared_with_both_baselines_at_once_where_that_was_compared() -> None:
    part = joint(BOTH)
    assert (part.factor, part.baseline) == ("method and policy", "uniform · none")
    assert {(c.method, c.baseline) for c in part.comparisons} == {
        (name, "uniform · none") for name in ("svd · none", "uniform · composed", "uniform · uncertainty")
    }


def test_costs_are_relative_to_the_baseline_method_under_the_baseline_policy() -> None:
    longer = [
        arm.model_copy(
            update={"weights": tuple(row.model_copy(update={"step": 3 * row.step}) for row in arm.weights)}
            if arm.policy == "composed"
            else {}
        )
        for arm in BOTH.arms
    ]
    costs = method_costs(joint(BOTH.model_copy(update={"arms": tuple(longer)})))
    found = {cost.method: cost.relative_time for cost in costs}
    for method in ("uniform", "svd"):
        assert found[f"{method} · none"] == pytest.approx(1)
        assert found[f"{method} · composed"] == pytest.approx(3)  # as many seconds a step, three times as many steps
        assert found[f"{method} · uncertainty"] == pytest.approx(2.5)


def test_adjudicated_scores_are_told_apart_by_policy() -> None:
    score = BOTH.arms[0].mean
    rows = tuple(
        AdjudicatedScore(method="svd", policy=policy, condition=BOTH.conditions[0], seed=0, finding="mean",
                         noisy=score, adjudicated=score)
        for policy in BOTH.policies
    )  # fmt: skip
    record = AdjudicatedRecord(sha256="0", images=1, patients=1, findings={}, positives={}, scores=rows)
    study = BOTH.model_copy(update={"adjudicated": record})
    assert [row.method for row in joint(study).adjudicated.scores] == [f"svd · {policy}" for policy in BOTH.policies]
    assert [row.method for row in policies_with(study, "svd").adjudicated.scores] == list(BOTH.policies)
    assert policies_with(study, "uniform").adjudicated.scores == ()
    assert "policy" not in rows[0].model_dump()


def test_no_part_has_the_comparisons_at_equal_compute() -> None:
    study = interaction_study()
    assert any(c.experiment == EQUAL_COMPUTE for c in study.comparisons)
    for part in (*asked(study), joint(study), policies_with(study, "svd"), methods_under(study, "compute_matched")):
        assert part.comparisons
        assert not any(c.experiment == EQUAL_COMPUTE for c in part.comparisons)
