"""The report of a study on texts: the answer, its counts, the figures, and a self-contained page."""

import re
from pathlib import Path

import pytest

from tasks.records.study import StudyResults, read_results, write_results
from tasks.text.outcomes import (
    answer,
    best_single_task_widths,
    count_similarity_increases,
    question,
    similarities,
    summarise_effects,
    width_rows,
)
from tasks.text.report import draw_text_figures, write_text_report
from tests.tasks.fake_text_study import fake_text_study


@pytest.fixture(scope="module")
def study() -> StudyResults:
    return fake_text_study()


@pytest.fixture(scope="module")
def page(study: StudyResults, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_text_report(
        study, draw_text_figures(study), tmp_path_factory.mktemp("page") / "report.html"
    ).read_text()


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


def test_the_same_results_give_the_same_bytes(study: StudyResults, page: str, tmp_path: Path) -> None:
    assert write_text_report(study, draw_text_figures(study), tmp_path / "again.html").read_text() == page


def test_a_study_of_single_tasks_has_an_answer_and_no_similarity(study: StudyResults, tmp_path: Path) -> None:
    singles = study.model_copy(
        update={"comparisons": (), "arms": tuple(arm for arm in study.arms if arm.method == "single")}
    )
    assert answer(singles)[1].startswith("By task: MR 0.")
    assert (
        "Covariance"
        not in write_text_report(singles, draw_text_figures(singles), tmp_path / "singles.html").read_text()
    )


def test_widths_are_selected_on_validation(study: StudyResults, tmp_path: Path) -> None:
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
    capacity = study.model_copy(update={"arms": (*at(5, 0.9), *at(50, 0.8)), "comparisons": tuple(comparisons[:2])})
    assert [row.width for row in width_rows(capacity)] == [5, 50]
    assert {width for width, _ in best_single_task_widths(capacity).values()} == {5}
    assert "validation selects width 5" in answer(capacity)[0]
    assert "widths that sum to 15" in answer(capacity)[0]
    assert "<svg" in write_text_report(capacity, draw_text_figures(capacity), tmp_path / "capacity.html").read_text()
