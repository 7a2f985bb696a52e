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


def test_the_table_begins_with_the_label_to_be_trusted_least():
    rows = label_trust(*data()).table([f"label {i}" for i in range(8)])
    assert rows[0]["label"] == "label 6"
    assert [row["rank"] for row in rows] == list(range(8, 0, -1))
    assert set(rows[0]) == {"label", "rank", "noise", "lo", "hi", "anchors"}


def test_too_few_patients_are_refused():
    x, y = data(n=40)
    with pytest.raises(SettingError, match="at least 5 patients; got 4"):
        label_trust(x, y, np.arange(40) % 4)
