import numpy as np
import pytest

from models.theory.gradient_flow import integrate, random_starts
from models.theory.linear_tasks import Floats, stream
from models.theory.two_tasks import TwoTasks

Pair = tuple[Floats, Floats]


def draw(pairs: int, d: int, seed: int = 0) -> tuple[Pair, Pair]:
    generator = stream(seed, "test")
    x = generator.standard_normal((2, pairs, 20, d)) * np.array([3.0] + [1.0] * (d - 1))
    y = np.einsum("kpmd,d->kpm", x, generator.standard_normal(d)) + generator.standard_normal((2, pairs, 20))
    grams, crosses = np.einsum("kpmi,kpmj->kpij", x, x), np.einsum("kpmi,kpm->kpi", x, y)
    return (grams[0], grams[1]), (crosses[0], crosses[1])


def plain_descent(grams: Pair, crosses: Pair, start: Pair, steps: int, finer: int) -> Floats:
    """Run gradient descent with `finer` times as many steps of size 1 / (finer lambda)."""
    b, a = start[0].copy(), start[1].copy()
    rate = 1 / np.linalg.eigvalsh(grams[0] + grams[1])[:, -1:] / finer
    for _ in range(steps * finer):
        residual = [a[:, i : i + 1] * np.einsum("pij,pj->pi", grams[i], b) - crosses[i] for i in (0, 1)]
        gradient = a[:, :1] * residual[0] + a[:, 1:] * residual[1]
        a = a - rate * np.stack([(residual[i] * b).sum(1) for i in (0, 1)], 1)
        b = b - rate * gradient
    return a[:, :1] * b


def test_the_flow_agrees_with_gradient_descent_with_small_steps() -> None:
    grams, crosses = draw(6, 3)
    start = random_starts(stream(1, "test"), 6, 3)
    for steps, found in zip((20, 400), integrate(grams, crosses, start, [20, 400]), strict=True):
        expected = plain_descent(grams, crosses, start, steps, finer=20)
        np.testing.assert_allclose(found, expected, atol=0.12 * np.linalg.norm(expected, axis=1).max())
    (end,) = integrate(grams, crosses, start, [np.inf])
    np.testing.assert_allclose(end, plain_descent(grams, crosses, start, 10_000, finer=2), atol=1e-6)


def test_the_flow_ends_in_a_local_minimum() -> None:
    grams, crosses = draw(30, 5)
    pairs = TwoTasks.from_grams(grams, crosses)
    (end,) = integrate(grams, crosses, random_starts(stream(2, "test"), 30, 5), [np.inf])
    for p, ratios in enumerate(pairs.local_minima()):
        known = [pairs.parameters(np.full(30, ratio))[0][p] for ratio in ratios]
        assert min(np.abs(theta - end[p]).max() for theta in known) < 1e-6


def test_a_weight_of_two_equals_repeated_data() -> None:
    grams, crosses = draw(4, 3)
    start = random_starts(stream(3, "test"), 4, 3)
    (weighted,) = integrate(grams, crosses, start, [np.inf], weights=(1.0, 2.0))
    (doubled,) = integrate((grams[0], 2 * grams[1]), (crosses[0], 2 * crosses[1]), start, [np.inf])
    np.testing.assert_allclose(weighted, doubled)


def test_starts_are_of_expected_length_one() -> None:
    shared, heads = random_starts(stream(0, "test"), 4000, 50)
    assert (shared**2).sum(1).mean() == pytest.approx(1, abs=0.02)
    assert heads.std() == pytest.approx(1, abs=0.05)
