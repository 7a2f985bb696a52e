"""The figure of task weights."""

from tasks.reporting.weight_figures import weights_over_training
from tests.tasks.fake_study import fake_study


def test_without_a_method_that_changes_its_weights_there_is_no_figure_of_weights() -> None:
    assert weights_over_training(fake_study(rates=(), methods=("uniform",))) is None
