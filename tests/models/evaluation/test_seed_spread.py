"""The spread between seeds: its interval is that of a normal sample, and is not given for fewer than three seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.seed_spread import seed_spread

scores = st.lists(st.floats(0, 1), min_size=3, max_size=8)


def test_fewer_than_three_seeds_have_no_spread() -> None:
    assert [seed_spread([0.7, 0.8][:n]) for n in range(3)] == [None, None, None]


def test_three_seeds_as_in_a_table_of_chi_square() -> None:
    found = seed_spread([0.70, 0.72, 0.74])
    assert found is not None
    assert (found.sd, found.seeds) == (pytest.approx(0.02), 3)
    # chi-square with 2 degrees of freedom: 0.0506 and 7.378
    assert (found.lo, found.hi) == (
        pytest.approx(0.02 * (2 / 7.378) ** 0.5, rel=1e-3),
        pytest.approx(0.02 * (2 / 0.0506) ** 0.5, rel=1e-3),
    )


@given(scores, st.floats(-1, 1), st.floats(0.1, 10))
def test_the_spread_moves_with_the_scale_and_not_with_the_mean(values: list[float], shift: float, scale: float) -> None:
    found, moved = seed_spread(values), seed_spread([scale * value + shift for value in values])
    assert found is not None
    assert moved is not None
    assert found.lo <= found.sd <= found.hi
    assert (moved.sd, moved.lo, moved.hi) == pytest.approx(
        (scale * found.sd, scale * found.lo, scale * found.hi), abs=1e-9
    )


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_holds_the_true_spread_95_times_in_100(seeds: int) -> None:
    rng, held = np.random.default_rng(seeds), []
    for _ in range(4000):
        found = seed_spread(0.7 + 0.02 * rng.normal(size=seeds))
        assert found is not None
        held.append(found.lo <= 0.02 <= found.hi)
    assert np.mean(held) == pytest.approx(0.95, abs=0.014)
