"""The figure of policies: what was compared is in it once, and it is there only where it answers something."""

import pytest

from tasks.records.study import StudyResults
from tasks.reporting.figure_style import GREY
from tasks.reporting.policy_figures import policies_and_noise
from tests.tasks.fake_study import big_study, fake_study, interaction_study, policy_study


@pytest.mark.parametrize("study", [big_study(), fake_study(), policy_study(), policy_study(methods=("uniform",))])
def test_a_study_without_interactions_and_equal_compute_has_no_such_figure(study: StudyResults) -> None:
    assert policies_and_noise(study) is None


@pytest.mark.parametrize("methods", [("uniform",), ("uniform", "svd")])
def test_every_policy_has_a_row_at_equal_steps_and_at_equal_compute(methods: tuple[str, ...]) -> None:
    drawn = policies_and_noise(interaction_study(methods))
    for text, count in (("none", 1), ("uncertainty", 2), ("equal steps: minus composed", 1),
                        ("equal compute: minus compute_matched", 1), ("no added noise", 1),
                        ("20 % random labels", 2), ("minus no added noise", 1)):  # fmt: skip
        assert drawn.count(f">{text}<") == count, text
    for method in methods:
        assert drawn.count(f">{method}<") == (len(methods) > 1)


def test_the_floor_is_a_grey_band_where_it_was_trained() -> None:
    study = interaction_study()
    with_floor = policies_and_noise(study)
    assert with_floor.count("noise floor") == 1
    assert with_floor.count(f"fill: {GREY}") == 3 + 1  # a band in each panel, and the legend
    bare = study.model_copy(update={"floor": ()})
    drawn = policies_and_noise(bare)
    assert "noise floor" not in drawn
    assert GREY not in drawn


def test_equal_compute_without_noise_has_one_panel() -> None:
    study = interaction_study()
    clean = [c for c in study.comparisons if c.condition.kind == "none"]
    drawn = policies_and_noise(study.model_copy(update={"comparisons": tuple(clean), "interactions": ()}))
    assert "random labels" not in drawn
    assert drawn.count(">no added noise<") == 1
    assert drawn.count(">uncertainty<") == 2


def test_the_same_results_give_the_same_bytes() -> None:
    assert policies_and_noise(interaction_study()) == policies_and_noise(interaction_study())
