"""Plans of image studies: two stages, the noise floor and the controls, on a small store."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.labels.splits import SplitSettings
from data_prep.noise.entries import RandomNoise
from data_prep.noise.protocols import AllProtocol, PairsProtocol
from data_prep.noise.registry import NoNoise
from models.augmentation.policies import ComposedPolicy, ComputeMatchedPolicy, NoPolicy
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.oracle import OracleSettings
from models.weighting.permuted import PermutedWeightsSettings
from models.weighting.registry import UniformSettings
from models.weighting.scalarization import CommonFactorSettings, ScalarizationSettings
from models.weighting.svd_rules import SvdDynamicSettings, SvdSettings
from models.weighting.trust import TrustSettings
from tasks.engine.plan import Contrast, Plan
from tasks.images.plan import ImagePlanSettings, plan_images, with_sources
from tasks.images.spec import ImageArm
from tests.tasks.small_store import write_small_store

UNIFORM, SVD, TRUST = UniformSettings(), SvdSettings(), TrustSettings()
DYNAMIC = SvdDynamicSettings(features="finished")
NOISE = (NoNoise(), RandomNoise(rate=0.4, labels=("Mass",)))
BY_MASK = {"clean": 1, "random 40 % on Mass": 3}
"""Condition -> number of different masks of three seeds."""


@pytest.fixture
def planned(tmp_path: Path) -> Any:
    """Makes plans of one small store."""
    store = write_small_store(tmp_path / "store")

    def make(*methods: Any, **changed: Any) -> Plan[ImageArm]:
        given = {
            "split": SplitSettings(seed=1),
            "protocol": AllProtocol(noise=NOISE),
            "methods": methods,
            "baseline": "uniform",
            "network": NetworkSettings(),
            "training": TrainingSettings(),
            "seed": 5,
            "seeds": 3,
            "floor": False,
            "device": "cpu",
            "threads": 1,
        }
        return plan_images.fn(store, ImagePlanSettings(**given | changed), tmp_path / "masks")

    return make


def of_method(arms: Any, name: str) -> list[ImageArm]:
    return [arm for arm in arms if arm.factors["method"] == name]


def of_role(plan: Plan[ImageArm], role: str) -> list[Contrast]:
    return [contrast for contrast in plan.contrasts if contrast.role == role]


def pairs_of(contrast: Contrast) -> list[tuple[str, str]]:
    """Hashes of a contrast's method and baseline, seed by seed."""
    return [(method, baseline) for unit in contrast.units.values() for ((method,), (baseline,)) in unit.values()]


@pytest.mark.parametrize("methods", [(UNIFORM, SVD, DYNAMIC), (SVD, UNIFORM, DYNAMIC), (SVD, DYNAMIC)])
def test_methods_that_need_a_finished_network_train_second_from_the_uniform_arm_of_their_seed_and_noise(
    planned: Any, methods: tuple[Any, ...]
) -> None:
    plan = planned(*methods)
    first, second = plan.stages
    assert [arm.method for arm in first] == [UNIFORM] * 6
    assert [arm.source for arm in first] == [None] * 6
    assert {arm.method.kind for arm in second} == {"svd", "svd_dynamic"}
    assert len(second) == 12
    by_hash = {arm.hash: arm for arm in first}
    for arm in second:
        source = by_hash[arm.source.hash]
        assert (source.seed, source.condition, source.mask) == (arm.seed, arm.condition, arm.mask)
        assert arm.source.run_id is None


def test_a_study_without_such_methods_has_one_stage_and_trains_nothing_more(planned: Any) -> None:
    running = SvdSettings(features="running")
    plan = planned(running, TRUST, ScalarizationSettings(kind="uncertainty"), baseline=running.name)
    (stage,) = plan.stages
    assert len(stage) == 18
    assert not of_method(stage, "uniform")
    assert with_sources([running]) == (running,)
    assert with_sources([SVD]) == (UNIFORM, SVD)
    assert with_sources([SVD, UNIFORM]) == (SVD, UNIFORM)


def test_the_control_of_such_a_method_needs_the_same_network(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, PermutedWeightsSettings(of=SVD), PermutedWeightsSettings(of=OracleSettings()))
    first, second = plan.stages
    assert {arm.factors["method"] for arm in first} == {"uniform", "permuted_weights(oracle)"}
    assert {arm.factors["method"] for arm in second} == {"svd", "permuted_weights(svd)"}
    assert of_method(second, "permuted_weights(svd)")[0].source == of_method(second, "svd")[0].source


def test_the_noise_floor_is_the_baseline_on_the_same_masks_with_other_seeds(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, floor=True)
    floor, uniform = of_method(plan.arms, "uniform, other seeds"), of_method(plan.arms, "uniform")
    assert len(floor) == len(uniform) == 6
    assert all(arm in plan.stages[0] for arm in floor)
    for other, one in zip(floor, uniform, strict=True):
        assert other.mask == one.mask
        assert (other.condition, other.method, other.training) == (one.condition, one.method, one.training)
        assert (other.seed, other.paired_seed) == (one.seed + 3, one.seed)
        assert other.hash != one.hash
    assert not {arm.seed for arm in floor} & {arm.seed for arm in uniform}
    assert not {arm.source.hash for arm in plan.stages[1]} & {arm.hash for arm in floor}


def test_each_part_of_the_masks_is_drawn_from_its_seed(planned: Any) -> None:
    plan = planned(UNIFORM)
    for condition, count in BY_MASK.items():
        assert len({arm.mask.fingerprint for arm in plan.arms if arm.condition == condition}) == count


def test_the_floor_is_a_contrast_of_its_own_role_paired_by_mask(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, floor=True)
    by_hash = {arm.hash: arm for arm in plan.arms}
    found = of_role(plan, "floor")
    assert [contrast.condition.name for contrast in found] == list(BY_MASK)
    for contrast in found:
        assert (contrast.method, contrast.baseline) == ("uniform, other seeds", "uniform")
        pairs = pairs_of(contrast)
        assert len(pairs) == 3
        for other, one in pairs:
            assert by_hash[other].mask == by_hash[one].mask
            assert by_hash[other].seed == by_hash[one].seed + 3


def test_methods_are_contrasted_with_the_baseline_and_the_floor_with_no_method(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, TRUST, floor=True)
    found = of_role(plan, "method")
    assert [(each.method, each.condition.name) for each in found] == [
        (method, condition) for condition in BY_MASK for method in ("svd", "trust")
    ]
    assert {each.baseline for each in found} == {"uniform"}
    by_hash = {arm.hash: arm for arm in plan.arms}
    for contrast in found:
        for method, baseline in pairs_of(contrast):
            assert by_hash[method].seed == by_hash[baseline].seed
            source = by_hash[method].source
            assert (source and source.hash) == (baseline if contrast.method == "svd" else None)
    assert len(plan.contrasts) == 4 + 2


def test_a_method_is_contrasted_with_its_control_if_both_are_trained(planned: Any) -> None:
    controls = PermutedWeightsSettings(of=SVD), CommonFactorSettings(), PermutedWeightsSettings(of=TRUST)
    plan = planned(UNIFORM, SVD, ScalarizationSettings(kind="uncertainty"), *controls)
    found = of_role(plan, "control")
    assert [(each.method, each.baseline) for each in found] == [
        ("svd", "permuted_weights(svd)"),
        ("svd", "permuted_weights(svd)"),
        ("uncertainty", "common_factor"),
        ("uncertainty", "common_factor"),
    ]  # that of trust has no trust to compare with
    assert {each.method for each in of_role(plan, "method")} == {
        "svd", "permuted_weights(svd)", "uncertainty", "common_factor", "permuted_weights(trust)",
    }  # fmt: skip
    for contrast in found:
        assert len(pairs_of(contrast)) == 3


def test_drawn_pairs_of_labels_have_one_contrast_over_all_of_each_role(planned: Any) -> None:
    protocol = PairsProtocol(pairs=1, min_positives=1)
    plan = planned(UNIFORM, SVD, PermutedWeightsSettings(of=SVD), protocol=protocol, floor=True)
    assert [(each.role, each.method, each.baseline) for each in plan.contrasts] == [
        ("method", "svd", "uniform"),
        ("method", "permuted_weights(svd)", "uniform"),
        ("floor", "uniform, other seeds", "uniform"),
        ("control", "svd", "permuted_weights(svd)"),
    ]
    assert {each.population_size for each in plan.contrasts} == {1}
    assert all(len(pairs_of(each)) == 3 for each in plan.contrasts)


def test_an_arm_is_another_arm_with_another_source(planned: Any) -> None:
    plan, other = planned(UNIFORM, SVD), planned(UNIFORM, SVD, training=TrainingSettings(epochs=3))
    arm = plan.stages[1][0]
    sources = {arm.source, other.stages[1][0].source, None}
    assert len({arm.model_copy(update={"source": source}).hash for source in sources}) == 3
    finished = arm.source.model_copy(update={"run_id": "run"})
    assert arm.model_copy(update={"source": finished}).hash == arm.hash


def test_a_study_of_more_seeds_finds_the_clean_arms_of_the_floor_trained(planned: Any) -> None:
    few, many = planned(UNIFORM, floor=True), planned(UNIFORM, seeds=6)
    trained = {arm.hash for arm in few.arms}
    assert {arm.hash for arm in many.arms if arm.condition == "clean"} <= trained
    noisy = [arm for arm in many.arms if arm.condition != "clean"]
    assert sorted(arm.seed for arm in noisy if arm.hash in trained) == [5, 6, 7]  # masks of their own above


def test_no_arm_is_planned_twice(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, TRUST, PermutedWeightsSettings(of=SVD), floor=True)
    assert len({arm.hash for arm in plan.arms}) == len(plan.arms) == 2 * 3 * 5


POLICIES = NoPolicy(), ComposedPolicy(), ComputeMatchedPolicy()
BY_POLICY = {"none": 8, "composed": 8, "compute_matched": 19}
"""Policy -> epochs that it makes of the usual number."""


def test_every_method_is_trained_under_every_policy_for_its_epochs(planned: Any) -> None:
    plan = planned(UNIFORM, TRUST, policies=POLICIES)
    cells = [(arm.condition, arm.seed, arm.policy.name, arm.method.name) for arm in plan.arms]
    assert len(set(cells)) == len(cells) == 2 * 3 * 3 * 2
    assert {(arm.policy.name, arm.training.epochs, arm.epochs) for arm in plan.arms} == {
        (name, epochs, epochs) for name, epochs in BY_POLICY.items()
    }
    assert len({arm.mask.fingerprint for arm in plan.arms}) == sum(BY_MASK.values())


def test_arms_without_augmentation_are_those_of_a_study_that_knows_no_policies(planned: Any) -> None:
    known = {arm.hash: arm.title for arm in planned(UNIFORM, SVD, floor=True).arms}
    plan = planned(UNIFORM, SVD, floor=True, policies=POLICIES)
    assert known == {arm.hash: arm.title for arm in plan.arms if arm.policy == NoPolicy()}
    assert len({arm.hash for arm in plan.arms}) == len(plan.arms)
    assert {arm.title.split(" · ")[2] for arm in plan.arms if arm.policy != NoPolicy()} == {
        "composed",
        "compute_matched",
    }


def test_the_source_of_an_arm_is_the_uniform_arm_of_its_policy(planned: Any) -> None:
    first, second = planned(UNIFORM, SVD, policies=POLICIES).stages
    by_hash = {arm.hash: arm for arm in first}
    assert len(second) == 18
    for arm in second:
        source = by_hash[arm.source.hash]
        assert (source.method, source.policy, source.seed, source.mask) == (UNIFORM, arm.policy, arm.seed, arm.mask)


def test_the_floor_is_trained_under_the_baseline_policy_only(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, floor=True, policies=POLICIES[:0:-1], baseline_policy="composed")
    floor = of_method(plan.arms, "uniform, other seeds")
    assert len(floor) == 6
    assert {arm.policy.name for arm in floor} == {"composed"}
    found = of_role(plan, "floor")
    assert [(each.condition.name, each.held) for each in found] == [(name, {"policy": "composed"}) for name in BY_MASK]
    assert all(len(pairs_of(each)) == 3 for each in found)


def test_methods_are_contrasted_within_a_policy_and_policies_within_a_method(planned: Any) -> None:
    plan = planned(UNIFORM, SVD, PermutedWeightsSettings(of=SVD), floor=True, policies=POLICIES)
    by_hash = {arm.hash: arm for arm in plan.arms}
    found = [contrast for contrast in of_role(plan, "method") if contrast.family != "controls"]
    names = [(each.factor, each.family, each.method, each.baseline, *each.held.values()) for each in found]
    of_methods = [("method", "", "svd", "uniform", policy) for policy in BY_POLICY]
    of_policies = [
        ("policy", "policies", policy, "none", method)
        for method in ("uniform", "svd")
        for policy in ("composed", "compute_matched")
    ]
    assert sorted(names) == sorted(2 * (of_methods + of_policies))
    for contrast in plan.contrasts:
        assert len(pairs_of(contrast)) == 3
        for one, other in ((by_hash[one], by_hash[other]) for one, other in pairs_of(contrast)):
            differing = {name for name in one.levels if one.levels[name] != other.levels[name]}
            assert differing == {contrast.factor}
            assert one.paired_seed == other.paired_seed
    controls = of_role(plan, "control")
    assert [each.held["policy"] for each in controls] == 2 * list(BY_POLICY)


def test_drawn_pairs_of_labels_have_one_contrast_for_each_policy(planned: Any) -> None:
    protocol = PairsProtocol(pairs=1, min_positives=1)
    plan = planned(UNIFORM, SVD, protocol=protocol, policies=POLICIES[:2])
    assert [(each.factor, each.method, each.held) for each in plan.contrasts] == [
        ("method", "svd", {"policy": "none"}),
        ("method", "svd", {"policy": "composed"}),
        ("policy", "composed", {"method": "uniform"}),
        ("policy", "composed", {"method": "svd"}),
    ]
