"""The report of a study on texts: the answer, its counts, the figures, and a self-contained page."""

import re
from pathlib import Path

import numpy as np
import pytest

from tasks.data.texts import SentimentData
from tasks.engine.publish import write_report
from tasks.records.arms import ArmRecord
from tasks.records.base import write_results
from tasks.records.comparisons import ComparisonRecord
from tasks.records.study import StudyResults, read_results
from tasks.text.kind import TextKind
from tasks.text.outcomes import (
    answer,
    best_single_task_widths,
    count_similarity_increases,
    metric_name,
    parts_by_policy,
    question,
    similarities,
    summarise,
    summarise_effects,
    width_rows,
)
from tests.sentences import write_sentences
from tests.tasks.fake_text_study import fake_text_study


@pytest.fixture(scope="module")
def study() -> StudyResults:
    return fake_text_study()


@pytest.fixture(scope="module")
def kind(tmp_path_factory: pytest.TempPathFactory) -> TextKind:
    folder = write_sentences(tmp_path_factory.mktemp("texts") / "sentences")
    return TextKind(SentimentData(folder=folder, tasks=("mr", "cr")))


def page_of(kind: TextKind, study: StudyResults, folder: Path) -> str:
    return write_report(kind, study, kind.report.figures(study), kind.examples(), folder / "report.html").read_text()


@pytest.fixture(scope="module")
def page(kind: TextKind, study: StudyResults, tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(kind, study, tmp_path_factory.mktemp("page"))


def test_results_survive_writing_and_reading(study: StudyResults, tmp_path: Path) -> None:
    write_results(study, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == study


def test_the_answer_counts_pairs_and_similarities(study: StudyResults) -> None:
    first, second = answer(study)
    rows = {(row.method, row.baseline): row for row in summarise_effects(study, "pairs")}
    aligned = rows["aligned", "single"]
    assert (aligned.better, aligned.conditions) == (3, 3)
    assert "with alignment on 3 of 3 pairs of tasks" in first
    assert "13 of 15" in first
    assert count_similarity_increases(study) == (2, 3)
    assert "rose with alignment on 2 of 3 pairs" in second
    assert aligned.overall is not None
    assert aligned.overall.over == "seeds and sentences"
    assert f"{aligned.overall.delta:+.3f}" in first
    assert question(study).endswith("aligning them help?")


def test_a_capacity_control_has_its_own_sentence(study: StudyResults) -> None:
    renamed = {"joint": "single, own matrix"}
    control = tuple(
        found.model_copy(
            update={
                "method": renamed.get(found.method, found.method),
                "baseline": renamed.get(found.baseline, found.baseline),
            }
        )
        for found in study.comparisons
    )
    third = answer(study.model_copy(update={"comparisons": study.comparisons + control}))[2]
    rows = {(row.method, row.baseline): row for row in summarise_effects(study, "pairs")}
    assert f"own alignment matrix was higher than one without on {rows['joint', 'single'].in_words()};" in third
    assert third.endswith(f"higher than this control on {rows['aligned', 'joint'].in_words()}.")


def test_similarities_are_means_over_seeds_of_the_aligned_arms(study: StudyResults) -> None:
    found = {record.tasks: record for record in similarities(study)}
    assert len(found) == 3
    assert found["CR", "TREC"].after == pytest.approx(0.15)


def test_the_page_shows_the_answer_every_figure_and_escapes_the_rest(study: StudyResults, page: str) -> None:
    assert answer(study)[0] in page.replace("&#39;", "'")
    assert page.count("<svg") == 2
    assert "<b>nothing</b>" not in page
    assert "&lt;b&gt;nothing" in page
    for name in ("MR and CR", "TREC", "4 lines without a text"):
        assert name in page


def test_the_page_is_self_contained(page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert "<script" not in page


def test_the_same_results_give_the_same_bytes(kind: TextKind, study: StudyResults, page: str, tmp_path: Path) -> None:
    assert page_of(kind, study, tmp_path) == page


def test_a_study_of_single_tasks_has_an_answer_and_no_similarity(
    kind: TextKind, study: StudyResults, tmp_path: Path
) -> None:
    singles = study.model_copy(
        update={"comparisons": (), "arms": tuple(arm for arm in study.arms if arm.method == "single")}
    )
    assert answer(singles)[1].startswith("By task: MR 0.")
    assert "Covariance" not in page_of(kind, singles, tmp_path)


def test_a_task_without_a_finished_arm_is_not_in_the_answer(study: StudyResults) -> None:
    left = tuple(arm for arm in study.arms if arm.method == "single" and arm.labels != ("CR",))
    singles = study.model_copy(update={"comparisons": (), "arms": left})
    values = [np.mean([arm.mean.value for arm in left if arm.labels == (task,)]) for task in ("MR", "TREC")]
    assert answer(singles)[0].endswith(f"a mean test accuracy of {np.mean(values):.3f}, the mean of 3 seeds.")
    assert answer(singles)[1] == f"By task: MR {values[0]:.3f} and TREC {values[1]:.3f}."


def test_tasks_with_different_metrics_have_a_glue_score(study: StudyResults) -> None:
    assert metric_name(study) == "accuracy"
    first, *others = study.arms
    mixed = study.model_copy(update={"arms": (first.model_copy(update={"metric": "matthews"}), *others)})
    assert "the test GLUE score was higher" in answer(mixed)[0]


def capacity_study(study: StudyResults) -> StudyResults:
    def at(width: int, validation: float) -> list:
        arms = [arm for arm in study.arms if arm.method == "single"]
        arms += [arm for arm in study.arms if arm.method == "joint"][:3]
        return [
            arm.model_copy(
                update={
                    "facts": arm.facts | {"width": float(width), "validation": validation},
                    "condition": arm.condition.model_copy(update={"name": f"width {width}"}),
                }
            )
            for arm in arms
        ]

    comparisons = [
        found.model_copy(update={"experiment": "capacity"}) for found in study.comparisons if found.method == "joint"
    ]
    return study.model_copy(update={"arms": (*at(5, 0.9), *at(50, 0.8)), "comparisons": tuple(comparisons[:2])})


def test_widths_are_selected_on_validation(kind: TextKind, study: StudyResults, tmp_path: Path) -> None:
    capacity = capacity_study(study)
    assert [row.width for row in width_rows(capacity)] == [5, 50]
    assert {width for width, _ in best_single_task_widths(capacity).values()} == {5}
    assert "validation selects width 5" in answer(capacity)[0]
    assert "widths that sum to 15" in answer(capacity)[0]
    assert "<svg" in page_of(kind, capacity, tmp_path)


@pytest.mark.parametrize(("missing", "words"), [("joint", "no joint network"), ("single", "no single-task network")])
def test_widths_are_not_compared_if_no_arm_of_a_side_finished(
    kind: TextKind, study: StudyResults, tmp_path: Path, missing: str, words: str
) -> None:
    capacity = capacity_study(study)
    failed = {"status": "failed", "by_label": {}, "facts": {}, "reason": "the loss is not finite"}
    arms = tuple(arm.model_copy(update=failed) if arm.method == missing else arm for arm in capacity.arms)
    numbers = dict.fromkeys(("delta", "lo", "hi", "p_value"))
    lost = numbers | {"by_seed": (), "n_pairs": 0, "reason": "no seed in common"}
    comparisons = tuple(found.model_copy(update=lost) for found in capacity.comparisons)
    broken = capacity.model_copy(update={"arms": arms, "comparisons": comparisons})
    assert answer(broken) == [f"The widths cannot be compared: {words} finished."]
    assert "no seed in common" in page_of(kind, broken, tmp_path)
    nothing = broken.model_copy(update={"arms": tuple(arm for arm in arms if arm.status == "failed")})
    assert answer(nothing)[0].startswith("The widths cannot be compared")


POLICIES = ("none", "composed(operations=tf_idf)", "uncertainty")


@pytest.fixture(scope="module")
def policies(study: StudyResults) -> StudyResults:
    """Single-task networks under three policies; `single`, `joint` and `aligned` of the study in their place."""
    names = dict(zip(("single", "joint", "aligned"), POLICIES, strict=True))

    def of_factor(found: ComparisonRecord) -> ComparisonRecord:
        changed = {"method": names[found.method], "baseline": names[found.baseline]}
        return found.model_copy(update=changed | {"factor": "policy", "experiment": None})

    arms = [arm for arm in study.arms if arm.method == "single"]
    under = [
        arm.model_copy(
            update={
                "factors": arm.factors | {"policy": policy},
                "chosen": {"tf_idf": 0.9, "uniform": 1.25} if policy == "uncertainty" else {},
            }
        )
        for policy in POLICIES
        for arm in arms
    ]
    others = {"method": "single, other seeds"}
    under += [arm.model_copy(update={"factors": arm.factors | others | {"policy": "none"}}) for arm in arms]
    compared = [of_factor(c) for c in study.comparisons if c.baseline == "single"]
    floor = [c.model_copy(update=others | {"experiment": None}) for c in study.comparisons if c.method == "joint"]
    return study.model_copy(update={"arms": tuple(under), "comparisons": tuple(compared), "floor": tuple(floor)})


def test_a_study_of_policies_asks_about_them_and_answers_with_the_noise_floor(policies: StudyResults) -> None:
    assert "replace words" in question(policies)
    tf_idf, uncertainty, floor = answer(policies)
    (row,) = [row for row in summarise(policies.comparisons) if row.method == "uncertainty"]
    networks = "policy uncertainty, the test accuracy of single-task networks was higher than with none on "
    assert networks + row.in_words("tasks") in uncertainty
    assert "policy composed(operations=tf_idf)" in tf_idf
    assert floor.startswith("The noise floor of single-task networks: with other seeds, none was higher on ")


def test_the_page_of_policies_shows_scores_differences_floor_and_choice(
    kind: TextKind, policies: StudyResults, tmp_path: Path
) -> None:
    page = page_of(kind, policies, tmp_path)
    assert page.count("<svg") == 1
    for text in ("Augmentation policies", "none, other seeds", "(noise floor)", "What the selection prefers", "1.25"):
        assert text in page.replace("<wbr>", "").replace("\u200b", "")
    scores = page.partition("test accuracy</th>")[2].partition("</table>")[0]
    assert (scores.count("<tr>"), scores.count("<b>")) == (3, 9)
    assert "single · uncertainty" in page


def test_methods_are_shown_under_each_policy_by_itself(kind: TextKind, study: StudyResults, tmp_path: Path) -> None:
    def under(policy: str) -> tuple[list[ArmRecord], list[ComparisonRecord]]:
        arms = [arm.model_copy(update={"factors": arm.factors | {"policy": policy}}) for arm in study.arms]
        return arms, [c.model_copy(update={"held": {"policy": policy}}) for c in study.comparisons]

    (first, compared), (second, others) = under("none"), under("composed")
    both = study.model_copy(update={"arms": (*first, *second), "comparisons": (*compared, *others)})
    assert answer(both) == answer(study)
    assert [policy for policy, _ in parts_by_policy(both)] == ["none", "composed"]
    page = page_of(kind, both, tmp_path)
    assert "Pairs of tasks, policy none" in page
    assert "Pairs of tasks, policy composed" in page
    assert page.count("<svg") == 3


def test_two_seeds_are_enough_for_a_page_but_not_for_a_verdict(
    kind: TextKind, study: StudyResults, tmp_path: Path
) -> None:
    given = {"over": "sentences", "p_value": 1e-9, "p_adjusted": 1e-8}
    two = study.model_copy(update={"comparisons": tuple(c.model_copy(update=given) for c in study.comparisons)})
    assert "on 3 of 3 pairs of tasks (these networks only)" in answer(two)[0]
    assert "clearly" not in " ".join(answer(two))
    page = page_of(kind, two, tmp_path)
    assert not re.findall("better|worse", page)
    assert page.count("these networks only") >= len(study.comparisons)
    assert "cannot show whether another training would do the same" in page
