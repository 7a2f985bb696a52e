"""The plan of a study on texts: no arm is planned twice, and compared arms are trained on the same data."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from models.augmentation.policies import NO_POLICY
from models.augmentation.word_replacement import UncertainWordPolicy, WordPolicy
from models.networks.pretrained_encoder import PretrainedSettings
from models.networks.word_encoders import LstmSettings, MlpSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import ArmRef
from tasks.data.texts import SentimentData
from tasks.engine.plan import Plan, resolve_sources
from tasks.text.plan import (
    ALIGNED,
    JOINT,
    LEAKY,
    SINGLE,
    SINGLE_MATRIX,
    SOURCE,
    TRANSFER_ALIGNED,
    TextPlanSettings,
    plan_texts,
)
from tasks.text.spec import TextArm
from tests.sentences import write_sentences


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SentimentData:
    folder = write_sentences(tmp_path_factory.mktemp("texts") / "sentences")
    return SentimentData(folder=folder, tasks=("mr", "sst", "cr"))


def planned(data: SentimentData, *experiments: str, seeds: int = 2, **changes: Any) -> Plan[TextArm]:
    settings = {
        "encoder": LstmSettings(),
        "align": "free",
        "training": TextTrainingSettings(),
        "max_length": 50,
    } | changes
    return plan_texts.fn(data, experiments, TextPlanSettings(**settings), range(seeds), "cpu", 1)


def arms_of(plan: Plan[TextArm], method: str) -> list[TextArm]:
    return [arm for arm in plan.arms if arm.method == method]


def test_a_single_task_arm_is_planned_once_per_seed_for_all_its_comparisons(data: SentimentData) -> None:
    plan = planned(data, "singles", "pairs")
    conditions = {arm.condition for arm in arms_of(plan, SINGLE)}
    assert conditions == {"MR", "SST", "CR", "MR, kept apart from SST", "SST, kept apart from MR"} - {
        # SST's training part contains none of MR's test sentences here
        "SST, kept apart from MR"
    }
    assert len(arms_of(plan, SINGLE)) == 2 * len(conditions)
    assert len(arms_of(plan, JOINT)) == len(arms_of(plan, ALIGNED)) == 2 * 3
    assert len({arm.hash for arm in plan.arms}) == len(plan.arms)


def test_both_sides_of_a_comparison_are_trained_on_the_same_sentences(data: SentimentData) -> None:
    plan = planned(data, "pairs", control=True)
    arms = {arm.hash: arm for arm in plan.arms}
    for contrast in plan.contrasts:
        for method, baseline in (sides for pairs in contrast.units.values() for sides in pairs.values()):
            ours, theirs = ({k: v for hash in side for k, v in arms[hash].tasks.items()} for side in (method, baseline))
            assert ours == theirs
            assert {arms[hash].seed for hash in (*method, *baseline)} == {arms[method[0]].seed}


def test_shared_sentences_are_kept_only_if_leave_overlap_is_set(data: SentimentData) -> None:
    plan = planned(data, "pairs", leave_overlap=True)
    (leaky, *_) = arms_of(plan, LEAKY)
    assert {arm.condition for arm in arms_of(plan, LEAKY)} == {"MR and SST"}
    (clean, *_) = (arm for arm in arms_of(plan, JOINT) if arm.condition == "MR and SST")
    assert leaky.tasks["mr"] != clean.tasks["mr"]
    assert {c.baseline for c in plan.contrasts if c.experiment == "overlap"} == {JOINT, SINGLE}
    assert not [arm for arm in planned(data, "pairs").arms if arm.keep_overlap]


def test_the_capacity_control_differs_from_single_by_its_matrix_and_is_compared_with_single_and_aligned(
    data: SentimentData,
) -> None:
    plan = planned(data, "pairs", control=True)
    single, control = arms_of(plan, SINGLE), arms_of(plan, SINGLE_MATRIX)
    assert [(a.condition, a.seed, a.tasks) for a in control] == [(a.condition, a.seed, a.tasks) for a in single]
    assert {arm.network.alignment for arm in control} == {"free"}
    assert {arm.network.alignment for arm in single} == {"none"}
    compared = {(contrast.method, contrast.baseline) for contrast in plan.contrasts}
    assert compared >= {(SINGLE_MATRIX, SINGLE), (ALIGNED, SINGLE_MATRIX)}
    assert not arms_of(planned(data, "pairs"), SINGLE_MATRIX)


def test_settings_without_effect_on_an_arm_are_not_in_its_hash(data: SentimentData) -> None:
    plans = [
        planned(data, "pairs"),
        planned(data, "pairs", align="rotation", training=TextTrainingSettings(schedule="alternating")),
    ]
    for method in (JOINT, SINGLE):
        assert [arm.hash for arm in arms_of(plans[0], method)] == [arm.hash for arm in arms_of(plans[1], method)]
    assert not {arm.hash for arm in arms_of(plans[0], ALIGNED)} & {arm.hash for arm in arms_of(plans[1], ALIGNED)}


def test_another_folder_with_the_same_files_gives_the_same_arms(data: SentimentData, tmp_path: Path) -> None:
    again = SentimentData(folder=write_sentences(tmp_path / "again"), tasks=data.tasks)
    assert [arm.hash for arm in planned(again, "pairs").arms] == [arm.hash for arm in planned(data, "pairs").arms]


def test_transfer_is_fine_tuned_from_an_arm_of_an_earlier_stage(data: SentimentData) -> None:
    plan = planned(data, "transfer", seeds=1, source="sst", fine_tuning_epochs=3)
    first, others = plan.stages
    sources = [arm for arm in first if arm.keep_network]
    assert {arm.method for arm in sources} == {SOURCE}
    fine_tuned = [arm for arm in others if arm.source]
    assert len(fine_tuned) == len(others) == 4
    assert {arm.training.epochs for arm in fine_tuned} == {3}
    assert all(arm.vocabulary_tasks == sources[0].vocabulary_tasks for arm in fine_tuned)
    finished = {arm.hash: ArmRef(run_id=f"run of {arm.hash}", reused=False) for arm in sources}
    resolved = resolve_sources(others, finished)
    assert [arm.hash for arm in resolved] == [arm.hash for arm in others]
    assert {arm.source.run_id for arm in resolved if arm.source} == {f"run of {arm.hash}" for arm in sources}
    assert resolve_sources(fine_tuned, {}) == []


def test_conditions_are_compared_over_all_and_then_one_by_one_family_by_family(data: SentimentData) -> None:
    contrasts = planned(data, "pairs", "together").contrasts
    over_all = [contrast for contrast in contrasts if contrast.over_all]
    assert contrasts[:3] == tuple(over_all)
    pairs, families = ("MR and SST", "MR and CR", "SST and CR"), ((JOINT, SINGLE), (ALIGNED, SINGLE), (ALIGNED, JOINT))
    for contrast, family in zip(over_all, families, strict=True):
        assert (contrast.method, contrast.baseline) == family
        assert contrast.condition.name == "all 3"
        assert contrast.crossed
        of_pairs = [each for each in contrasts if (each.method, each.baseline, each.experiment) == (*family, "pairs")]
        assert contrast.units == {name: pairs for each in of_pairs[1:] for name, pairs in each.units.items()}
    assert [(each.method, each.baseline, *each.units) for each in contrasts[3:]] == [
        *((*family, pair) for family in families for pair in pairs),
        *((*family, "MR, SST and CR") for family in families),
    ]
    assert not any(contrast.crossed for contrast in contrasts[3:])
    # a p-value is adjusted among those over all, or among those of its experiment, method and baseline
    assert len({contrast.family for contrast in over_all}) == 1
    assert len({contrast.family for contrast in contrasts}) == 1 + 2 * len(families)


def test_the_shared_sentences_of_one_pair_and_the_widths_are_not_compared_over_all(data: SentimentData) -> None:
    contrasts = planned(data, "pairs", "capacity", leave_overlap=True, widths=(5, 20)).contrasts
    assert {contrast.experiment for contrast in contrasts if contrast.over_all} == {"pairs"}
    transfer = planned(data, "transfer").contrasts
    assert [(c.method, *c.units) for c in transfer if c.over_all][1] == (TRANSFER_ALIGNED, "SST to MR", "SST to CR")


def test_the_capacity_curve_has_joint_and_single_task_arms_at_every_width(data: SentimentData) -> None:
    plan = planned(data, "capacity", seeds=1, widths=(5, 20))
    assert sorted({arm.network.encoder.width for arm in plan.arms}) == [5, 20]
    assert (len(arms_of(plan, JOINT)), len(arms_of(plan, SINGLE))) == (2, 6)
    assert [contrast.condition.name for contrast in plan.contrasts] == ["width 5", "width 20"]


POLICIES = (WordPolicy(), NO_POLICY, UncertainWordPolicy())


def test_every_arm_is_planned_under_each_policy_and_the_others_stay_what_they_are(data: SentimentData) -> None:
    alone, several = (planned(data, "pairs", policies=policies) for policies in ((NO_POLICY,), POLICIES))
    for policy in POLICIES:
        of_policy = [arm for arm in several.arms if arm.policy == policy]
        assert [(a.method, a.condition, a.seed) for a in of_policy] == [
            (a.method, a.condition, a.seed) for a in alone.arms
        ]
    assert [arm.hash for arm in several.arms if arm.policy == NO_POLICY] == [arm.hash for arm in alone.arms]
    within = [c for c in several.contrasts if c.factor == "method" and c.held == {"policy": "none"}]
    assert [(c.method, c.baseline, c.condition, c.units) for c in within] == [
        (c.method, c.baseline, c.condition, c.units) for c in alone.contrasts
    ]
    assert len({c.family for c in several.contrasts if c.factor == "method"}) == 3 * len(
        {c.family for c in alone.contrasts}
    )


def test_policies_are_compared_with_none_under_each_condition_and_over_all(data: SentimentData) -> None:
    plan = planned(data, "singles", policies=POLICIES)
    arms = {arm.hash: arm for arm in plan.arms}
    assert [(c.method, c.baseline, c.condition.name, c.over_all) for c in plan.contrasts] == [
        *((name, "none", "all 3", True) for name in ("composed", "uncertainty")),
        *((name, "none", task, False) for task in ("MR", "SST", "CR") for name in ("composed", "uncertainty")),
    ]
    assert len({c.family for c in plan.contrasts}) == 2
    for contrast in plan.contrasts:
        assert contrast.experiment is None
        for pairs in contrast.units.values():
            for seed, ((ours,), (theirs,)) in pairs.items():
                assert (arms[ours].seed, arms[theirs].seed) == (seed, seed)
                assert (arms[ours].tasks, arms[ours].method) == (arms[theirs].tasks, arms[theirs].method)
                assert arms[theirs].policy == NO_POLICY


def test_without_none_the_first_policy_is_the_baseline(data: SentimentData) -> None:
    plan = planned(data, "singles", policies=(UncertainWordPolicy(), WordPolicy()))
    assert {(c.method, c.baseline) for c in plan.contrasts} == {("composed", "uncertainty")}


def test_the_noise_floor_is_the_baseline_policy_under_other_seeds_on_the_same_data(data: SentimentData) -> None:
    folded = data.model_copy(update={"folds": 3})
    plan = planned(folded, "singles", "transfer", policies=POLICIES, floor=True, source="sst")
    assert plan.arms[: -len(plan.arms) // 4] == planned(folded, "singles", "transfer", policies=POLICIES).arms
    arms = {arm.hash: arm for arm in plan.arms}
    floor = [c for c in plan.contrasts if c.role == "floor"]
    assert {c.baseline for c in floor} == {SINGLE, "transfer", TRANSFER_ALIGNED}
    for contrast in floor:
        assert contrast.method == f"{contrast.baseline}, other seeds"
        for pairs in contrast.units.values():
            for seed, ((ours,), (theirs,)) in pairs.items():
                assert (arms[ours].seed, arms[theirs].seed) == (seed + 2, seed)
                assert arms[ours].tasks == arms[theirs].tasks
                assert arms[ours].policy == arms[theirs].policy == NO_POLICY
    assert not [arm for arm in planned(data, "singles", policies=POLICIES).arms if arm.floor_of is not None]


def test_the_source_of_a_transfer_has_the_policy_of_the_arm_that_starts_from_it(data: SentimentData) -> None:
    plan = planned(data, "transfer", seeds=1, policies=POLICIES)
    arms = {arm.hash: arm for arm in plan.arms}
    assert all(arms[arm.source.hash].policy == arm.policy for arm in plan.arms if arm.source)
    assert not [c for c in plan.contrasts if c.held.get("method") == SOURCE]


def test_each_seed_has_its_own_fold_if_folds_are_set(data: SentimentData) -> None:
    folded = data.model_copy(update={"folds": 2})
    first, second, third = arms_of(planned(folded, "singles", seeds=3), SINGLE)[:3]
    assert first.tasks != second.tasks
    assert first.tasks == third.tasks


@pytest.mark.parametrize(
    ("experiment", "changes", "message"),
    [
        ("pairs", {"tasks": ("mr",)}, "pairs needs at least two tasks; got only mr: add one"),
        (
            "transfer",
            {"tasks": ("mr", "cr")},
            "transfer's source task, sst, is not among the tasks mr and cr: add it",
        ),
    ],
)
def test_an_experiment_without_the_tasks_it_needs_is_refused(
    data: SentimentData, experiment: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        planned(data.model_copy(update=changes), experiment)


def test_the_capacity_experiment_refuses_an_encoder_without_a_width(data: SentimentData) -> None:
    with pytest.raises(DataError, match="needs an encoder over words: lstm, cnn or mlp"):
        planned(data, "capacity", encoder=PretrainedSettings(), widths=(5,))
    planned(data, "capacity", encoder=MlpSettings(), widths=(5,))
