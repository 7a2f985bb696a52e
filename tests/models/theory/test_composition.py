import numpy as np
import pytest
from pydantic import ValidationError

from models.theory.composition import CompositionSettings, _two_reflections, composition
from models.theory.linear_tasks import stream

SMALL = CompositionSettings(dimensions=30, samples=10, transforms=3)


@pytest.mark.parametrize("seed", range(5))
def test_the_bias_falls_by_the_sum_of_the_sequential_projections(seed: int) -> None:
    rows = composition(SMALL, seed)["rows"]
    assert [row["transforms"] for row in rows] == [1, 2, 3]
    for row in rows:
        assert row["fall"] == pytest.approx(row["sum"], rel=1e-6)
        assert row["off"] == pytest.approx(row["fall"] / row["sum"] - 1)
        assert row["large_fall"] == pytest.approx(row["large_sum"], rel=1e-3)
        assert row["large_off"] == pytest.approx(row["large_fall"] / row["large_sum"] - 1)
    assert (np.diff([row["sum"] for row in rows]) > 0).all()
    assert (np.diff([row["large_sum"] for row in rows]) > 0).all()


def test_the_sums_hold_to_first_order_only() -> None:
    """With a penalty that is not small the sum is off, and so the agreement above says something."""
    rows = composition(CompositionSettings(dimensions=30, samples=10, transforms=3, small=0.5, large=2), 0)["rows"]
    assert min(abs(row["off"]) for row in rows) > 0.02
    assert min(abs(row["large_off"]) for row in rows) > 0.02


@pytest.mark.parametrize("seed", range(5))
def test_a_reflection_applied_twice_adds_nothing_and_a_rotation_does(seed: int) -> None:
    found = composition(SMALL, seed)["reflection"]
    assert found["first"] > 1e-8
    assert abs(found["second"]) < 1e-12
    assert found["length"] < 1e-13
    assert found["rotation_second"] > 1e-7


def test_the_reflections_are_their_own_inverses_and_keep_beta() -> None:
    beta = stream(0, "beta").standard_normal(6)
    first, second = _two_reflections(stream(1, "test"), beta)
    for reflection in (first, second):
        np.testing.assert_allclose(reflection @ reflection, np.eye(6), atol=1e-12)
        np.testing.assert_allclose(reflection.T @ beta, beta)
        assert np.linalg.det(reflection) == pytest.approx(-1)
    assert not np.allclose(first, second)


def test_more_transforms_than_unseen_directions_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"at least samples \+ 5"):
        CompositionSettings(dimensions=14, samples=10, transforms=5)
