"""A label-invariant row: the closed form against naive algebra and simulation, its condition, leading orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from models.theory.augmented_ridge import CASES, RidgeCase, draw_design
from models.theory.label_invariant import (
    AddedRows,
    ClosedFormSettings,
    LeadingOrderSettings,
    SimulationSettings,
    compare_with_algebra,
    compare_with_simulation,
    leading_order,
    orthogonalise,
    risk_fall,
    rotate_around,
    transform_helps,
)
from models.theory.linear_tasks import Floats, stream

SEEDS = st.integers(0, 10**6)
SMALL = RidgeCase(dimensions=8, samples=4, ridge=0.05, noise=0.4)


def naive_risk(rows: Floats, mixing: Floats, beta: Floats, noise: float, t: float) -> float:
    inverse = np.linalg.inv(rows.T @ rows + t * np.eye(len(beta)))
    return float(np.sum((t * inverse @ beta) ** 2) + noise**2 * np.sum((inverse @ rows.T @ mixing) ** 2))


def draw(p: int, n: int, seed: int) -> tuple[Floats, Floats, AddedRows]:
    generator = stream(seed, "test")
    inputs, beta = draw_design(generator, p, n)
    return inputs, beta, orthogonalise(inputs, rotate_around(generator, beta, inputs[:1]), [0])


@limits(max_examples=20)
@given(st.integers(2, 30), SEEDS)
def test_a_rotation_around_beta_keeps_lengths_and_labels(p: int, seed: int) -> None:
    generator = stream(seed, "test")
    inputs, beta = generator.standard_normal((3, 2, p)), generator.standard_normal(p)
    turned = rotate_around(generator, beta, inputs)
    np.testing.assert_allclose(turned @ beta, inputs @ beta, atol=1e-11)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(inputs, axis=-1))
    if p > 2:
        assert np.linalg.norm(turned - inputs, axis=-1).min() > 1e-3


def test_a_rotation_around_beta_goes_in_every_direction_alike() -> None:
    beta = np.array([1.0, 0, 0, 0])
    turned = rotate_around(stream(0, "test"), beta, np.tile([0.5, 2.0, 0, 0], (20_000, 1)))
    np.testing.assert_allclose(turned.mean(0), [0.5, 0, 0, 0], atol=0.05)
    np.testing.assert_allclose(np.cov(turned.T)[1:, 1:], np.eye(3) * 4 / 3, atol=0.05)


@limits(max_examples=20)
@given(SEEDS)
def test_added_rows_are_orthogonal_and_say_the_same_as_the_transformed_samples(seed: int) -> None:
    """Without a penalty, the shortest solution is that of the transformed samples with their sources' labels."""
    generator = stream(seed, "test")
    inputs, beta = draw_design(generator, 12, 5)
    turned, sources = rotate_around(generator, beta, inputs[[3, 1, 3]]), [3, 1, 3]
    added = orthogonalise(inputs, turned, sources)
    np.testing.assert_allclose(inputs @ added.rows.T, 0, atol=1e-12)
    np.testing.assert_allclose(added.rows @ added.rows.T, np.diag((added.rows**2).sum(1)), atol=1e-12)
    noises = generator.standard_normal(5)
    labels = inputs @ beta + noises
    expected = np.linalg.pinv(np.vstack([inputs, turned])) @ np.concatenate([labels, labels[sources]])
    rows, mixing = added.after(inputs)
    np.testing.assert_allclose(np.linalg.pinv(rows) @ (rows @ beta + mixing @ noises), expected, atol=1e-8)


def test_a_row_within_the_samples_span_adds_no_direction() -> None:
    inputs, beta = draw_design(stream(0, "test"), 10, 4)
    added = orthogonalise(
        inputs, np.stack([inputs[0] + inputs[2], rotate_around(stream(1, "t"), beta, inputs[0])]), [0, 0]
    )
    assert np.linalg.norm(added.rows[0]) < 1e-14
    assert np.linalg.norm(added.rows[1]) > 0.1


@limits(max_examples=40)
@given(st.integers(3, 12), st.data(), st.floats(-3, 2), st.floats(-3, 2), st.floats(0, 3), SEEDS)
def test_the_closed_form_is_the_difference_of_the_risks(
    p: int, data: st.DataObject, log_before: float, log_after: float, noise: float, seed: int
) -> None:
    n = data.draw(st.integers(1, p - 1))
    inputs, beta, added = draw(p, n, seed)
    before, after = 10**log_before, 10**log_after
    plain = naive_risk(inputs, np.eye(n), beta, noise, before)
    augmented = naive_risk(*added.after(inputs), beta, noise, after)
    found = risk_fall(inputs, added, beta, noise, (before, after))
    assert found == pytest.approx(plain - augmented, abs=1e-9 * (1 + plain + augmented))


@limits(max_examples=60)
@given(st.floats(-2, 2), st.floats(-2, 1), SEEDS)
def test_with_the_penalty_kept_it_helps_exactly_where_the_condition_says(
    log_penalty: float, log_noise: float, seed: int
) -> None:
    inputs, beta, added = draw(8, 5, seed)
    t, noise = 10**log_penalty, 10**log_noise
    fall = naive_risk(inputs, np.eye(5), beta, noise, t) - naive_risk(*added.after(inputs), beta, noise, t)
    assert transform_helps(added, beta, noise, t) == (fall > 0)


def test_closed_form_and_algebra_agree_on_random_regressions_that_get_better_and_worse() -> None:
    found = compare_with_algebra(ClosedFormSettings(cases=60, dimensions=40), seed=0)
    assert max(found["kept"], found["rescaled"]) < 1e-10
    assert found["cases"] == 60
    for convention in ("kept", "rescaled"):
        assert 5 < found[f"{convention} rises"] < 55


def test_simulated_falls_scatter_around_the_closed_form_by_their_standard_error() -> None:
    settings = SimulationSettings(cases=(SMALL,), draws=500)
    found = [row for seed in range(150) for row in compare_with_simulation(settings, seed)]
    for convention in ("kept", "rescaled"):
        rows = [row for row in found if row["convention"] == convention]
        deviations = np.array([row["deviation"] for row in rows])
        assert abs(deviations.mean()) < 0.3
        assert 0.8 < deviations.std() < 1.2
        assert {row["closed"] > 0 for row in rows} == {True, False}
        for row in rows[:3]:
            assert row["simulated"] == pytest.approx(row["closed"] + row["deviation"] * row["standard_error"])


def test_the_four_regressions_agree_with_their_simulation() -> None:
    rows = compare_with_simulation(SimulationSettings(draws=2000), seed=1)
    assert [(row["dimensions"], row["convention"]) for row in rows] == [
        (case.dimensions, convention) for case in CASES for convention in ("kept", "rescaled")
    ]
    assert max(abs(row["deviation"]) for row in rows) < 4


@pytest.mark.parametrize("seed", range(3))
def test_the_kept_fall_over_its_leading_order_is_the_same_function_in_every_design(seed: int) -> None:
    found = leading_order(LeadingOrderSettings(dimensions=50, samples=12), seed)
    u = np.array([row["relative_ridge"] for row in found["rows"]])
    kept, small = (np.array([row[name] for row in found["rows"]]) for name in ("kept", "small"))
    np.testing.assert_allclose(kept, u * (1 + 2 * u) / (2 * (1 + u) ** 2), rtol=1e-6)
    np.testing.assert_allclose(small, (1 + 2 * u) / (1 + u) ** 2, rtol=1e-6)
    np.testing.assert_allclose(kept[:5], [0.022, 0.20, 0.74, 0.967, 0.997], rtol=3e-3)


def test_the_rescaled_fall_tends_to_a_limit_of_its_design() -> None:
    settings = LeadingOrderSettings(relative_ridges=(440.0, 1e6))
    found = [leading_order(settings, seed) for seed in range(12)]
    for each in found:
        scale = 1 + abs(each["limit"])
        near, at_limit = (row["rescaled"] for row in each["rows"])
        assert near == pytest.approx(each["limit"], abs=0.02 * scale)
        assert at_limit == pytest.approx(each["limit"], abs=1e-4 * scale)
    limits_found = [each["limit"] for each in found]
    assert max(limits_found) < 1
    assert min(limits_found) < 0  # the bias rises in some designs


def test_a_design_without_unseen_directions_is_refused() -> None:
    with pytest.raises(ValidationError, match="got 30 for 30 samples"):
        LeadingOrderSettings(dimensions=30, samples=30)
