"""Shared width: no transfer from width k on, the global optimum below."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from models.theory.linear_tasks import Floats, stream
from models.theory.many_tasks import single_task_solutions, solve_shared
from models.theory.two_tasks import TwoTasks


def draw(k: int, d: int, seed: int) -> tuple[Floats, Floats]:
    generator = stream(seed, "test")
    x = generator.standard_normal((k, 3 * d, d)) * 2.0 ** generator.uniform(-1, 1, (k, 1, d))
    y = np.einsum("kmd,kd->km", x, generator.standard_normal((k, d))) + generator.standard_normal((k, 3 * d))
    return np.einsum("kmi,kmj->kij", x, x), np.einsum("kmi,km->ki", x, y)


@limits(max_examples=25)
@given(st.integers(1, 5), st.integers(0, 3), st.integers(0, 10**6))
def test_with_a_width_of_k_or_more_every_task_has_its_single_task_solution_exactly(
    k: int, more: int, seed: int
) -> None:
    grams, crosses = draw(k, 6, seed)
    found = solve_shared(grams, crosses, k + more, seed=0)
    assert found.shared.shape == (6, k + more)
    np.testing.assert_array_equal(found.parameters, single_task_solutions(grams, crosses))


def test_no_solution_of_any_width_fits_better_than_width_k() -> None:
    grams, crosses = draw(4, 5, 0)
    losses = [solve_shared(grams, crosses, width, seed=0).loss for width in range(1, 6)]
    assert (np.diff(losses[:4]) < 0).all()
    assert losses[4] == losses[3]


@limits(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([None, (0.5, 3.0)]))
def test_two_tasks_of_width_one_reach_the_exact_optimum(seed: int, weights: tuple[float, float] | None) -> None:
    grams, crosses = draw(2, 5, seed)
    w = weights or (1.0, 1.0)
    exact = TwoTasks.from_grams((grams[:1], grams[1:]), (crosses[:1], crosses[1:]), w).optimum()
    found = solve_shared(grams, crosses, 1, seed=0, weights=np.array(w))
    np.testing.assert_allclose(found.parameters.T, np.concatenate(exact), atol=1e-7)


def test_more_starts_find_nothing_better() -> None:
    grams, crosses = draw(5, 6, 1)
    for width in (1, 3):
        few, many = (solve_shared(grams, crosses, width, seed=s, starts=n).loss for s, n in ((0, 12), (1, 36)))
        assert few == pytest.approx(many, rel=1e-10)


def test_the_optimum_is_stationary() -> None:
    grams, crosses = draw(4, 5, 2)
    found = solve_shared(grams, crosses, 2, seed=0)
    residual = np.einsum("ipq,qi->pi", grams, found.parameters) - crosses.T
    scale = np.abs(crosses).max()
    assert np.abs(residual @ found.heads.T).max() < 1e-9 * scale * np.abs(found.heads).max()
    assert np.abs(found.shared.T @ residual).max() < 1e-9 * scale
