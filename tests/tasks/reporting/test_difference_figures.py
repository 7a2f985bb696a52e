"""The figures of differences: nothing is drawn where nothing was compared, and no name hides another."""

import numpy as np
import pytest

from tasks.reporting.difference_figures import differences, spread_out
from tests.tasks.fake_study import fake_study


def test_without_a_comparison_there_is_no_figure_of_differences() -> None:
    assert differences(fake_study(rates=(), methods=("uniform",))) is None


def test_names_beside_the_cost_figure_keep_apart_and_move_no_more_than_they_must() -> None:
    moved = spread_out([0.5, 0.1, 0.5, 0.9], 0.1, (0, 1))
    assert moved == pytest.approx([0.45, 0.1, 0.55, 0.9])
    crowded = spread_out([0.99] * 5, 0.2, (0, 1))
    assert np.diff(crowded) == pytest.approx([0.2] * 4)
    assert crowded.max() <= 1
