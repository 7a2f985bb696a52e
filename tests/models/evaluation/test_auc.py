"""AUCs equal scikit-learn's, intervals equal their definitions written out naively, and missing numbers stay
missing.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.metrics import roc_auc_score

from models.evaluation.auc import (
    MIN_PATIENTS,
    MIN_PATIENTS_INTERVAL,
    auc_per_label,
    holm,
    mean_auc,
    score,
)
from models.evaluation.intervals import (
    auc_interval,
    jackknife_influence,
    logit_interval,
    number_patients,
    placements,
)
from tests.models.conftest import Predictions

unhurried = settings(deadline=None)  # other tests share the cores


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def simulated(
    seed: int, n: int = 400, k: int = 3, images_per_patient: int = 1, tied: bool = False, unknown: float = 0.0
) -> tuple[NDArray[np.int8], NDArray, NDArray]:
    """Targets with prevalence 0.3, scores shifted by 1 for positives; a patient's images share half the
    variance.
    """
    generator = rng(seed)
    patients = np.arange(n) // images_per_patient
    targets = (generator.random((patients.max() + 1, k)) < 0.3)[patients].astype(np.int8)
    shared = generator.normal(size=(patients.max() + 1, k))[patients]
    scores = targets + np.sqrt(0.5) * (shared + generator.normal(size=(n, k)))
    if tied:
        scores = np.round(scores)
    targets[generator.random((n, k)) < unknown] = -1
    return targets, scores, patients


# --- AUC ---

tables = st.integers(0, 2**32 - 1).flatmap(
    lambda seed: st.builds(
        lambda n, levels, unknown: (
            rng(seed).choice([-1, 0, 1], size=(n, 2), p=[unknown, 0.6 - unknown, 0.4]).astype(np.int8),
            rng(seed + 1).integers(0, levels, size=(n, 2)) / levels,
        ),
        n=st.integers(1, 60),
        levels=st.sampled_from([1, 2, 5, 10**6]),
        unknown=st.sampled_from([0.0, 0.3]),
    )
)


@unhurried
@given(tables)
def test_auc_equals_scikit_learns_with_ties_and_unknown_labels(table: tuple[NDArray, NDArray]) -> None:
    targets, scores = table
    for j, value in enumerate(auc_per_label(targets, scores)):
        known = targets[:, j] >= 0
        if len(np.unique(targets[known, j])) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(targets[known, j], scores[known, j]), abs=1e-12)


@unhurried
@given(tables)
def test_negated_scores_give_the_complement(table: tuple[NDArray, NDArray]) -> None:
    targets, scores = table
    np.testing.assert_allclose(auc_per_label(targets, -scores), 1 - auc_per_label(targets, scores), atol=1e-12)


def test_the_mean_covers_the_labels_that_can_be_scored() -> None:
    targets = np.array([[1, 0], [0, 0], [1, 0]], dtype=np.int8)
    scores = np.array([[0.9, 0.1], [0.5, 0.2], [0.1, 0.3]])
    assert mean_auc(targets, scores) == 0.5
    assert np.isnan(mean_auc(targets[:, 1:], scores[:, 1:]))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_of_a_diverged_model_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 2 rows"):
        auc_per_label(np.array([[1], [0]], np.int8), np.array([[bad], [0.5]]))


def test_shapes_that_differ_are_refused_with_both_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(3, 1\)"):
        auc_per_label(np.zeros((2, 1), np.int8), np.zeros((3, 1)))


# --- Variance and interval ---


scores_with_ties = st.lists(st.integers(0, 6), min_size=2, max_size=25).map(lambda v: np.array(v, float))


def naive_placements(positive: NDArray, negative: NDArray) -> tuple[NDArray, NDArray]:
    """Structural components from all m·q pairs (DeLong et al. 1988)."""
    psi = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    return psi.mean(axis=1), psi.mean(axis=0)


@unhurried
@given(scores_with_ties, scores_with_ties)
def test_placements_from_two_sorts_equal_those_from_all_pairs(positive: NDArray, negative: NDArray) -> None:
    placed = placements(positive, negative)
    of_positive, of_negative = naive_placements(positive, negative)
    np.testing.assert_allclose(placed.positive, of_positive, atol=1e-12)
    np.testing.assert_allclose(placed.negative, of_negative, atol=1e-12)
    assert placed.auc == pytest.approx(of_positive.mean(), abs=1e-12)


@unhurried
@given(scores_with_ties, scores_with_ties, st.integers(0, 99))
def test_a_patients_influence_is_the_fall_of_the_mean_placements_without_all_its_images(
    positive: NDArray, negative: NDArray, seed: int
) -> None:
    patients = rng(seed).integers(0, 8, len(positive) + len(negative))
    patients[:2] = patients[-2:] = [0, 1]  # two patients on each side, some on both
    whose_positive, whose_negative = patients[: len(positive)], patients[len(positive) :]
    found = jackknife_influence(placements(positive, negative), whose_positive, whose_negative, 9)
    of_positive, of_negative = naive_placements(positive, negative)
    for patient in range(9):
        falls = [
            values.mean() - values[whose != patient].mean()
            for values, whose in ((of_positive, whose_positive), (of_negative, whose_negative))
        ]
        assert -found[patient] == pytest.approx(-sum(falls), abs=1e-12)


def test_five_against_five_worked_out_by_hand() -> None:
    # positives 3 5 6 8 9, negatives 1 2 4 5 7: of the 25 pairs 18 are won and one ties
    placed = placements(np.array([3.0, 5, 6, 8, 9]), np.array([1.0, 2, 4, 5, 7]))
    np.testing.assert_allclose(placed.positive, [0.4, 0.7, 0.8, 1.0, 1.0])
    np.testing.assert_allclose(placed.negative, [1.0, 1.0, 0.8, 0.7, 0.4])
    assert placed.auc == pytest.approx(0.78)
    influence = jackknife_influence(placed, np.arange(5), np.arange(5, 10), 10)
    assert influence @ influence == pytest.approx(2 * 0.248 / 16)  # deviations from 0.78, squared, over (5 - 1)^2


@unhurried
@given(st.floats(0.001, 0.999), st.floats(1e-8, 0.2), st.integers(4, 10**6))
def test_the_logit_interval_holds_the_value_within_zero_and_one(value: float, variance: float, degrees: int) -> None:
    interval = logit_interval(value, variance, degrees)
    assert interval is not None
    assert 0 <= interval[0] <= value + 1e-12
    assert value - 1e-12 <= interval[1] <= 1


@unhurried
@given(st.floats(0.001, 0.999), st.floats(1e-6, 0.2), st.integers(1, 1000))
def test_an_aucs_interval_holds_it_and_is_mirrored_for_the_other_class(
    auc: float, variance: float, patients: int
) -> None:
    (low, high), mirrored = auc_interval(auc, variance, patients), auc_interval(1 - auc, variance, patients)
    assert 0 <= low <= auc <= high <= 1
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high), abs=1e-9)


def test_half_a_patient_at_chance_level_is_an_image_of_weight_one_half() -> None:
    # ten patients with one image each, nine placed at 1 and one at 0.5, and half a one at 0.5; no other variation
    placed, weights = np.array([1.0] * 9 + [0.5, 0.5]), np.array([1.0] * 10 + [0.5])
    middle = np.average(placed, weights=weights)
    variance = (0.05**2 * 9 + 0.45**2) / 100 * (10 / 10.5) ** 2 + 0.5 * ((0.5 - middle) / 10.5) ** 2
    found = auc_interval(0.95, (0.05**2 * 9 + 0.45**2) / 100, 10)
    assert found == pytest.approx(logit_interval(middle, variance, np.inf))


def test_among_many_patients_half_a_one_does_not_count() -> None:
    assert auc_interval(0.9, 1e-4, 10**7) == pytest.approx(logit_interval(0.9, 1e-4, np.inf), abs=1e-6)


def test_perfect_separation_has_an_interval_that_widens_downwards_the_fewer_patients_there_are() -> None:
    lows = []
    for patients in (12, 100):
        targets = np.repeat(np.array([[0], [1]], np.int8), patients, axis=0)
        found = score(targets, targets.astype(float), np.arange(2 * patients), ["Mass"]).labels["Mass"]
        assert (found.value, found.hi) == (1.0, 1.0)
        lows.append(found.lo)
    assert 0.5 < lows[0] < lows[1] < 0.98


def test_equal_scores_have_a_value_and_no_interval() -> None:
    targets = np.repeat(np.array([[0], [1]], np.int8), 12, axis=0)
    found = score(targets, np.zeros((24, 1)), np.arange(24), ["Mass"]).labels["Mass"]
    assert (found.value, found.lo, found.hi, found.reason) == (0.5, None, None, "no interval: all scores are equal")


def test_other_names_of_the_patients_change_nothing() -> None:
    targets, scores, patients = simulated(6, images_per_patient=4)
    names = np.array([f"{hash((9, p)) & 0xFFFFFFFF:08x}" for p in patients])
    assert score(targets, scores, names, "abc") == score(targets, scores, patients, "abc")
    np.testing.assert_array_equal(number_patients(np.array(["z", "a", "z", "m"])), [0, 1, 0, 2])


def test_images_of_one_patient_widen_the_interval() -> None:
    targets, scores, patients = simulated(7, n=2000, images_per_patient=10)
    grouped, apart = score(targets, scores, patients, "abc"), score(targets, scores, np.arange(2000), "abc")
    for name in "abc":
        wide, narrow = grouped.labels[name], apart.labels[name]
        assert wide.hi - wide.lo > 1.5 * (narrow.hi - narrow.lo)
    assert grouped.mean.hi - grouped.mean.lo > 1.5 * (apart.mean.hi - apart.mean.lo)


def test_a_label_with_too_few_patients_is_null_with_its_reason_and_outside_the_mean() -> None:
    targets, scores, patients = simulated(8, k=4, images_per_patient=2)
    targets[:, 1] = 0
    targets[:, 2] = np.isin(patients, np.arange(MIN_PATIENTS - 1))  # two images each
    targets[:, 3] = 1
    found = score(targets, scores, patients, ["a", "none", "few", "all"])
    assert found.scored == ("a",)
    assert found.mean.value == found.labels["a"].value
    assert found.labels["none"].value is None
    assert found.labels["none"].reason == "no positive image"
    assert found.labels["few"].value is None
    assert "only 4 patient(s) with the finding; at least 5" in (found.labels["few"].reason or "")
    assert found.labels["all"].reason == "no negative image"


@pytest.mark.parametrize("group", ["with", "without"])
def test_a_label_with_few_patients_has_a_value_without_interval_and_counts_in_the_mean_and_its_interval(
    group: str,
) -> None:
    targets, scores, patients = simulated(10, k=3, images_per_patient=2)
    targets[:, 1] = np.isin(patients, np.arange(MIN_PATIENTS_INTERVAL - 1)) == (group == "with")
    targets[:, 2] = np.isin(patients, np.arange(MIN_PATIENTS_INTERVAL)) == (group == "with")
    found = score(targets, scores, patients, ["many", "few", "enough"])
    few = found.labels["few"]
    assert few.value == auc_per_label(targets, scores)[1]
    assert (few.lo, few.hi) == (None, None)
    assert few.reason == f"no interval: only 9 patient(s) {group} the finding; at least 10 are needed"
    assert found.labels["enough"].lo is not None
    assert found.scored == ("many", "few", "enough")
    assert found.mean.lo < found.mean.value < found.mean.hi
    assert found.mean.value == pytest.approx(mean_auc(targets, scores))


def test_the_mean_over_one_label_is_that_label() -> None:
    targets, scores, patients = simulated(11, k=1, images_per_patient=3)
    found = score(targets, scores, patients, "a")
    assert found.mean == found.labels["a"]


def test_the_interval_of_a_mean_over_labels_is_that_of_their_mean_influence() -> None:
    targets, scores, patients = simulated(12, k=2, images_per_patient=2)
    influence = [
        jackknife_influence(placements(column[of == 1], column[of == 0]), patients[of == 1], patients[of == 0], 200)
        for of, column in zip(targets.T, scores.T, strict=True)
    ]
    both = (influence[0] + influence[1]) / 2
    rarer = [min(len(set(patients[of == 1])), len(set(patients[of == 0]))) for of in targets.T]
    found = score(targets, scores, patients, "ab").mean
    harmonic = 2 / (1 / rarer[0] + 1 / rarer[1])
    assert (found.lo, found.hi) == pytest.approx(auc_interval(found.value, both @ both, 2 * harmonic))


def test_without_a_label_to_score_even_the_mean_is_null() -> None:
    found = score(np.zeros((9, 2), np.int8), np.zeros((9, 2)), np.arange(9), "ab")
    assert found.mean.value is None
    assert found.mean.reason == "no label can be scored"


# --- Holm ---


def test_holm_on_its_textbook_steps() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


@unhurried
@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    ranked = sorted(zip(p_values, adjusted, strict=True))
    assert all(a <= b for (_, a), (_, b) in pairwise(ranked))


# --- At full scale, and in the long run ---


def test_real_predictions_at_full_scale_equal_scikit_learn(real_predictions: Predictions) -> None:
    labels, targets, scores, patients = real_predictions
    found = score(targets, scores, patients, labels)
    assert scores.shape == (22433, 14)
    for j, label in enumerate(labels):
        here = found.labels[label]
        assert here.value == pytest.approx(roc_auc_score(targets[:, j], scores[:, j]), abs=1e-12)
        assert here.lo < here.value < here.hi
    assert found.mean.lo < found.mean.value < found.mean.hi


@pytest.mark.slow
@pytest.mark.parametrize("images_per_patient", [1, 5])
def test_intervals_cover_the_truth_about_95_times_in_100(images_per_patient: int) -> None:
    # positives N(1, 1), negatives N(0, 1): the true AUC is Phi(1 / sqrt(2)); more in benchmarks/coverage.py
    truth, studies = 0.7602499389, 600
    one, mean = 0, 0
    for study in range(studies):
        targets, scores, patients = simulated(
            study, n=200 * images_per_patient, k=2, images_per_patient=images_per_patient
        )
        found = score(targets, scores, patients, "ab")
        one += found.labels["a"].lo <= truth <= found.labels["a"].hi
        mean += found.mean.lo <= truth <= found.mean.hi
    assert 0.925 < one / studies < 0.975
    assert 0.925 < mean / studies < 0.975


@pytest.mark.parametrize("shift", [1.0, 2.66])
@pytest.mark.parametrize("positives", [10, 40])
def test_even_with_few_positives_and_near_one_a_labels_interval_covers_the_truth(positives: int, shift: float) -> None:
    truth, studies, covered = float(ndtr(shift / np.sqrt(2))), 1000, 0  # 0.76 and 0.97
    targets = np.repeat([[1], [0]], [positives, 300], axis=0).astype(np.int8)
    for study in range(studies):
        found = score(targets, shift * targets + rng(study).normal(size=targets.shape), np.arange(len(targets)), "a")
        covered += found.mean.lo <= truth <= found.mean.hi
    assert 0.925 < covered / studies < 0.975
