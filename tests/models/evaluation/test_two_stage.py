"""Mean differences over pairs, seeds and patients: the variance is that of the design, and never over more than it
carries. Coverage in the long run: tests/benchmarks/test_coverage.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation.two_stage import MAX_SEEDS, MIN_SAMPLED, Estimate, mean_difference

unhurried = settings(deadline=None, max_examples=50)


def design(seed: int, units: int, seeds: int, p: int = 40, common: float = 1.0) -> tuple[list[NDArray], list[NDArray]]:
    """Differences and patients' influence; what all networks have in common is `common` times what each has alone."""
    rng = np.random.default_rng(seed)
    shared = common * rng.normal(size=(p, 1))
    influence = [(shared + rng.normal(size=(p, seeds))) / p for _ in range(units)]
    return [rng.normal(size=seeds) + rng.normal() for _ in range(units)], influence


def naive_variance(differences: list[NDArray], influence: list[NDArray], listed: int) -> float:
    """The three parts written out, patient by patient and unit by unit."""
    u, f = len(differences), len(differences) / listed

    def spread(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return sum((value - mean) ** 2 for value in values) / (len(values) - 1)

    def two_stage(table: list[NDArray]) -> float:
        between = spread([row.mean() for row in table]) if u > 1 else 0.0
        within = sum(spread(list(row)) / len(row) for row in table) / u
        return (1 - f) * between / u + f * within / u

    of_mean = sum(np.mean([row.mean() for row in [each[p] for each in influence]]) ** 2 for p in range(40))
    seen_already = sum(two_stage([each[p] for each in influence]) for p in range(40))
    return two_stage(differences) + max(0.0, of_mean - seen_already)


@unhurried
@given(st.integers(0, 999), st.integers(3, 6), st.integers(2, 5), st.integers(0, 80))
def test_the_variance_of_drawn_units_is_that_of_a_two_stage_sample_beside_the_patients(
    seed: int, units: int, seeds: int, more: int
) -> None:
    differences, influence = design(seed, units, seeds)
    found = mean_difference(differences, influence, population_size=units + more)
    assert found.over == "pairs, seeds and patients"
    assert found.error**2 == pytest.approx(naive_variance(differences, influence, units + more))
    assert found.mean == pytest.approx(np.mean(differences))


@unhurried
@given(st.integers(0, 999), st.integers(1, 4), st.integers(3, 5))
def test_units_that_were_not_drawn_vary_by_their_seeds_alone(seed: int, units: int, seeds: int) -> None:
    differences, influence = design(seed, units, seeds)
    found = mean_difference(differences, influence)
    assert found.over == "seeds and patients"
    assert found.error**2 == pytest.approx(naive_variance(differences, influence, units))
    shifted = [each + 10 * i for i, each in enumerate(differences)]
    assert mean_difference(shifted, influence).error == pytest.approx(found.error)


@pytest.mark.parametrize(
    ("units", "seeds", "population_size", "over"),
    [
        (1, 2, None, "patients"),
        (1, 3, None, "seeds and patients"),
        (20, 2, None, "patients"),
        (2, 2, 91, "patients"),
        (2, 3, 91, "seeds and patients"),
        (3, 1, 91, "pairs, seeds and patients"),
    ],
)
def test_an_interval_is_over_no_more_than_the_design_carries(
    units: int, seeds: int, population_size: int | None, over: str
) -> None:
    assert MIN_SAMPLED == 3
    assert mean_difference(*design(0, units, seeds), population_size=population_size).over == over


@unhurried
@given(st.integers(0, 999), st.integers(3, 6))
def test_units_that_make_up_the_whole_list_are_as_sure_as_units_that_were_not_drawn(seed: int, units: int) -> None:
    differences, influence = design(seed, units, 3)
    every, given = (mean_difference(differences, influence, population_size=n) for n in (units, None))
    assert (every.error, every.degrees) == (given.error, given.degrees)


def test_what_all_networks_share_of_the_patients_does_not_average_out() -> None:
    differences, shared = design(0, 20, 5, common=10.0)
    errors = [mean_difference(differences[:n], shared[:n], population_size=91).error for n in (5, 20)]
    of_mean = np.mean([each.mean(axis=1) for each in shared], axis=0)
    assert errors[1] > 0.9 * np.sqrt(of_mean @ of_mean)


@unhurried
@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(1, 1e6))
def test_p_value_and_interval_agree(mean: float, error: float, degrees: float) -> None:
    found = Estimate(mean, error, degrees, "patients")
    lo, hi = found.interval
    if abs(found.p_value - 0.05) > 1e-9:
        assert (found.p_value < 0.05) == (lo > 0 or hi < 0)
    assert lo <= mean <= hi
    assert found.detectable > hi - mean


def test_where_seeds_do_not_vary_at_all_the_error_is_that_of_the_patients() -> None:
    opposite = np.resize([1.0, -1.0], (40, 1)) * [1.0, 1.0, -1.0] / 40  # what seeds vary by exceeds what they share
    found = mean_difference([np.full(3, 0.5)], [opposite])
    assert found.over == "seeds and patients"
    assert found.error == pytest.approx(np.sqrt(40) / 3 / 40)


def test_networks_that_rank_alike_differ_by_nothing() -> None:
    found = mean_difference([np.zeros(3)], [np.zeros((40, 3))])
    assert (found.interval, found.p_value, found.detectable) == ((0.0, 0.0), 1.0, 0.0)


def test_where_seeds_are_all_that_varies_the_quantile_is_that_of_their_degrees_of_freedom() -> None:
    deltas = np.array([0.1, 0.2, 0.6])
    found = mean_difference([deltas], [np.full((40, 3), 1e-9) * np.resize([1, -1], (40, 1))])
    half = 4.302653 * deltas.std(ddof=1) / np.sqrt(3)
    assert found.interval == pytest.approx((0.3 - half, 0.3 + half), rel=1e-6)


def test_a_few_deciding_patients_leave_few_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    many, few = rng.normal(size=(1000, 1)), np.zeros((1000, 1))
    few[:12] = rng.normal(size=(12, 1))
    degrees = [mean_difference([np.zeros(1)], [moved]).degrees for moved in (many, few)]
    assert degrees[0] == pytest.approx(1000, rel=0.15)
    assert 4 < degrees[1] < 14


def test_a_study_as_sensitive_as_it_says_sees_four_in_five_true_differences() -> None:
    rng = np.random.default_rng(1)
    estimate = Estimate(0.0, 1.0, 8.0, "patients")
    errors = np.sqrt(rng.chisquare(8, 20_000) / 8)
    seen = [abs(m / e) > 2.306 for m, e in zip(estimate.detectable + rng.normal(size=20_000), errors, strict=True)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.02)


# --- How many seeds settle a question ---


def study(rng: np.random.Generator, truth: float, seeds: int, between_seeds: float, shared: float) -> Estimate:
    """A study of 200 patients. between_seeds, shared: standard deviations of a seed, and of the patients' shift."""
    common = rng.normal(size=(200, 1)) * shared / np.sqrt(200)
    own = rng.normal(size=(200, seeds)) * 0.5 * shared / np.sqrt(200)
    deltas = truth + common.sum() + own.sum(axis=0) + between_seeds * rng.normal(size=seeds)
    return mean_difference([deltas], [common + own])


@unhurried
@given(st.integers(0, 999), st.integers(1, 3), st.integers(3, 6))
def test_the_needed_seeds_are_the_first_that_detect_the_difference(seed: int, units: int, seeds: int) -> None:
    differences, influence = design(seed, units, seeds, common=0.5)
    found = mean_difference(differences, influence)
    variance = np.mean([values.var(ddof=1) for values in differences]) / units
    of_patients = found.error**2 - variance / seeds

    def detects(s: int) -> bool:
        """A study of s seeds whose seeds and patients vary as observed."""
        row = np.resize([1.0, -1.0], s) - np.resize([1.0, -1.0], s).mean()
        deltas = [row * np.sqrt(units * variance) / row.std(ddof=1)] * units
        patients = np.mean([each.mean(axis=1) for each in influence], axis=0)[:, None]
        patients = patients * np.sqrt(of_patients) / np.sqrt((patients**2).sum())
        return mean_difference(deltas, [np.repeat(patients, s, axis=1)] * units).detectable <= abs(found.mean)

    if found.seeds_needed is not None:
        assert detects(found.seeds_needed)
        assert found.seeds_needed == MIN_SAMPLED or not detects(found.seeds_needed - 1)
    else:
        assert found.seeds_reason
        assert not detects(MAX_SEEDS)


def test_why_no_number_of_seeds_is_named() -> None:
    still = np.full((40, 3), 1e-9) * np.resize([1, -1], (40, 1))
    # the same shift for all three seeds, with a standard deviation of 0.1: detectable with any number of seeds is 0.28
    shifted = np.full((40, 3), 0.1 / np.sqrt(40)) * np.resize([1, -1], (40, 1))
    cases = {
        "the observed difference is 0": ([-1.0, 0.0, 1.0], still),
        "no number of seeds would show a difference this small: more test words are needed": (
            [0.19, 0.2, 0.21],
            shifted,
        ),
        "more than 1,000 seeds are needed": ([-1.0, 0.01, 1.0], still),
        "2 seed(s) are too few for the variance between seeds; at least 3 are needed": ([0.1, 0.2], still[:, :2]),
    }
    for reason, (deltas, influence) in cases.items():
        found = mean_difference([np.array(deltas)], [influence], sampled="words")
        assert (found.seeds_needed, found.seeds_reason) == (None, reason)


@pytest.mark.slow
def test_a_study_with_the_needed_seeds_sees_a_true_difference_of_that_size_in_four_of_five() -> None:
    """The first studies have 40 seeds, so that the variances are known; with 3 seeds it was 70 %, with 5 seeds 75 %."""
    rng = np.random.default_rng(2)
    seen = []
    for _ in range(1500):
        first = study(rng, 0.025, 40, between_seeds=0.02, shared=0.005)
        if first.seeds_needed is not None:
            second = study(rng, first.mean, first.seeds_needed, between_seeds=0.02, shared=0.005)
            seen.append(second.p_value < 0.05 and second.mean > 0)
    assert len(seen) > 1300
    assert np.mean(seen) == pytest.approx(0.8, abs=0.04)
