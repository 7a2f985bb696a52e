"""The figures of noise."""

from tasks.reporting.noise_figures import prevalence_under_noise
from tests.tasks.fake_study import fake_study


def test_without_noise_there_is_no_figure_of_prevalence() -> None:
    assert prevalence_under_noise(fake_study(rates=(), methods=("uniform",))) is None
