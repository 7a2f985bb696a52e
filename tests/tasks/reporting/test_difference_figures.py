"""The figures of differences: nothing is drawn where nothing was compared, and no name hides another."""

import numpy as np
import pytest

from tasks.reporting.difference_figures import differences, spread_out
from tasks.reporting.figure_style import GREY
from tests.tasks.fake_study import OTHER_SEEDS, TRUST, TWO_STAGES, big_study, fake_study

CONTROL = {"svd": "permuted_weights(svd)"}


def test_without_a_comparison_there_is_no_figure_of_differences() -> None:
    assert differences(fake_study(rates=(), methods=("uniform",))) is None


def test_few_conditions_have_a_row_per_comparison_with_the_noise_floor_among_them() -> None:
    drawn = differences(fake_study(seeds=(0, 1, 2), controls=CONTROL, floor=True))
    for name in ("svd", "uncertainty", *CONTROL.values(), OTHER_SEEDS):
        assert drawn.count(f">{name}<") == 2
    assert drawn.index(">svd<") < drawn.index(f">{CONTROL['svd']}<") < drawn.index(">uncertainty<")
    assert GREY in drawn
    assert GREY not in differences(fake_study(seeds=(0, 1, 2), controls=CONTROL))


def test_three_noise_rates_have_a_panel_per_method_with_its_control_in_it() -> None:
    study = big_study()
    drawn = differences(study)
    for name in ("svd", TWO_STAGES, TRUST, "oracle", "its control", "noise floor", "one seed"):
        assert drawn.count(f">{name}<") == 1
    assert "permuted" not in drawn
    bare = differences(study.model_copy(update={"floor": (), "controls": ()}))
    assert "noise floor" not in bare
    assert "its control" not in bare
    assert "permuted" in bare  # without its contrast, a control is a method like any other


def test_no_figure_of_differences_says_better_or_worse() -> None:
    for study in (big_study(), fake_study()):
        drawn = differences(study)
        assert "better" not in drawn
        assert "worse" not in drawn


def test_names_beside_the_cost_figure_keep_apart_and_move_no_more_than_they_must() -> None:
    moved = spread_out([0.5, 0.1, 0.5, 0.9], 0.1, (0, 1))
    assert moved == pytest.approx([0.45, 0.1, 0.55, 0.9])
    crowded = spread_out([0.99] * 5, 0.2, (0, 1))
    assert np.diff(crowded) == pytest.approx([0.2] * 4)
    assert crowded.max() <= 1
