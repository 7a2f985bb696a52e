"""Mixup: mixed rows by explicit loops, their expectation, and the ridge that it acts as."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from models.theory.augmented_ridge import CASES, Convention, draw_design, exact_risk, squared_errors
from models.theory.label_mixing import (
    MixupSettings,
    draw_mixing,
    equivalent_ridge,
    expected_mixing,
    expected_square,
    mixup,
    risks_of_mixing,
)
from models.theory.linear_tasks import Floats, stream


def explicit_rows(seed: int, n: int, m: int, a: float) -> Floats:
    """The mixed rows' weights W, (m, n), from the same draws as `draw_mixing`."""
    generator = stream(seed, "test")
    pairs, weights = generator.integers(n, size=(2, m)), generator.beta(a, a, m)
    mixed = np.zeros((m, n))
    for row in range(m):
        mixed[row, pairs[0, row]] += weights[row]
        mixed[row, pairs[1, row]] += 1 - weights[row]
    return mixed


@limits(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 30), st.sampled_from([0.2, 1.0, 5.0]), st.integers(0, 10**6))
def test_the_mixing_is_that_of_explicit_rows(n: int, m: int, a: float, seed: int) -> None:
    mixed = explicit_rows(seed, n, m, a)
    np.testing.assert_allclose(mixed.sum(1), 1)
    np.testing.assert_allclose(draw_mixing(stream(seed, "test"), n, m, a), np.eye(n) + mixed.T @ mixed, atol=1e-12)


@pytest.mark.parametrize("a", [0.2, 1.0, 4.0])
def test_the_mean_mixing_is_the_expected_one(a: float) -> None:
    generator = stream(0, "test")
    drawn = np.array([draw_mixing(generator, 4, 8, a) for _ in range(4000)])
    deviations = (drawn.mean(0) - expected_mixing(4, 8, a)) / (drawn.std(0) / np.sqrt(4000))
    assert np.abs(deviations).max() < 4


def test_the_expected_square_of_a_uniform_weight_is_two_thirds() -> None:
    assert expected_square(1.0) == pytest.approx(2 / 3)
    weights = stream(0, "test").beta(0.3, 0.3, 200_000)
    assert expected_square(0.3) == pytest.approx((weights**2 + (1 - weights) ** 2).mean(), abs=2e-3)


@limits(max_examples=20)
@given(st.integers(2, 5), st.integers(1, 12), st.integers(0, 10**6))
def test_risks_and_errors_of_a_mixing_are_those_of_its_explicit_rows(n: int, m: int, seed: int) -> None:
    inputs, beta = draw_design(stream(seed, "design"), 7, n)
    noises, penalties = 0.4 * stream(seed, "noise").standard_normal(n), np.array([0.01, 1.0, 30.0])
    own = np.vstack([np.eye(n), explicit_rows(seed, n, m, 1.0)])
    mixing = draw_mixing(stream(seed, "test"), n, m, 1.0)
    risks, errors = risks_of_mixing(inputs, 2 * beta, noises, 0.4, mixing, penalties)
    for penalty, risk, error in zip(penalties, risks, errors, strict=True):
        assert risk == pytest.approx(exact_risk(own @ inputs, own, 2 * beta, 0.4, penalty).total, rel=1e-8)
        assert error == pytest.approx(
            squared_errors(own @ inputs, own, 2 * beta, noises[:, None], penalty)[0], rel=1e-8
        )


@pytest.mark.parametrize("convention", ["kept", "rescaled"])
@pytest.mark.parametrize("a", [0.2, 1.0])
def test_the_expected_mixing_acts_as_the_equivalent_ridge_where_inputs_are_centred(
    convention: Convention, a: float
) -> None:
    n, m, ridge = 6, 15, 0.07
    inputs, beta = draw_design(stream(0, "test"), 10, n)
    own = np.linalg.cholesky(expected_mixing(n, m, a)).T
    penalty = ridge * (n if convention == "kept" else n + m)

    def risks(x: Floats) -> tuple[float, float]:
        plain = exact_risk(x, np.eye(n), beta, 0.5, n * ridge * equivalent_ridge(convention, n, m, a))
        return exact_risk(own @ x, own, beta, 0.5, penalty).total, plain.total

    mixed, plain = risks(inputs - inputs.mean(0))
    assert mixed == pytest.approx(plain, rel=1e-10)
    mixed, plain = risks(inputs)
    assert abs(mixed / plain - 1) > 1e-4


def test_the_equivalent_ridge_is_larger_with_the_penalty_rescaled_and_smaller_with_it_kept() -> None:
    assert equivalent_ridge("rescaled", 10, 1000, 1.0) == pytest.approx(1010 / (10 + 2000 / 3))
    assert equivalent_ridge("kept", 10, 1000, 1.0) == pytest.approx(10 / (10 + 2000 / 3))


def test_many_mixed_rows_act_as_the_equivalent_ridge_and_few_only_nearly() -> None:
    settings = MixupSettings(
        cases=CASES[:1], concentrations=(1.0,), relative_ridges=(1.0,), multiples=(1, 50), draws=40
    )
    rows = [row for seed in range(16) for row in mixup(settings, seed)["rows"] if row["convention"] == "rescaled"]
    few, many = ([row for row in rows if row["multiple"] == m] for m in (1, 50))
    deviations = np.array([row["deviation"] for row in many])
    assert np.abs(deviations).max() < 4
    assert abs(deviations.mean()) < 0.75
    assert 0.6 < deviations.std() < 1.5
    off_few, off_many = (np.mean([row["off"] for row in part]) for part in (few, many))
    assert off_few > 4 * abs(off_many)


def test_the_risks_compared_are_those_of_centred_inputs_at_the_named_ridge() -> None:
    case = CASES[0]
    settings = MixupSettings(cases=(case,), concentrations=(1.0,), relative_ridges=(0.5,), multiples=(100,), draws=4)
    inputs, beta = draw_design(stream(7, f"mixup, {case}"), case.dimensions, case.samples)
    best = case.noise**2 * case.dimensions / case.samples
    for row in mixup(settings, 7)["rows"]:
        for name, ratio in (("plain", 1.0), ("equivalent", row["equivalent_ridge"])):
            penalty = case.samples * 0.5 * best * ratio
            expected = exact_risk(inputs - inputs.mean(0), np.eye(case.samples), beta, case.noise, penalty).total
            assert row[name] == pytest.approx(expected, rel=1e-9)
        assert row["change"] == pytest.approx(row["mixed"] / row["plain"] - 1)
        assert row["off"] == pytest.approx(row["mixed"] / row["equivalent"] - 1)
        assert row["deviation"] == pytest.approx((row["simulated"] - row["equivalent"]) / row["standard_error"])


def test_it_lowers_the_risk_well_below_the_best_ridge_only() -> None:
    settings = MixupSettings(cases=CASES[2:3], concentrations=(1.0,), multiples=(100,), draws=20)
    rows = [row for seed in range(6) for row in mixup(settings, seed)["rows"] if row["convention"] == "rescaled"]
    change = {ridge: np.mean([r["change"] for r in rows if r["relative_ridge"] == ridge]) for ridge in (0.1, 1.5)}
    assert change[0.1] < -0.05
    assert change[1.5] > 0


def test_uncentred_inputs_add_the_product_of_their_means() -> None:
    settings = MixupSettings(cases=CASES[:1], multiples=(10,), relative_ridges=(1.0,), draws=60)
    for row in mixup(settings, 0)["grams"]:
        assert 0.6 < row["deviation"] < 1.6
        assert (row["without_mean"] > 10) == (not row["centred"])
