"""AUCs equal scikit-learn's, intervals equal their definitions written out naively, and missing numbers stay
missing.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models.evaluation.auc import (
    MIN_PATIENTS,
    auc_per_label,
    holm,
    mean_auc,
    score,
)
from models.evaluation.intervals import (
    bootstrap_mean_auc,
    delong_variance,
    logit_interval,
    number_patients,
    placements,
    resampled_patients,
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


# --- DeLong ---


def naive_delong(positive: NDArray, negative: NDArray) -> tuple[float, float]:
    """AUC and variance from all m·q pairs (DeLong et al. 1988, equations 2 to 5)."""
    psi = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    v10, v01 = psi.mean(axis=1), psi.mean(axis=0)
    return psi.mean(), v10.var(ddof=1) / len(positive) + v01.var(ddof=1) / len(negative)


def naive_clustered(positive: NDArray, negative: NDArray, whose_positive: NDArray, whose_negative: NDArray) -> float:
    """Obuchowski 1997: components summed patient by patient, with their covariance."""
    psi = (positive[:, None] > negative[None]) + 0.5 * (positive[:, None] == negative[None])
    auc, m, q = psi.mean(), len(positive), len(negative)
    everyone = sorted({*whose_positive, *whose_negative})
    x = {p: (psi.mean(axis=1) - auc)[whose_positive == p].sum() for p in everyone}
    y = {p: (psi.mean(axis=0) - auc)[whose_negative == p].sum() for p in everyone}
    i10, i01, i = len(set(whose_positive)), len(set(whose_negative)), len(everyone)
    s10 = i10 / ((i10 - 1) * m) * sum(x[p] ** 2 for p in everyone)
    s01 = i01 / ((i01 - 1) * q) * sum(y[p] ** 2 for p in everyone)
    s11 = i / (i - 1) * sum(x[p] * y[p] for p in everyone)
    return s10 / m + s01 / q + 2 * s11 / (m * q)


scores_with_ties = st.lists(st.integers(0, 6), min_size=2, max_size=25).map(lambda v: np.array(v, float))


@unhurried
@given(scores_with_ties, scores_with_ties)
def test_delong_from_two_sorts_equals_delong_from_all_pairs(positive: NDArray, negative: NDArray) -> None:
    placed = placements(positive, negative)
    own = np.arange(len(positive) + len(negative))
    variance = delong_variance(placed, own[: len(positive)], own[len(positive) :])
    auc, expected = naive_delong(positive, negative)
    assert placed.auc == pytest.approx(auc, abs=1e-12)
    assert variance == pytest.approx(expected, abs=1e-12)


@unhurried
@given(scores_with_ties, scores_with_ties, st.integers(0, 99))
def test_a_patients_images_are_summed_before_they_are_squared(pos: NDArray, neg: NDArray, seed: int) -> None:
    patients = rng(seed).integers(0, 8, len(pos) + len(neg))
    patients[:2] = patients[-2:] = [0, 1]  # two patients on each side, some on both
    ours = delong_variance(placements(pos, neg), patients[: len(pos)], patients[len(pos) :])
    assert ours == pytest.approx(naive_clustered(pos, neg, patients[: len(pos)], patients[len(pos) :]), abs=1e-12)


def test_delong_on_five_against_five_worked_out_by_hand() -> None:
    # positives 3 5 6 8 9, negatives 1 2 4 5 7: of the 25 pairs 18 are won and one ties
    placed = placements(np.array([3.0, 5, 6, 8, 9]), np.array([1.0, 2, 4, 5, 7]))
    np.testing.assert_allclose(placed.positive, [0.4, 0.7, 0.8, 1.0, 1.0])
    np.testing.assert_allclose(placed.negative, [1.0, 1.0, 0.8, 0.7, 0.4])
    assert placed.auc == pytest.approx(0.78)
    assert delong_variance(placed, np.arange(5), np.arange(5, 10)) == pytest.approx(2 * 0.0620 / 5)


@unhurried
@given(st.floats(0.001, 0.999), st.floats(1e-8, 0.2), st.integers(4, 10**6))
def test_the_logit_interval_holds_the_auc_within_zero_and_one(auc: float, variance: float, degrees: int) -> None:
    interval = logit_interval(auc, variance, degrees)
    assert interval is not None
    assert 0 <= interval[0] <= auc + 1e-12
    assert auc - 1e-12 <= interval[1] <= 1


def test_perfect_separation_has_a_value_and_no_interval() -> None:
    targets = np.repeat(np.array([[0], [1]], np.int8), 6, axis=0)
    found = score(targets, targets.astype(float), np.arange(12), ["Mass"], 0).labels["Mass"]
    assert (found.value, found.lo, found.hi) == (1.0, None, None)
    assert "separate" in (found.reason or "")


# --- Bootstrap ---


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 999), st.booleans(), st.sampled_from([0.0, 0.2]), st.sampled_from([1, 3]))
def test_the_bootstrap_equals_a_loop_over_the_same_resamples(
    seed: int, tied: bool, unknown: float, images_per_patient: int
) -> None:
    targets, scores, patients = simulated(
        seed, n=60, k=2, images_per_patient=images_per_patient, tied=tied, unknown=unknown
    )
    targets[:, 1] = np.where(targets[:, 1] >= 0, 1 - targets[:, 1], -1)  # a label with more positives than negatives
    ours = bootstrap_mean_auc(targets, [scores, -scores], patients, seed=seed, resamples=130)
    counts = np.concatenate(list(resampled_patients(patients.max() + 1, 130, seed)), axis=1)
    for b in range(130):
        images = np.repeat(np.arange(60), counts[patients, b])
        for arm, sign in enumerate((1, -1)):
            expected = auc_per_label(targets[images], sign * scores[images]).mean()  # nan if a class is missing
            assert ours[arm, b] == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_every_resample_draws_as_many_patients_as_there_are() -> None:
    counts = np.concatenate(list(resampled_patients(37, 300, seed=1)), axis=1)
    assert counts.shape == (37, 300)
    assert (counts.sum(axis=0) == 37).all()
    assert counts.mean(axis=1) == pytest.approx(1, abs=0.3)


def test_resamples_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    first, again, other = (next(resampled_patients(50, 20, seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_more_resamples_begin_with_the_fewer() -> None:
    targets, scores, patients = simulated(5)
    few = bootstrap_mean_auc(targets, [scores], patients, seed=0, resamples=100)
    many = bootstrap_mean_auc(targets, [scores], patients, seed=0, resamples=300)
    np.testing.assert_array_equal(many[:, : few.shape[1]][:, :100], few)


def test_other_names_of_the_patients_change_nothing() -> None:
    targets, scores, patients = simulated(6, images_per_patient=4)
    names = np.array([f"{hash((9, p)) & 0xFFFFFFFF:08x}" for p in patients])
    assert score(targets, scores, names, "abc", 0) == score(targets, scores, patients, "abc", 0)
    np.testing.assert_array_equal(number_patients(np.array(["z", "a", "z", "m"])), [0, 1, 0, 2])


def test_images_of_one_patient_widen_the_interval() -> None:
    targets, scores, patients = simulated(7, n=2000, images_per_patient=10)
    grouped, apart = score(targets, scores, patients, "abc", 0), score(targets, scores, np.arange(2000), "abc", 0)
    for name in "abc":
        wide, narrow = grouped.labels[name], apart.labels[name]
        assert wide.hi - wide.lo > 1.5 * (narrow.hi - narrow.lo)
    assert grouped.mean.hi - grouped.mean.lo > 1.5 * (apart.mean.hi - apart.mean.lo)


def test_a_label_with_too_few_patients_is_null_with_its_reason_and_outside_the_mean() -> None:
    targets, scores, patients = simulated(8, k=4, images_per_patient=2)
    targets[:, 1] = 0
    targets[:, 2] = np.isin(patients, np.arange(MIN_PATIENTS - 1))  # two images each
    targets[:, 3] = 1
    found = score(targets, scores, patients, ["a", "none", "few", "all"], 0)
    assert found.scored == ("a",)
    assert found.mean.value == found.labels["a"].value
    assert found.labels["none"].value is None
    assert found.labels["none"].reason == "no positive image"
    assert found.labels["few"].value is None
    assert "only 4 patient(s) with the finding; at least 5" in (found.labels["few"].reason or "")
    assert found.labels["all"].reason == "no negative image"


def test_without_a_label_to_score_even_the_mean_is_null() -> None:
    found = score(np.zeros((9, 2), np.int8), np.zeros((9, 2)), np.arange(9), "ab", 0)
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
    found = score(targets, scores, patients, labels, seed=0)
    assert scores.shape == (22433, 14)
    for j, label in enumerate(labels):
        here = found.labels[label]
        assert here.value == pytest.approx(roc_auc_score(targets[:, j], scores[:, j]), abs=1e-12)
        assert here.lo < here.value < here.hi
    assert found.mean.lo < found.mean.value < found.mean.hi


@pytest.mark.slow
@pytest.mark.parametrize("images_per_patient", [1, 5])
def test_intervals_cover_the_truth_about_95_times_in_100(images_per_patient: int) -> None:
    # positives N(1, 1), negatives N(0, 1): the true AUC is Phi(1 / sqrt(2))
    truth, studies = 0.7602499389, 600
    one, mean = 0, 0
    for study in range(studies):
        targets, scores, patients = simulated(
            study, n=200 * images_per_patient, k=2, images_per_patient=images_per_patient
        )
        found = score(targets, scores, patients, "ab", seed=study, resamples=400)
        one += found.labels["a"].lo <= truth <= found.labels["a"].hi
        mean += found.mean.lo <= truth <= found.mean.hi
    assert 0.925 < one / studies < 0.975
    assert 0.925 < mean / studies < 0.975


@pytest.mark.slow
@pytest.mark.parametrize("positives", [5, 10, 40])
def test_even_with_few_positives_a_labels_interval_covers_the_truth(positives: int) -> None:
    truth, studies, covered = 0.7602499389, 2000, 0
    targets = np.repeat([[1], [0]], [positives, 300], axis=0).astype(np.int8)
    for study in range(studies):
        scores = targets + rng(study).normal(size=targets.shape)
        placed = placements(scores[:positives, 0], scores[positives:, 0])
        variance = delong_variance(placed, np.arange(positives), np.arange(positives, positives + 300))
        lo, hi = logit_interval(placed.auc, variance, positives - 1) or (1, 0)
        covered += lo <= truth <= hi
    assert 0.93 < covered / studies < 0.97
