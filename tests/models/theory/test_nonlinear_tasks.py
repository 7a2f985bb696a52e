"""Non-linear tasks compared with the exact linear solution, scikit-learn and numerical gradients."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.linear_model import LogisticRegression

from models.theory.linear_tasks import stream
from models.theory.nonlinear_tasks import (
    ACROSS,
    ALONG,
    LINKS,
    Figure2Settings,
    NonlinearFigure3Settings,
    NonlinearSettings,
    _loss,
    draw_labels,
    figure_2,
    fit_shared,
    nonlinear_figure_3,
    wrong_side_share,
)
from models.theory.two_tasks import TwoTasks

PLAIN = NonlinearSettings(ridge=0, starts=8)


@pytest.mark.parametrize("link", LINKS)
def test_the_gradient_is_that_of_the_loss(link) -> None:
    generator = stream(0, "test")
    x = [generator.standard_normal((9, 3)) for _ in range(2)]
    y = [draw_labels(generator, link, each, np.ones(3), 1.0) for each in x]
    at = generator.standard_normal(5)
    error = check_grad(lambda flat: _loss(flat, link, x, y, 0.1)[0], lambda flat: _loss(flat, link, x, y, 0.1)[1], at)
    assert error < 1e-5


def test_the_linear_link_reaches_the_exact_optimum() -> None:
    generator = stream(1, "test")
    x = [generator.standard_normal((m, 4)) for m in (15, 25)]
    y = [each @ generator.standard_normal(4) + generator.standard_normal(len(each)) for each in x]
    grams, crosses = [(e.T @ e)[None] for e in x], [(e.T @ f)[None] for e, f in zip(x, y, strict=True)]
    exact = TwoTasks.from_grams((grams[0], grams[1]), (crosses[0], crosses[1])).optimum()
    found, _ = fit_shared("linear", x, y, PLAIN, generator)
    np.testing.assert_allclose(found, np.concatenate(exact), atol=1e-3)


def test_one_logistic_task_is_a_logistic_regression() -> None:
    generator = stream(2, "test")
    x = generator.standard_normal((200, 3))
    y = draw_labels(generator, "logistic", x, np.array([1.0, -2.0, 0.5]), 1.0)
    found, _ = fit_shared("logistic", [x], [y], NonlinearSettings(ridge=0.01, starts=2), generator)
    expected = LogisticRegression(C=1 / (0.01 * 200), fit_intercept=False, tol=1e-8).fit(x, y).coef_
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_relu_task_without_noise_is_recovered() -> None:
    generator = stream(3, "test")
    x, theta = generator.standard_normal((100, 4)), np.array([1.0, -1.0, 2.0, 0.5])
    found, loss = fit_shared("relu", [x], [np.maximum(x @ theta, 0)], PLAIN, generator)
    np.testing.assert_allclose(found[0], theta, atol=1e-3)
    assert loss < 1e-5


def test_the_wrong_side_share_is_that_of_inputs_between_the_two_boundaries() -> None:
    generator = stream(4, "test")
    covariance = np.diag([4.0, 1.0, 0.25])
    found, theta = generator.standard_normal((2, 3))
    x = generator.standard_normal((400_000, 3)) * np.sqrt(np.diag(covariance))
    assert wrong_side_share(found, theta, covariance) == pytest.approx(
        np.mean((x @ found > 0) != (x @ theta > 0)), abs=0.005
    )
    assert wrong_side_share(3 * theta, theta, covariance) == pytest.approx(0, abs=1e-7)
    assert wrong_side_share(-theta, theta, covariance) == pytest.approx(1, abs=1e-7)
    assert wrong_side_share(0 * theta, theta, covariance) == 0.5


@pytest.mark.parametrize("link", ["linear", pytest.param("relu", marks=pytest.mark.slow)])
def test_a_source_with_the_same_boundary_helps_or_hurts_depending_on_its_inputs(link) -> None:
    found = [figure_2(link, Figure2Settings(), NonlinearSettings(), seed) for seed in range(8)]
    assert np.mean([seed[ACROSS] - seed[""] for seed in found]) < 0
    assert np.mean([seed[ALONG] - seed[""] for seed in found]) > 0


def test_figure_3_with_a_link_has_every_source_and_size() -> None:
    settings = NonlinearFigure3Settings(dimensions=10, target_samples=20, source_samples=(20, 50))
    found = nonlinear_figure_3("logistic", settings, NonlinearSettings(starts=0), 0)
    assert list(found) == ["", "2 20", "2 50", "3 20", "3 50", "4 20", "4 50"]
    assert all(0 <= share <= 1 for share in found.values())
