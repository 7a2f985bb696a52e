"""The loss as a function of the ratio of the heads, compared with general-purpose optimisers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from scipy.optimize import minimize

from models.errors import SettingError
from models.theory.linear_tasks import Floats, stream
from models.theory.two_tasks import TwoTasks


def draw(seed: int, d: int = 4, samples: tuple[int, int] = (9, 12)) -> tuple[list[Floats], list[Floats]]:
    """Draw inputs and labels of two unrelated tasks."""
    generator = stream(seed, "test")
    inputs = [generator.standard_normal((m, d)) * 3.0 ** generator.uniform(-1, 1, d) for m in samples]
    return inputs, [x @ generator.standard_normal(d) + generator.standard_normal(len(x)) for x in inputs]


def pairs(inputs: list[Floats], labels: list[Floats], weights: tuple[float, float] = (1.0, 1.0)) -> TwoTasks:
    grams = tuple((x.T @ x)[None] for x in inputs)
    crosses = tuple((x.T @ y)[None] for x, y in zip(inputs, labels, strict=True))
    return TwoTasks.from_grams((grams[0], grams[1]), (crosses[0], crosses[1]), weights)


def loss(found: tuple[Floats, Floats], inputs: list[Floats], labels: list[Floats], weights=(1.0, 1.0)) -> float:
    parts = zip(weights, inputs, found, labels, strict=True)
    return float(sum(w * ((x @ theta[0] - y) ** 2).sum() for w, x, theta, y in parts))


def descent_losses(inputs: list[Floats], labels: list[Floats], weights: tuple[float, float]) -> list[float]:
    """Return the final losses of BFGS on B, a_1, a_2 from random starts."""
    d = inputs[0].shape[1]

    def loss_and_gradient(flat: Floats) -> tuple[float, Floats]:
        b, value, gradient = flat[:d], 0.0, np.zeros(d + 2)
        for i, (x, y, w) in enumerate(zip(inputs, labels, weights, strict=True)):
            residual = x @ b * flat[d + i] - y
            value += w * residual @ residual
            gradient[:d] += 2 * w * flat[d + i] * (x.T @ residual)
            gradient[d + i] = 2 * w * residual @ (x @ b)
        return value, gradient

    starts = stream(0, "naive").standard_normal((10, d + 2))
    ends = [
        minimize(loss_and_gradient, start, jac=True, method="BFGS", options={"gtol": 1e-9, "maxiter": 300})
        for start in starts
    ]
    return [end.fun for end in ends if np.abs(end.jac).max() < 1e-4]


@limits(max_examples=8)
@given(st.integers(0, 10**6), st.sampled_from([(1.0, 1.0), (0.3, 2.0)]))
def test_the_optimum_is_the_best_that_descents_from_many_starts_find(seed: int, weights: tuple[float, float]) -> None:
    data = draw(seed)
    best = loss(pairs(*data, weights).optimum(), *data, weights)
    found = descent_losses(*data, weights)
    assert best == pytest.approx(min(found), rel=1e-7)


def test_every_end_of_a_descent_is_among_the_local_minima() -> None:
    several = 0
    for seed in range(6):
        data = draw(seed)
        pair = pairs(*data)
        (ratios,) = pair.local_minima()
        known = [loss(pair.parameters(np.array([ratio])), *data) for ratio in ratios]
        ends = descent_losses(*data, (1.0, 1.0))
        several += len(ratios) > 1
        assert all(np.isclose(end, known, rtol=1e-6).any() for end in ends)
    assert several


@given(st.integers(0, 10**6), st.floats(-5, 5).filter(lambda t: abs(t) > 1e-3))
def test_the_loss_at_a_ratio_is_the_loss_of_its_parameters(seed: int, ratio: float) -> None:
    inputs, labels = draw(seed)
    pair = pairs(inputs, labels)
    constant = sum(float(y @ y) for y in labels)
    found = pair.parameters(np.array([ratio]))
    np.testing.assert_allclose(found[1], ratio * found[0])
    expected = loss(found, inputs, labels)
    assert pair.loss(np.array([[ratio]]))[0, 0] + constant == pytest.approx(expected, rel=1e-8, abs=1e-8 * constant)


@given(st.integers(0, 10**6))
def test_a_task_trained_with_its_own_copy_keeps_its_solution(seed: int) -> None:
    (x, _), (y, _) = draw(seed)
    first, second = pairs([x, x], [y, y]).optimum()
    own = np.linalg.lstsq(x, y)[0]
    np.testing.assert_allclose(first[0], own, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(second[0], own, rtol=1e-6, atol=1e-9)


def test_alternating_least_squares_never_raise_the_loss_and_end_in_a_local_minimum() -> None:
    for seed in range(5):
        data = draw(seed)
        pair = pairs(*data)
        losses = [loss(found, *data) for found in pair.alternating_least_squares([1, 2, 5, 20, 100, 3000])]
        assert (np.diff(losses) <= 1e-9).all()
        (ratios,) = pair.local_minima()
        known = [loss(pair.parameters(np.array([ratio])), *data) for ratio in ratios]
        assert np.isclose(losses[-1], known, rtol=1e-6).any()


def test_a_sweep_is_one_least_squares_fit_of_the_heads_and_one_of_b() -> None:
    inputs, labels = draw(3)
    b = np.linalg.lstsq(inputs[0], labels[0])[0]
    for _ in range(4):
        heads = [float(y @ (x @ b) / ((x @ b) @ (x @ b))) for x, y in zip(inputs, labels, strict=True)]
        stacked = np.concatenate([a * x for a, x in zip(heads, inputs, strict=True)])
        b = np.linalg.lstsq(stacked, np.concatenate(labels))[0]
    heads = [float(y @ (x @ b) / ((x @ b) @ (x @ b))) for x, y in zip(inputs, labels, strict=True)]
    ((first, second),) = pairs(inputs, labels).alternating_least_squares([4])
    np.testing.assert_allclose(first[0], heads[0] * b, rtol=1e-8)
    np.testing.assert_allclose(second[0], heads[1] * b, rtol=1e-8)


def test_pairs_do_not_influence_one_another() -> None:
    data = [draw(seed) for seed in (1, 2, 3)]
    grams = [np.stack([x[i].T @ x[i] for x, _ in data]) for i in (0, 1)]
    crosses = [np.stack([x[i].T @ y[i] for x, y in data]) for i in (0, 1)]
    batched = TwoTasks.from_grams((grams[0], grams[1]), (crosses[0], crosses[1])).optimum()[0]
    separate = np.concatenate([pairs(*one).optimum()[0] for one in data])
    np.testing.assert_allclose(batched, separate, rtol=1e-9)


def test_fewer_samples_in_total_than_dimensions_are_refused() -> None:
    with pytest.raises(SettingError, match="at least as many samples in total as dimensions"):
        pairs(*draw(0, samples=(2, 1)))
