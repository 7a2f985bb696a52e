import numpy as np
import pytest
from pydantic import ValidationError

from models.theory.linear_tasks import (
    LinearSettings,
    draw_figure3_data,
    draw_task,
    excess_error,
    random_rotation,
    stream,
)

SMALL = LinearSettings(dimensions=10, target_samples=30)


def test_the_inputs_have_the_covariance_q_d_squared_q_transposed() -> None:
    generator = stream(0, "test")
    q, scales = random_rotation(generator, 4), np.array([10.0, 1.0, 1.0, 2.0])
    drawn = draw_task(generator, q, scales, 400_000)
    np.testing.assert_allclose(drawn.covariance, q @ np.diag(scales**2) @ q.T, atol=1e-12)
    np.testing.assert_allclose(drawn.gram / drawn.samples, drawn.covariance, atol=0.03 * 100)


def test_a_rotation_is_orthogonal() -> None:
    q = random_rotation(stream(0, "test"), 7)
    np.testing.assert_allclose(q @ q.T, np.eye(7), atol=1e-14)


def test_task_2_has_the_targets_covariance_and_tasks_3_and_4_have_not() -> None:
    drawn = draw_figure3_data(SMALL, (40,), seed=1)
    target = drawn.target.covariance
    off = {task: np.abs(inputs.covariance - target).max() for (task, _), inputs in drawn.sources.items()}
    assert off[2] == 0
    assert off[3] > 1000
    assert off[4] > 1000
    spectra = [np.linalg.eigvalsh(inputs.covariance) for inputs in (drawn.target, *drawn.sources.values())]
    for spectrum in spectra:
        np.testing.assert_allclose(spectrum, [1.0] * 9 + [1e4], rtol=1e-9)


def test_the_large_coordinates_of_task_3_are_not_the_targets() -> None:
    drawn = draw_figure3_data(LinearSettings(dimensions=20, target_samples=40), (40,), seed=1)
    both = drawn.target.covariance @ drawn.sources[3, 40].covariance
    assert np.linalg.eigvals(both).real.max() == pytest.approx(1e4)  # 1e8 if a coordinate were large in both


@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.96, 0.999])
def test_the_thetas_have_the_given_length_and_cosine(cosine: float) -> None:
    theta_1, theta_2 = draw_figure3_data(SMALL, (10,), seed=2).thetas(cosine, 3.0)
    assert np.linalg.norm(theta_1) == pytest.approx(3)
    assert np.linalg.norm(theta_2) == pytest.approx(3)
    assert theta_1 @ theta_2 / 9 == pytest.approx(cosine)


def test_a_draw_depends_on_the_seed_but_not_on_what_else_is_drawn() -> None:
    one, more = (draw_figure3_data(SMALL, sizes, seed=3) for sizes in ((100,), (10, 100)))
    np.testing.assert_array_equal(one.sources[4, 100].gram, more.sources[4, 100].gram)
    np.testing.assert_array_equal(one.target.noise_cross, more.target.noise_cross)
    assert not np.array_equal(draw_figure3_data(SMALL, (100,), seed=4).target.gram, one.target.gram)


def test_the_excess_error_is_the_mean_over_new_inputs() -> None:
    generator = stream(0, "test")
    q, scales = random_rotation(generator, 3), np.array([3.0, 1.0, 1.0])
    x = (generator.standard_normal((500_000, 3)) * scales) @ q.T
    found, theta = generator.standard_normal((2, 3)), generator.standard_normal(3)
    expected = np.mean((x @ (found - theta).T) ** 2, axis=0)
    np.testing.assert_allclose(excess_error(found, theta, (q * scales**2) @ q.T), expected, rtol=0.02)


def test_a_target_without_finite_single_task_error_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least dimensions \\+ 2"):
        LinearSettings(dimensions=100, target_samples=101)
