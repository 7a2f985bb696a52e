import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from models.errors import SettingError
from models.weighting.label_trust import ANCHORS, label_trust, out_of_fold_scores

RATES = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0])


def data(rates=RATES, n=4000, seed=0, replaced_by="coin", hardness=1.0):
    """Features (n, 12) and noisy labels (n, k): one direction per finding, with unequal strengths and prevalences."""
    rng = np.random.default_rng(seed)
    k = len(rates)
    clean = rng.random((n, k)) < np.resize([0.05, 0.1, 0.2], k)
    x = rng.standard_normal((n, 12))
    x[:, :k] += clean * np.resize([3.0, 2.0], k) * hardness
    random = rng.random((n, k)) < (0.5 if replaced_by == "coin" else clean.mean(0))
    return x, np.where(rng.random((n, k)) < rates, random, clean).astype(np.int8)


@pytest.mark.parametrize("replaced_by", ["coin", "prevalence"])
def test_the_estimate_is_near_the_share_of_random_entries(replaced_by):
    x, y = data(replaced_by=replaced_by, n=12_000)
    trust = label_trust(x, y, replaced_by=replaced_by)
    np.testing.assert_allclose(trust.noise, RATES, atol=0.1 if replaced_by == "coin" else 0.25)
    assert spearmanr(trust.noise, RATES).statistic > 0.85


def test_intervals_contain_the_true_rate_of_separable_labels_about_as_often_as_they_should():
    rates = np.array([0.1, 0.3, 0.5])
    held = []
    for seed in range(60):
        trust = label_trust(*data(rates, 800, seed, hardness=3.0))
        held.append((np.array(trust.lo) <= rates) & (rates <= np.array(trust.hi)))
    assert 0.9 <= np.mean(held) <= 1


def test_copies_of_a_patients_image_do_not_narrow_the_interval():
    x, y = data(n=400)
    patients = np.tile(np.arange(400), 5)
    once = label_trust(x, y)
    again = label_trust(np.tile(x, (5, 1)), np.tile(y, (5, 1)), patients)
    narrow = label_trust(np.tile(x, (5, 1)), np.tile(y, (5, 1)))
    width = [np.mean(np.array(t.hi) - np.array(t.lo)) for t in (once, again, narrow)]
    assert width[1] == pytest.approx(width[0], rel=0.25)
    assert width[2] < 0.7 * width[0]


def test_a_label_that_the_features_do_not_show_gets_its_prevalence_as_a_bound():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 5))
    y = (rng.random((4000, 1)) < 0.2).astype(np.int8)
    assert label_trust(x, y).noise[0] == pytest.approx(0.4, abs=0.06)  # twice 20 %


@given(st.integers(0, 1000), st.permutations(range(4)))
@settings(max_examples=10, deadline=None)
def test_labels_in_another_order_and_features_on_another_scale_change_nothing(seed, order):
    x, y = data(RATES[:4], 300, seed)
    one, two = label_trust(x, y), label_trust(7 + 3 * x, y[:, order])
    np.testing.assert_allclose(np.array(one.noise)[order], two.noise)
    assert all(0 <= lo <= noise <= hi <= 1 for lo, noise, hi in zip(one.lo, one.noise, one.hi, strict=True))
    assert sorted(one.rank) == [1, 2, 3, 4]


def test_unknown_entries_are_not_read():
    x, y = data(n=3000)
    y[np.random.default_rng(1).random(y.shape) < 0.3] = -1
    trust = label_trust(x, y)
    assert spearmanr(trust.noise, RATES).statistic > 0.8
    assert trust.anchors[0] == round(ANCHORS * (y[:, 0] >= 0).sum())


def test_a_label_without_two_classes_has_no_estimate_and_is_trusted_least():
    x, y = data(RATES[:3], 300)
    y[:, 1] = 0
    trust = label_trust(torch.tensor(x), torch.tensor(y))
    assert np.isnan(trust.noise[1])
    assert trust.rank[1] == 3
    assert trust.anchors[1] == 0


def test_a_patients_own_images_take_no_part_in_its_scores():
    x, y = data(n=50)
    patient_numbers = np.arange(50) // 2
    before = out_of_fold_scores(x, y, patient_numbers, seed=0)
    changed = y.copy()
    changed[:2] = 1 - changed[:2]
    np.testing.assert_array_equal(before[:2], out_of_fold_scores(x, changed, patient_numbers, seed=0)[:2])


def folds_of(x, y, patient_numbers):
    """Each image's fold, found out from outside: an image's labels change the scores of all folds but its own."""
    before, fold = out_of_fold_scores(x, y, patient_numbers, seed=0), np.full(len(y), -1)
    for row in range(len(y)):
        if fold[row] < 0:
            changed = y.copy()
            changed[row] = 1 - changed[row]
            same = (out_of_fold_scores(x, changed, patient_numbers, seed=0) == before).all(axis=1)
            fold[same] = fold.max() + 1
    return fold


def test_scores_are_ridge_regressions_over_five_folds_by_patient():
    x, y = data(n=120, seed=3)
    x += 5
    patient_numbers = np.arange(120) // 2
    fold = folds_of(x, y, patient_numbers)
    assert np.bincount(fold).tolist() == [24] * 5
    np.testing.assert_array_equal(fold[::2], fold[1::2])
    y[np.random.default_rng(2).random(y.shape) < 0.2] = -1
    scores = out_of_fold_scores(x, y, patient_numbers, seed=0)
    for held_out in range(5):
        rest, mean = fold != held_out, x[fold != held_out].mean(axis=0)
        covariance = np.cov(x[rest].T, bias=True)
        inverse = np.linalg.inv(covariance + np.diag(covariance).mean() * np.eye(12))
        for i in range(y.shape[1]):
            known = rest & (y[:, i] >= 0)
            with_label = ((x[known] - mean) * (y[known, i] - y[known, i].mean())[:, None]).mean(axis=0)
            np.testing.assert_allclose(scores[~rest, i], (x[~rest] - mean) @ inverse @ with_label)


def test_features_without_variance_rank_nothing_and_raise_nothing():
    y = data(n=100)[1]
    assert not out_of_fold_scores(np.ones((100, 3)), y, np.arange(100), seed=0).any()


def ones_among_anchors(score, y, patients, count):
    """Share of 1s among the images with the lowest scores, its line's value at the lowest score, Wilson's limits."""
    anchors = np.argsort(score, kind="stable")[:count]
    ones, n = y[anchors] == 1, len(anchors)
    share = ones.mean()
    lower = ones[: n // 2].mean() if n > 1 else share
    by_patient = [sum(ones[patients[anchors] == each] - share) for each in set(patients[anchors])]
    variance = max(sum(one**2 for one in by_patient) / n**2, share * (1 - share) / n)
    size = share * (1 - share) / variance if sum(one**2 for one in by_patient) > 1e-20 else n
    # Wilson: all shares p with (p - share)^2 <= z^2 p (1 - p) / size
    z2 = 1.6448536269514722**2 / size  # one-sided 95 %
    wilson = sorted(np.roots([1 + z2, -2 * share - z2, share**2]).real)
    return share, min(share, np.polyval(np.polyfit([0.5, 0.25], [share, lower], 1), 0)), wilson


@given(
    st.integers(0, 10**6),
    st.sampled_from([3, 7, 40, 150, 400]),
    st.sampled_from(["coin", "prevalence"]),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.integers(1, 4),
)
@settings(max_examples=120, deadline=None)
def test_the_interval_is_from_the_line_of_the_lower_half_at_the_lowest_score_to_wilsons_end(
    seed, patients, replaced_by, hardness, images
):
    rng = np.random.default_rng(seed)
    n = max(patients * images, 5)
    patient = np.arange(n) % max(patients, 5)
    x, y = data(rng.uniform(0, 1, 4), n, seed, replaced_by, hardness)
    y[rng.random(y.shape) < rng.choice([0, 0.3])] = -1
    x[:, :4] += rng.choice([0, 1.0]) * y
    trust, scores = label_trust(x, y, patient, replaced_by=replaced_by), out_of_fold_scores(x, y, patient, seed=0)
    for i, score in enumerate(scores.T):
        known = y[:, i] >= 0
        if len(set(y[known, i])) < 2:
            assert all(math.isnan(column[i]) for column in (trust.noise, trust.lo, trust.hi))
            continue
        count = round(0.3 * known.sum())
        of_label = score[known], y[known, i], patient[known]
        share, _, (_, hi) = ones_among_anchors(*of_label, count)
        lower_share, at_lowest, wilson = ones_among_anchors(*of_label, max(1, count // 2))
        # the line at the lowest score is 1.5 times the lower half's share less 0.5 times the upper's
        half_width = (wilson[1] - wilson[0]) / 2 * math.sqrt(2 * (1.5**2 + 0.5**2))
        lo = min(share, (wilson[0] + wilson[1]) / 2 - half_width - (lower_share - at_lowest))
        scale = 2 if replaced_by == "coin" else 1 / (y[known, i] == 1).mean()
        expected = np.clip(np.array([share, lo, hi]) * scale, 0, 1)
        np.testing.assert_allclose([trust.noise[i], trust.lo[i], trust.hi[i]], expected, atol=1e-9)
        assert trust.anchors[i] == count


def by_heart(y, of, n_networks, rng):
    """Features of networks that have learnt labels by heart: they show an image's own labels, to network `of` of it."""
    shown = np.zeros((len(y), n_networks, y.shape[1]))
    for network in range(n_networks):
        shown[:, network] = rng.normal(size=y.shape) + 2.0 * y * (of != network)[:, None]
    return shown


def test_features_that_know_an_images_labels_hide_noise_and_cross_fitted_ones_do_not():
    rates, estimates, held = np.array([0.2, 0.4]), {"in sample": [], "cross-fitted": []}, []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x, y = data(rates, 2000, seed, hardness=3.0)
        part = np.arange(2000) % 2
        shown = by_heart(y, part, 2, rng)  # network 0 has trained on the images of part 1, and the reverse
        in_sample = np.hstack([x, shown[np.arange(2000), 1 - part]])
        cross_fitted = np.hstack([x, shown[np.arange(2000), part]])
        estimates["in sample"].append(label_trust(in_sample, y).noise)
        trust = label_trust(cross_fitted, y, networks=part)
        estimates["cross-fitted"].append(trust.noise)
        held.append((np.array(trust.lo) <= rates) & (rates <= np.array(trust.hi)))
    assert (np.mean(estimates["in sample"], axis=0) < rates - 0.05).all()
    np.testing.assert_allclose(np.mean(estimates["cross-fitted"], axis=0), rates, atol=0.03)
    assert np.mean(held) >= 0.9


def test_each_networks_features_are_read_by_themselves():
    """Another network's features have other directions, another origin and another scale: nothing changes."""
    x, y = data(n=3000)
    networks, patients = np.arange(3000) % 3, np.arange(3000) // 6
    one = label_trust(x, y, patients, networks=networks)
    mixed = x.copy()
    for network in range(3):
        rows = networks == network
        rotation = np.linalg.qr(np.random.default_rng(network).standard_normal((12, 12)))[0]
        mixed[rows] = 5 * network + 10.0**network * x[rows] @ rotation
    two = label_trust(mixed, y, patients, networks=7 * networks + 2)
    np.testing.assert_allclose(one.noise, two.noise)
    np.testing.assert_allclose(one.hi, two.hi)
    assert spearmanr(one.noise, RATES).statistic > 0.85


def test_the_table_begins_with_the_label_to_be_trusted_least():
    rows = label_trust(*data()).table([f"label {i}" for i in range(8)])
    assert rows[0]["label"] == "label 6"
    assert [row["rank"] for row in rows] == list(range(8, 0, -1))
    assert set(rows[0]) == {"label", "rank", "noise", "lo", "hi", "anchors"}


def test_too_few_patients_are_refused():
    x, y = data(n=40)
    with pytest.raises(SettingError, match="at least 5 patients for each network; got 4"):
        label_trust(x, y, np.arange(40) % 4)
    with pytest.raises(SettingError, match="at least 5 patients for each network; got 4"):
        label_trust(x, y, np.arange(40) % 8, networks=np.arange(40) % 2)
