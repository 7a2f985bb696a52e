"""Which arms a study on texts has: none twice, each held against arms that saw the same data."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.errors import DataError
from models.networks.pretrained_encoder import PretrainedSettings
from models.networks.word_encoders import LstmSettings, MlpSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import ArmRef
from tasks.data.texts import SentimentData
from tasks.text.plan import (
    ALIGNED,
    JOINT,
    LEAKY,
    SINGLE,
    SINGLE_MATRIX,
    SOURCE,
    TextMethod,
    TextPlan,
    plan_texts,
    with_sources,
)
from tasks.text.spec import TextArm
from tests.sentences import write_sentences


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SentimentData:
    folder = write_sentences(tmp_path_factory.mktemp("texts") / "sentences")
    return SentimentData(folder=folder, tasks=("mr", "sst", "cr"))


def planned(data: SentimentData, *experiments: str, seeds: int = 2, **changes: Any) -> TextPlan:
    how = {"encoder": LstmSettings(), "align": "free", "training": TextTrainingSettings(), "max_length": 50} | changes
    return plan_texts.fn(data, experiments, TextMethod(**how), range(seeds), "cpu", 1)


def of(plan: TextPlan, method: str) -> list[TextArm]:
    return [arm for arm in plan.arms if arm.method == method]


def test_a_task_alone_is_trained_once_a_seed_whatever_it_is_held_against(data: SentimentData) -> None:
    plan = planned(data, "singles", "pairs")
    alone = {arm.condition for arm in of(plan, SINGLE)}
    assert alone == {"MR", "SST", "CR", "MR, kept apart from SST", "SST, kept apart from MR"} - {
        # SST's training part holds none of MR's test sentences here
        "SST, kept apart from MR"
    }
    assert len(of(plan, SINGLE)) == 2 * len(alone)
    assert len(of(plan, JOINT)) == len(of(plan, ALIGNED)) == 2 * 3
    assert len({arm.hash for arm in plan.arms}) == len(plan.arms)


def test_both_sides_of_a_comparison_saw_the_same_training_sentences(data: SentimentData) -> None:
    plan = planned(data, "pairs", control=True)
    arms = {arm.hash: arm for arm in plan.arms}
    for contrast in plan.contrasts:
        for method, baseline in contrast.arms.values():
            ours, theirs = ({k: v for hash in side for k, v in arms[hash].tasks.items()} for side in (method, baseline))
            assert ours == theirs
            assert {arms[hash].seed for hash in (*method, *baseline)} == {arms[method[0]].seed}


def test_shared_sentences_are_left_in_only_where_that_is_the_question(data: SentimentData) -> None:
    plan = planned(data, "pairs", leave_overlap=True)
    (leaky, *_) = of(plan, LEAKY)
    assert {arm.condition for arm in of(plan, LEAKY)} == {"MR and SST"}
    (clean, *_) = (arm for arm in of(plan, JOINT) if arm.condition == "MR and SST")
    assert leaky.tasks["mr"] != clean.tasks["mr"]
    assert {c.baseline for c in plan.contrasts if c.kind == "overlap"} == {JOINT, SINGLE}
    assert not [arm for arm in planned(data, "pairs").arms if arm.keep_overlap]


def test_the_control_differs_from_a_task_alone_by_its_matrix_and_is_held_against_both(data: SentimentData) -> None:
    plan = planned(data, "pairs", control=True)
    alone, own = of(plan, SINGLE), of(plan, SINGLE_MATRIX)
    assert [(arm.condition, arm.seed, arm.tasks) for arm in own] == [(a.condition, a.seed, a.tasks) for a in alone]
    assert {arm.network.alignment for arm in own} == {"free"}
    assert {arm.network.alignment for arm in alone} == {"none"}
    held = {(contrast.method, contrast.baseline) for contrast in plan.contrasts}
    assert held >= {(SINGLE_MATRIX, SINGLE), (ALIGNED, SINGLE_MATRIX)}
    assert not of(planned(data, "pairs"), SINGLE_MATRIX)


def test_what_does_not_concern_an_arm_is_not_in_its_hash(data: SentimentData) -> None:
    plans = [
        planned(data, "pairs"),
        planned(data, "pairs", align="rotation", training=TextTrainingSettings(schedule="alternating")),
    ]
    for method in (JOINT, SINGLE):
        assert [arm.hash for arm in of(plans[0], method)] == [arm.hash for arm in of(plans[1], method)]
    assert not {arm.hash for arm in of(plans[0], ALIGNED)} & {arm.hash for arm in of(plans[1], ALIGNED)}


def test_another_folder_with_the_same_files_gives_the_same_arms(data: SentimentData, tmp_path: Path) -> None:
    again = SentimentData(folder=write_sentences(tmp_path / "again"), tasks=data.tasks)
    assert [arm.hash for arm in planned(again, "pairs").arms] == [arm.hash for arm in planned(data, "pairs").arms]


def test_transfer_begins_with_an_arm_of_an_earlier_stage(data: SentimentData) -> None:
    plan = planned(data, "transfer", seeds=1, source="sst", fine_tuning_epochs=3)
    sources, others = plan.stages
    assert {arm.method for arm in sources} == {SOURCE}
    tuned = [arm for arm in others if arm.source]
    assert len(tuned) == 4
    assert {arm.training.epochs for arm in tuned} == {3}
    assert all(arm.vocabulary_tasks == sources[0].vocabulary_tasks for arm in tuned)
    done = {arm.hash: ArmRef(run_id=f"run of {arm.hash}", reused=False) for arm in sources}
    told = with_sources(others, done)
    assert [arm.hash for arm in told] == [arm.hash for arm in others]
    assert {arm.source.run_id for arm in told if arm.source} == {f"run of {arm.hash}" for arm in sources}
    assert with_sources(tuned, {}) == []


def test_the_capacity_curve_has_every_width_together_and_alone(data: SentimentData) -> None:
    plan = planned(data, "capacity", seeds=1, widths=(5, 20))
    assert sorted({arm.network.encoder.width for arm in plan.arms}) == [5, 20]
    assert (len(of(plan, JOINT)), len(of(plan, SINGLE))) == (2, 6)
    assert [contrast.condition for contrast in plan.contrasts] == ["width 5", "width 20"]


def test_seeds_have_folds_of_their_own_where_there_are_folds(data: SentimentData) -> None:
    folded = data.model_copy(update={"folds": 2})
    first, second, third = of(planned(folded, "singles", seeds=3), SINGLE)[:3]
    assert first.tasks != second.tasks
    assert first.tasks == third.tasks


@pytest.mark.parametrize(
    ("experiment", "changes", "said"),
    [
        ("pairs", {"tasks": ("mr",)}, "pairs takes two tasks or more; got MR|got mr"),
        ("transfer", {"tasks": ("mr", "cr")}, "transfer begins with sst, which is not among mr and cr"),
    ],
)
def test_tasks_that_do_not_suffice(data: SentimentData, experiment: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        planned(data.model_copy(update=changes), experiment)


def test_encoders_without_a_width_have_no_capacity_curve(data: SentimentData) -> None:
    with pytest.raises(DataError, match="encoders over words"):
        planned(data, "capacity", encoder=PretrainedSettings(), widths=(5,))
    planned(data, "capacity", encoder=MlpSettings(), widths=(5,))
