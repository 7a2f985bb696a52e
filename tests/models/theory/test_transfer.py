"""Figure 3: the changes that were measured when the specification was written, and which depend on the solver."""

from collections.abc import Mapping

import numpy as np
import pytest

from models.theory.formulas import expected_single_task_error
from models.theory.linear_tasks import LinearSettings, draw_figure3_data
from models.theory.transfer import MINIMA, SINGLE_TASK, SolverSettings, predicted_changes, relative_changes
from models.theory.transfer_map import MapSettings, map_rows

FEW, MANY = 100, 10_000
SEEDS = 6
Changes = Mapping[tuple[str, int, int], float]


def mean_changes(cosine: float, norm: float) -> Changes:
    """d = 100, 120 target samples, kappa 100, noise 1; (solver, source, samples) -> mean over seeds."""
    solvers = SolverSettings(steps=(), sweeps=(100, 10_000))
    found: dict[tuple[str, int, int], list[float]] = {}
    for seed in range(SEEDS):
        data = draw_figure3_data(LinearSettings(), (FEW, MANY), seed)
        for solver, changes in relative_changes(data, cosine, norm, 1.0, solvers, seed).items():
            for (source, samples), change in changes.items():
                found.setdefault((solver, source, samples), []).append(change)
    return {key: float(np.mean(of_seeds)) for key, of_seeds in found.items()}


@pytest.fixture(scope="module")
def measured() -> Changes:
    return mean_changes(0.999, 1.0)


@pytest.mark.slow
def test_the_optimum_has_all_three_sources_helping(measured: Changes) -> None:
    for samples in (FEW, MANY):
        assert measured["optimum", 2, samples] == pytest.approx(-0.7, abs=0.15)
    for source in (3, 4):
        assert -0.95 < measured["optimum", source, FEW] < -0.75
        assert measured["optimum", source, MANY] == pytest.approx(-0.98, abs=0.02)


@pytest.mark.slow
def test_alternating_least_squares_stopped_early_show_the_papers_pattern(measured: Changes) -> None:
    solver = "alternating, 100"
    assert measured[solver, 2, FEW] < -0.5
    assert measured[solver, 2, MANY] < -0.5
    assert measured[solver, 3, FEW] + measured[solver, 4, FEW] > 0.2
    for source in (3, 4):
        assert measured[solver, source, MANY] < measured[solver, source, FEW]


@pytest.mark.slow
def test_alternating_least_squares_with_many_sweeps_do_not_show_the_papers_pattern(measured: Changes) -> None:
    for source in (3, 4):
        for samples in (FEW, MANY):
            assert measured["alternating, 10,000", source, samples] < -0.6


@pytest.mark.slow
@pytest.mark.parametrize(("cosine", "norm"), [(0.96, 1.0), (0.999, 10.0)])
def test_with_a_wider_angle_or_less_noise_it_is_task_2_that_hurts(cosine: float, norm: float) -> None:
    found = mean_changes(cosine, norm)
    assert found["optimum", 2, FEW] > 2
    assert found["optimum", 2, MANY] > 5
    assert found["optimum", 3, MANY] < -0.8


@pytest.mark.slow
def test_task_1_without_a_source_has_the_expected_error(measured: Changes) -> None:
    assert measured[SINGLE_TASK, 2, FEW] == pytest.approx(expected_single_task_error(120, 100, 1.0), rel=0.35)
    assert measured[SINGLE_TASK, 3, MANY] == measured[SINGLE_TASK, 2, FEW]


@pytest.mark.slow
def test_misaligned_sources_cause_local_minima(measured: Changes) -> None:
    assert measured[MINIMA, 2, MANY] == 1
    assert measured[MINIMA, 3, MANY] > 1


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_only_the_ratio_of_norm_and_noise_matters(factor: float) -> None:
    # A power of two scales floating-point numbers exactly: on every processor the results must agree to the bit.
    # Descent is left out, as its random start does not scale with theta.
    settings, solvers = LinearSettings(dimensions=10, target_samples=20), SolverSettings(steps=(), sweeps=(5,))
    data = draw_figure3_data(settings, (20,), 0)
    one, scaled = (relative_changes(data, 0.9, 2 * by, by, solvers, 0) for by in (1.0, factor))
    for name in ("optimum", "alternating, 5", MINIMA):
        assert one[name] == scaled[name]
    assert {key: factor**2 * error for key, error in one[SINGLE_TASK].items()} == scaled[SINGLE_TASK]


def test_the_predicted_change_at_the_optimum_has_the_sign_that_was_measured() -> None:
    data = draw_figure3_data(LinearSettings(), (FEW, MANY), 0)
    assert predicted_changes(data, 0.96, 1.0, 1.0)[2, MANY] > 1
    assert predicted_changes(data, 0.999, 1.0, 1.0)[2, MANY] < 0
    assert -1 < predicted_changes(data, 0.96, 1.0, 1.0)[3, MANY] < -0.9


def test_the_map_crosses_cosine_and_norm_and_varies_the_rest_one_at_a_time() -> None:
    settings = MapSettings(
        cosines=(0.9, 0.99), norms=(1.0, 3.0), conditions=(3.0,), target_samples=(30,), source_samples=(20, 40)
    )
    linear = LinearSettings(dimensions=10, target_samples=20, noise=2.0)
    rows = list(map_rows(linear, settings, 0))
    assert [row["varied"] for row in rows] == ["grid"] * 4 + ["condition", "target_samples", "scaling"]
    assert [(row["cell"]["norm"], row["cell"]["cosine"]) for row in rows[:4]] == [
        (2.0, 0.9),
        (2.0, 0.99),
        (6.0, 0.9),
        (6.0, 0.99),
    ]
    assert rows[4]["cell"] == linear.model_dump() | {"condition": 3.0}
    assert rows[6]["scaling"] == "tasks"
    assert set(rows[0]["changes"]) == {"optimum", "descent", "alternating, 100"}
