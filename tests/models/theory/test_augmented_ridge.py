"""The risk of ridge regression on augmented rows, compared with its definition and with fits by least squares."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from models.theory.augmented_ridge import (
    CASES,
    RidgeCase,
    draw_design,
    exact_risk,
    ridge_penalty,
    squared_errors,
)
from models.theory.linear_tasks import Floats, stream


def draw(rows: int, dimensions: int, samples: int, seed: int) -> tuple[Floats, Floats, Floats]:
    generator = stream(seed, "test")
    shapes = (rows, dimensions), (rows, samples), (dimensions,)
    z, a, beta = (generator.standard_normal(shape) for shape in shapes)
    return z, a, beta


@limits(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 8), st.integers(1, 6), st.floats(-3, 3), st.integers(0, 10**6))
def test_the_risk_is_its_definition(rows: int, p: int, n: int, log_penalty: float, seed: int) -> None:
    z, a, beta = draw(rows, p, n, seed)
    t, noise = 10**log_penalty, 0.7
    inverse = np.linalg.inv(z.T @ z + t * np.eye(p))
    found = exact_risk(z, a, beta, noise, t)
    assert found.bias == pytest.approx(t**2 * np.sum((inverse @ beta) ** 2), rel=1e-7, abs=1e-12)
    assert found.variance == pytest.approx(noise**2 * np.linalg.norm(inverse @ z.T @ a) ** 2, rel=1e-7)
    assert found.total == found.bias + found.variance


@pytest.mark.parametrize("rows", [3, 9])
def test_every_draw_of_the_noise_is_a_fit_of_its_own(rows: int) -> None:
    z, a, beta = draw(rows, 5, 4, seed=1)
    noises = stream(2, "test").standard_normal((4, 5003))
    found = squared_errors(z, a, beta, noises, penalty=0.3)
    assert found.shape == (5003,)
    penalised = np.vstack([z, np.sqrt(0.3) * np.eye(5)])
    for i in (0, 1, 4999, 5000, 5002):
        labels = np.concatenate([z @ beta + a @ noises[:, i], np.zeros(5)])
        fitted = np.linalg.lstsq(penalised, labels)[0]
        assert found[i] == pytest.approx(np.sum((fitted - beta) ** 2), rel=1e-9)


def test_the_mean_squared_error_of_many_draws_is_the_risk() -> None:
    z, a, beta = draw(6, 8, 4, seed=3)
    errors = squared_errors(z, a, beta, 0.5 * stream(4, "test").standard_normal((4, 40_000)), penalty=1.0)
    deviation = (errors.mean() - exact_risk(z, a, beta, 0.5, 1.0).total) / (errors.std() / 200)
    assert abs(deviation) < 4


def test_the_inputs_have_variance_one_over_p_and_beta_has_length_one() -> None:
    inputs, beta = draw_design(stream(0, "test"), 50, 4000)
    assert (inputs**2).sum(1).mean() == pytest.approx(1, abs=0.02)
    assert np.linalg.norm(beta) == pytest.approx(1)


def test_the_penalty_counts_samples_where_it_is_kept_and_rows_where_it_is_rescaled() -> None:
    assert ridge_penalty("kept", 0.5, 10, 30) == 5
    assert ridge_penalty("rescaled", 0.5, 10, 30) == 15
    assert ridge_penalty("rescaled", 0.5, 10, 10) == ridge_penalty("kept", 0.5, 10, 10)


def test_a_regression_with_no_unseen_direction_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"dimensions must be at least samples \+ 1.*got 60 for 60 samples"):
        RidgeCase.model_validate(CASES[2].model_dump() | {"samples": 60})
