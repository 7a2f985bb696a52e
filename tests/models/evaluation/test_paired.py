"""Paired comparisons: DeLong's published example, naive references, and what may be said of which design."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models.evaluation.auc import mean_auc
from models.evaluation.intervals import number_patients, patient_influence, placements
from models.evaluation.paired import (
    Comparison,
    Differences,
    Unit,
    _label_differences,
    auc_differences,
    compare_units,
    paired_differences,
    subtract,
)
from models.evaluation.two_stage import Estimate, mean_difference
from tests.models.conftest import Predictions

unhurried = settings(deadline=None, max_examples=50)

# DeLong, DeLong and Clarke-Pearson (Biometrics 1988): ovarian cancer patients with all three measurements.
# Albumin, total protein, K-G score, and whether surgery helped; from the SAS/STAT User's Guide, PROC LOGISTIC, example
# "Comparing Receiver Operating Characteristic Curves", which also gives the results below.
OVARIAN = np.array([
    3.0, 5.8, 10, 0, 3.2, 6.3, 5, 1, 3.9, 6.8, 3, 1, 2.8, 4.8, 6, 0, 3.2, 5.8, 3, 1,
    0.9, 4.0, 5, 0, 2.5, 5.7, 8, 0, 1.6, 5.6, 5, 1, 3.8, 5.7, 5, 1, 3.7, 6.7, 6, 1,
    3.2, 5.4, 4, 1, 3.8, 6.6, 6, 1, 4.1, 6.6, 5, 1, 3.6, 5.7, 5, 1, 4.3, 7.0, 4, 1,
    3.6, 6.7, 4, 0, 2.3, 4.4, 6, 1, 4.2, 7.6, 4, 0, 4.0, 6.6, 6, 0, 3.5, 5.8, 6, 1,
    3.8, 6.8, 7, 1, 3.0, 4.7, 8, 0, 4.5, 7.4, 5, 1, 3.7, 7.4, 5, 1, 3.1, 6.6, 6, 1,
    4.1, 8.2, 6, 1, 4.3, 7.0, 5, 1, 4.3, 6.5, 4, 1, 3.2, 5.1, 5, 1, 2.6, 4.7, 6, 1,
    3.3, 6.8, 6, 0, 1.7, 4.0, 7, 0, 3.7, 6.1, 5, 1, 3.3, 6.3, 7, 1, 4.2, 7.7, 6, 1,
    3.5, 6.2, 5, 1, 2.9, 5.7, 9, 0, 2.1, 4.8, 7, 1, 2.8, 6.2, 8, 0, 4.0, 7.0, 7, 1,
    3.3, 5.7, 6, 1, 3.7, 6.9, 5, 1, 3.6, 6.6, 5, 1,
]).reshape(-1, 4)  # fmt: skip


def simulated(
    seed: int, n: int = 300, k: int = 3, images: int = 2, arms: int = 4
) -> tuple[NDArray[np.int8], list[NDArray], NDArray]:
    """Targets, the scores of some arms that share what makes an image hard, patients with several images each."""
    rng = np.random.default_rng(seed)
    patients = np.arange(n) // images
    targets = (rng.random((n, k)) < 0.3).astype(np.int8)
    hard = rng.normal(size=(patients.max() + 1, k))[patients] + rng.normal(size=(n, k))
    return targets, [targets + 0.5 * hard + 0.5 * rng.normal(size=(n, k)) for _ in range(arms)], patients


# --- DeLong ---


def delong(target: NDArray[np.int8], first: NDArray, second: NDArray, patients: NDArray) -> Estimate:
    """Difference of two models' AUCs for one label on one test set (DeLong, DeLong and Clarke-Pearson, 1988)."""
    deltas, influence = _label_differences(target, [(first, second)], number_patients(patients))
    return mean_difference([deltas], [influence])


@pytest.mark.parametrize(
    ("column", "difference", "error", "chi_square"),
    [(0, 0.0108, 0.0953, 0.0127), (1, -0.0780, 0.1046, 0.5554)],
)
def test_delongs_own_example_comes_out_as_published(
    column: int, difference: float, error: float, chi_square: float
) -> None:
    target, score = OVARIAN[:, 3].astype(np.int8), -OVARIAN[:, 2]
    found = delong(target, OVARIAN[:, column], score, np.arange(len(OVARIAN)))
    assert found.mean == pytest.approx(difference, abs=5e-5)
    assert found.error == pytest.approx(error, abs=5e-5)
    assert (found.mean / found.error) ** 2 == pytest.approx(chi_square, abs=5e-5)
    assert found.p_value > 0.4


def naive_delong_difference(target: NDArray, one: NDArray, other: NDArray, patients: NDArray) -> tuple[float, float]:
    """Difference and variance from all m·q pairs, patient by patient (DeLong 1988; Obuchowski 1997)."""

    def components(scores: NDArray) -> tuple[NDArray, NDArray]:
        positive, negative = scores[target == 1], scores[target == 0]
        psi = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
        return psi.mean(axis=1), psi.mean(axis=0)

    (x1, y1), (x2, y2) = components(one), components(other)
    x, y = x1 - x2, y1 - y2
    whose_x, whose_y = patients[target == 1], patients[target == 0]
    of_x, of_y = len(set(whose_x)), len(set(whose_y))
    variance = 0.0
    for patient in set(patients):
        moved = (x - x.mean())[whose_x == patient].sum() / len(x) * np.sqrt(of_x / (of_x - 1))
        moved += (y - y.mean())[whose_y == patient].sum() / len(y) * np.sqrt(of_y / (of_y - 1))
        variance += moved**2
    return x.mean(), variance


@unhurried
@given(st.integers(0, 9999), st.integers(1, 3), st.booleans())
def test_delong_equals_its_definition_with_ties_unknown_labels_and_several_images(
    seed: int, images: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.resize([0, 0, 1, -1, 0, 1], 36)).astype(np.int8)
    one, other = rng.normal(size=(2, 36)) + target
    if tied:
        one, other = np.round(one), np.round(other)
    patients = np.arange(36) // images
    found = delong(target, one, other, patients)
    known = target >= 0
    difference, variance = naive_delong_difference(target[known], one[known], other[known], patients[known])
    assert found.mean == pytest.approx(difference, abs=1e-12)
    assert found.mean == pytest.approx(
        roc_auc_score(target[known], one[known]) - roc_auc_score(target[known], other[known]), abs=1e-12
    )
    assert found.error**2 == pytest.approx(variance, abs=1e-12)


@unhurried
@given(st.integers(0, 9999))
def test_squared_influence_sums_to_delongs_variance_of_one_auc(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive, negative = np.round(rng.normal(1, 1, 12), 1), np.round(rng.normal(0, 1, 20), 1)
    placed, own = placements(positive, negative), np.arange(32)
    moved = patient_influence(placed.positive[None], placed.negative[None], own[:12], own[12:], 32)
    assert moved.shape == (32, 1)
    variance = placed.positive.var(ddof=1) / 12 + placed.negative.var(ddof=1) / 20  # DeLong 1988, equations 4 and 5
    assert (moved**2).sum() == pytest.approx(variance, abs=1e-12)


# --- Whole designs ---


def compare(units: dict[str, Unit], patients: NDArray, population_size: int | None = None) -> Comparison:
    return compare_units(auc_differences(units, patients), population_size)


def test_the_error_over_patients_is_that_of_resampling_them_jointly() -> None:
    targets, scores, patients = simulated(0, n=1200)
    found = compare({"": Unit(targets, dict(enumerate(scores[:2])), dict(enumerate(scores[2:])))}, patients)
    rng, differences = np.random.default_rng(0), np.empty(250)
    for resample in range(250):
        images = (2 * rng.integers(600, size=600)[:, None] + [0, 1]).ravel()  # two images of each patient
        drawn = [mean_auc(targets[images], each[images]) for each in scores]
        differences[resample] = (drawn[0] + drawn[1] - drawn[2] - drawn[3]) / 2
    assert found.over == "patients"
    assert (found.hi - found.lo) / 2 == pytest.approx(1.96 * differences.std(ddof=1), rel=0.14)


def test_seeds_are_paired_within_units_and_every_difference_is_kept() -> None:
    targets, scores, patients = simulated(1, arms=8)
    units = {
        "one": Unit(targets, dict(zip((0, 1, 2, 9), scores[:4], strict=True)), dict(enumerate(scores[4:7]))),
        "other": Unit(targets[:, :2], {5: scores[0][:, :2]}, {5: scores[7][:, :2]}),
    }
    found = compare(units, patients)
    assert list(found.by_unit["one"]) == [0, 1, 2]
    assert found.by_unit["one"][1] == pytest.approx(mean_auc(targets, scores[1]) - mean_auc(targets, scores[5]))
    assert found.by_unit["other"] == {
        5: pytest.approx(mean_auc(targets[:, :2], scores[0][:, :2]) - mean_auc(targets[:, :2], scores[7][:, :2]))
    }
    assert found.n_pairs == 4
    assert found.delta == pytest.approx(np.mean([np.mean(list(by.values())) for by in found.by_unit.values()]))
    assert (found.over, found.limit) == (
        "patients",
        "1 seed(s) are too few for an interval over seeds; at least 3 are needed",
    )


def test_what_the_interval_is_over_follows_the_design() -> None:
    targets, scores, patients = simulated(2, arms=6)
    three = Unit(targets, dict(enumerate(scores[:3])), dict(enumerate(scores[3:])))
    assert compare({"": three}, patients).over == "seeds and patients"
    assert compare({"": three}, patients).limit is None
    drawn = compare({"a": three, "b": three, "c": three}, patients, population_size=91)
    assert (drawn.over, drawn.limit) == ("pairs, seeds and patients", None)
    two = compare({"a": three, "b": three}, patients, population_size=91)
    assert (two.over, two.limit) == (
        "seeds and patients",
        "2 pair(s) are too few for an interval over pairs; at least 3 are needed",
    )


def test_the_same_arms_in_another_order_or_under_other_patient_names_compare_alike() -> None:
    targets, scores, patients = simulated(3)
    unit = Unit(targets, dict(enumerate(scores[:2])), dict(enumerate(scores[2:])))
    turned = Unit(targets, {1: scores[1], 0: scores[0]}, {1: scores[3], 0: scores[2]})
    names = np.array([f"{(7919 * p) % 104729:06d}" for p in patients])
    assert compare({"": unit}, patients) == compare({"": turned}, names)


def test_equal_predictions_differ_by_nothing_and_exchanged_methods_by_the_opposite() -> None:
    targets, scores, patients = simulated(4)
    arms = dict(enumerate(scores[:3]))
    same = compare({"": Unit(targets, arms, arms)}, patients)
    assert (same.delta, same.lo, same.hi, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    others = dict(enumerate(scores[1:]))
    there, back = (compare({"": Unit(targets, *pair)}, patients) for pair in ((arms, others), (others, arms)))
    assert (there.delta, there.lo, there.p_value) == pytest.approx((-back.delta, -back.hi, back.p_value))


def test_where_nothing_can_be_said_there_is_a_reason_and_no_number() -> None:
    targets, scores, patients = simulated(5)
    apart = compare({"": Unit(targets, {0: scores[0]}, {1: scores[1]})}, patients)
    assert (apart.delta, apart.p_value, apart.reason) == (None, None, "no seed in common")
    empty = np.zeros_like(targets)
    assert compare({"": Unit(empty, {0: scores[0]}, {0: scores[1]})}, patients).reason == "no label can be scored"
    perfect = {0: targets.astype(float)}
    separated = compare({"": Unit(targets, perfect, {0: -perfect[0]})}, patients)
    assert (separated.delta, separated.lo) == (1.0, None)
    assert "completely" in (separated.reason or "")


def test_how_many_seeds_are_needed_or_why_it_cannot_be_said_stands_in_every_comparison() -> None:
    targets, scores, patients = simulated(9, arms=6)
    better = [each + 0.3 * targets for each in scores[:3]]
    three = Unit(targets, dict(enumerate(better)), dict(enumerate(scores[3:])))
    found = compare({"": three}, patients)
    assert (found.seeds_needed, found.seeds_reason) == (3, None)
    assert found.detectable < found.delta
    two = Unit(targets, dict(enumerate(better[:2])), three.baseline)
    assert "2 seed(s) are too few" in (compare({"": two}, patients).seeds_reason or "")
    drawn = compare({"a": three, "b": three, "c": three}, patients, population_size=91)
    assert (drawn.seeds_needed, drawn.seeds_reason) == (None, "the interval is over pairs: more pairs are needed")
    none = compare({"": Unit(np.zeros_like(targets), three.method, three.baseline)}, patients)
    assert none.seeds_reason == none.reason == "no label can be scored"


def test_a_unit_that_cannot_be_scored_is_left_out() -> None:
    targets, scores, patients = simulated(6)
    good = Unit(targets, {0: scores[0]}, {0: scores[1]})
    none = Unit(np.zeros_like(targets), {0: scores[0]}, {0: scores[1]})
    assert list(compare({"good": good, "none": none}, patients).by_unit) == ["good"]


def test_real_predictions_against_themselves_made_worse(real_predictions: Predictions) -> None:
    _, targets, probabilities, patients = real_predictions
    scores = np.log(probabilities)
    worse = scores + np.random.default_rng(0).normal(size=scores.shape)
    found = compare({"": Unit(targets, {0: scores}, {0: worse})}, patients)
    assert 0.01 < found.lo < found.delta < found.hi < 0.2
    assert found.p_value < 1e-20


# --- Networks that are scored one by one ---


def test_networks_that_are_scored_one_by_one_are_paired_by_seed() -> None:
    rng = np.random.default_rng(7)
    ours, theirs = ({seed: (rng.random(), rng.normal(size=50)) for seed in seeds} for seeds in ((4, 2, 1), (1, 4, 3)))
    found = paired_differences({"x": (ours, theirs), "apart": ({0: ours[1]}, {1: ours[1]})})
    assert found["apart"] == "no seed in common"
    assert found["x"].seeds == [1, 4]
    for column, seed in enumerate((1, 4)):
        assert found["x"].deltas[column] == ours[seed][0] - theirs[seed][0]
        np.testing.assert_array_equal(found["x"].influence[:, column], ours[seed][1] - theirs[seed][1])


def test_the_interval_of_a_difference_of_means_is_that_of_a_paired_t_test() -> None:
    """A kind of its own: the mean error over recordings, whose influence is the error less the mean, divided by n."""
    ours, theirs = np.random.default_rng(8).normal(size=(2, 60)) + np.linspace(0, 3, 60)

    def scored(errors: NDArray) -> tuple[float, NDArray]:
        return errors.mean(), (errors - errors.mean()) / len(errors)

    found = compare_units(paired_differences({"": ({0: scored(ours)}, {0: scored(theirs)})}), sampled="recordings")
    assert found.over == "recordings"
    assert found.limit == "1 seed(s) are too few for an interval over seeds; at least 3 are needed"
    assert found.delta == pytest.approx(np.mean(ours - theirs))
    assert (found.hi - found.lo) / 2 == pytest.approx(2.0 * (ours - theirs).std() / np.sqrt(60), rel=0.03)
    three = {seed: scored(ours + seed) for seed in range(3)}
    alike = {"": (three, dict.fromkeys(range(3), scored(theirs)))}
    assert compare_units(paired_differences(alike), sampled="recordings").over == "seeds and recordings"


# --- Differences of differences ---


@unhurried
@given(st.integers(0, 9999), st.integers(1, 3))
def test_differences_subtracted_from_differences_are_those_of_the_four_scores_seed_by_seed(
    seed: int, images: int
) -> None:
    targets, scores, patients = simulated(seed, n=60, images=images, arms=16)
    four = [dict(zip(range(first, first + 4), scores[4 * first : 4 * first + 4], strict=True)) for first in range(4)]
    units = {"noisy": Unit(targets, *four[:2]), "clean": Unit(targets, *four[2:])}
    first, second = auc_differences(units, patients).values()
    found = subtract(first, second)
    assert isinstance(found, Differences)
    assert found.seeds == [3]  # the sides have the seeds 0 to 3, 1 to 4, 2 to 5 and 3 to 6

    def naive(arm: int) -> float:
        return mean_auc(targets, four[arm][3])

    assert found.deltas == pytest.approx([naive(0) - naive(1) - (naive(2) - naive(3))])
    assert isinstance(first, Differences)
    assert isinstance(second, Differences)
    expected = first.influence[:, first.seeds.index(3)] - second.influence[:, second.seeds.index(3)]
    assert found.influence[:, 0] == pytest.approx(expected)


def test_a_difference_minus_itself_is_nothing_with_certainty() -> None:
    targets, scores, patients = simulated(3, arms=6)
    unit = Unit(targets, dict(enumerate(scores[:3])), dict(enumerate(scores[3:])))
    (given,) = auc_differences({"": unit}, patients).values()
    compared = compare_units({"": subtract(given, given)})
    assert (compared.delta, compared.lo, compared.hi, compared.p_value) == (0, 0, 0, 1)


def test_what_has_no_differences_leaves_none_to_subtract() -> None:
    given = Differences([1, 2], np.zeros(2), np.zeros((3, 2)))
    assert subtract("no label can be scored", given) == subtract(given, "no label can be scored")
    assert subtract(given, "no label can be scored") == "no label can be scored"
    assert subtract(given, Differences([3], np.zeros(1), np.zeros((3, 1)))) == "no seed in common"
