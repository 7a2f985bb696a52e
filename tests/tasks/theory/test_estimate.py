"""Means over seeds with their intervals, spreads, and how both are written."""

import numpy as np
import pytest

from tasks.theory.estimate import Estimate, Spread
from tasks.theory.estimate_text import change_text, css_class, percent, percent_of, percent_span, points_text


def test_the_interval_over_seeds_is_by_students_t() -> None:
    found = Estimate.over([1.0, 2.0, 3.0, -1.0])
    assert (found.mean, found.above, found.seeds) == (1.25, 3, 4)
    assert found.hi is not None
    assert found.hi - found.mean == pytest.approx(3.182446 * 1.707825 / 2, rel=1e-5)
    one_seed = Estimate.over([0.5])
    assert (one_seed.mean, one_seed.lo, one_seed.hi) == (0.5, None, None)


def test_a_spread_has_the_quartiles_of_the_seeds_in_any_order() -> None:
    values = [7.0, -3.0, 0.0, 12.0, 1.0]
    found = Spread.over(values)
    assert (found.lowest, found.lower, found.median, found.upper, found.highest) == (-3, 0, 1, 7, 12)
    assert Spread.over(np.random.default_rng(0).permutation(values).tolist()) == found


def test_changes_are_signed_per_cent() -> None:
    assert (percent(12.345), percent(-0.831)) == ("+1,234 %", "−83 %")
    assert percent(-0.0213, 1) == "−2.1 %"
    assert percent_of(0.975) == "97.5 %"
    assert percent_span(-0.2176, -0.0144) == "−21.8 to −1.4 %"
    assert percent_span(0.04, 35.74) == "+4 to +3,574 %"


def test_a_change_is_written_with_its_interval_and_coloured_only_where_that_leaves_out_0() -> None:
    clear = Estimate(mean=-0.5, lo=-0.6, hi=-0.4, above=0, seeds=5)
    unclear = Estimate(mean=0.5, lo=-0.1, hi=1.1, above=4, seeds=5)
    one_seed = Estimate(mean=0.5, lo=None, hi=None, above=1, seeds=1)
    assert [change_text(each) for each in (clear, unclear, one_seed)] == [
        "−50 % (−60 to −40)",
        "+50 % (−10 to +110)",
        "+50 %",
    ]
    assert [points_text(each) for each in (clear, one_seed)] == ["−50.0 (−60.0 to −40.0)", "+50.0"]
    assert [css_class(each) for each in (clear, unclear, one_seed)] == ["good", "", "bad"]
    assert css_class(Estimate(mean=-0.5, lo=-1.1, hi=0.1, above=1, seeds=5)) == ""
