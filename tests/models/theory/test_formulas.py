import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from models.errors import SettingError
from models.theory.formulas import (
    expected_single_task_error,
    largest_sine,
    optimal_subspace,
    predicted_excess_error,
    theorem_2_bound,
    theorem_2_c,
)
from models.theory.linear_tasks import LinearSettings, draw_figure3_data, excess_error, stream
from models.theory.many_tasks import solve_shared
from models.theory.two_tasks import TwoTasks


@limits(max_examples=8)
@given(st.integers(2, 5), st.data(), st.integers(0, 10**6))
def test_proposition_3_gives_the_span_of_the_numerical_optimum(k: int, data: st.DataObject, seed: int) -> None:
    width = data.draw(st.integers(1, k))
    generator = stream(seed, "test")
    x = generator.standard_normal((40, 6)) * np.array([5.0, 1, 1, 1, 1, 0.3])
    labels, weights = generator.standard_normal((40, k)), generator.uniform(0.2, 3, k)
    grams = np.repeat((x.T @ x)[None], k, 0)
    found = solve_shared(grams, (x.T @ labels).T, width, seed=0, weights=weights)
    assert largest_sine(optimal_subspace(x, labels, weights, width), found.shared[:, :width]) < 1e-8


def test_proposition_3_refuses_widths_above_the_number_of_tasks() -> None:
    with pytest.raises(SettingError, match="up to the 2 tasks; got 3"):
        optimal_subspace(np.eye(4), np.ones((4, 2)), np.ones(2), 3)


def test_the_sine_between_spans_is_exact_when_they_are_close_and_one_when_they_are_at_right_angles() -> None:
    base = np.eye(5)[:, :2]
    turned = base.copy()
    turned[4, 1] = 1e-11
    assert largest_sine(base, turned @ np.array([[2.0, 1.0], [0.5, 3.0]])) == pytest.approx(1e-11, rel=1e-4)
    assert largest_sine(np.eye(5)[:, :1], np.eye(5)[:, 1:2]) == pytest.approx(1)


def test_theorem_2_is_refused_where_its_condition_fails() -> None:
    x = np.diag([4.0, 1.0])
    assert theorem_2_c(x, 0.999) == pytest.approx(4 * np.sqrt(1 - 0.999**2))
    assert theorem_2_bound(0.1, 0.7) == pytest.approx(0.6 + 1.0)
    with pytest.raises(SettingError, match="at most 1/3; got 4"):
        theorem_2_bound(theorem_2_c(np.diag([100.0, 1.0]), 0.9992), 0.1)


def test_the_expected_single_task_error_is_the_mean_error_of_least_squares() -> None:
    settings = LinearSettings(dimensions=10, target_samples=25)
    errors = []
    for seed in range(1000):
        drawn = draw_figure3_data(settings, (), seed)
        theta, _ = drawn.thetas(0.9, 1.0)
        own = np.linalg.solve(drawn.target.gram, drawn.target.cross(theta, 2.0))
        errors.append(excess_error(own, theta, drawn.target.covariance))
    assert np.mean(errors) == pytest.approx(expected_single_task_error(25, 10, 2.0), rel=0.08)


@pytest.mark.parametrize("cosine", [0.95, 0.999])
def test_the_predicted_error_at_the_optimum_holds_with_many_samples(cosine: float) -> None:
    settings = LinearSettings(dimensions=10, target_samples=400, norm=3)
    ratios = []
    for seed in range(40):
        drawn = draw_figure3_data(settings, (400,), seed)
        theta_1, theta_2 = drawn.thetas(cosine, settings.norm)
        for source in drawn.sources.values():
            pair = TwoTasks.from_grams(
                (drawn.target.gram[None], source.gram[None]),
                (drawn.target.cross(theta_1, 1)[None], source.cross(theta_2, 1)[None]),
            )
            error = excess_error(pair.optimum()[0][0], theta_1, drawn.target.covariance)
            both = (drawn.target.covariance, 400), (source.covariance, 400)
            ratios.append(error / predicted_excess_error(*both, theta_2 - theta_1, 1.0))
    assert np.median(ratios) == pytest.approx(1, abs=0.25)
