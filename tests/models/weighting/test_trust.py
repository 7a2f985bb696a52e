"""Weights from label trust; the estimate itself is tested in test_label_trust."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from models.weighting.base import FeatureBatch
from models.weighting.label_trust import LabelTrust, label_trust
from models.weighting.oracle import noise_weights, random_share_noise, realised_noise
from models.weighting.svd_rules import SvdDynamic, SvdDynamicSettings
from models.weighting.trust import Trust, TrustSettings, trust_weights

K = 4
SHARES = np.array([0.0, 0.1, 0.2, 0.4])


def drawn(n=4000, ones=0.5, seed=0):
    """Features (n, 8) that show every finding, the clean labels, and labels of which SHARES are random."""
    rng = np.random.default_rng(seed)
    clean = rng.random((n, K)) < 0.2
    features = rng.standard_normal((n, 8))
    features[:, :K] += 3 * clean
    random = rng.random((n, K)) < ones
    noisy = np.where(rng.random((n, K)) < SHARES, random, clean)
    return torch.tensor(features, dtype=torch.float32), *(torch.tensor(y, dtype=torch.int8) for y in (clean, noisy))


def passing(features, targets, patients=None, networks=None):
    """A feature pass in three batches, as of a data set: with images of 50 patients each, or of those given."""
    n = len(targets)
    patients = torch.arange(n) % (n // 50) if patients is None else patients
    batch = FeatureBatch(features, targets, patients, torch.zeros(n) if networks is None else networks)
    return lambda rows: (FeatureBatch(*parts) for parts in zip(*(part.split(n // 3) for part in batch), strict=True))


def started(given, **values):
    weighting = Trust(TrustSettings(**values), K)
    weighting.start(given)
    return weighting


@pytest.mark.parametrize("formula", ["information", "signal"])
@pytest.mark.parametrize("replaced_by", ["coin", "prevalence"])
def test_the_weights_are_those_of_the_noise_that_label_trust_finds(formula, replaced_by):
    features, _, noisy = drawn()
    patients = torch.arange(4000) % 80
    weighting = started(passing(features, noisy), formula=formula, replaced_by=replaced_by)
    trust = label_trust(features, noisy, patients, replaced_by=replaced_by)
    assert weighting.trust() == trust
    ones = torch.full((K,), 0.5, dtype=torch.float64) if replaced_by == "coin" else None
    noise = random_share_noise(torch.tensor(trust.noise), (noisy == 1).double().mean(0), ones)
    torch.testing.assert_close(weighting.weights(), noise_weights(noise, formula), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("formula", ["information", "signal"])
def test_on_findings_that_the_features_show_the_weights_are_near_the_oracles(formula):
    features, clean, noisy = drawn(20_000)
    weights = started(passing(features, noisy), formula=formula).weights()
    oracle = noise_weights(realised_noise(clean, noisy), formula)
    assert spearmanr(weights, oracle).statistic == pytest.approx(1)
    torch.testing.assert_close(weights, oracle, rtol=0.1, atol=0.05)


def test_patients_are_not_torn_apart():
    """A feature shows who the patient is, and the findings are the patient's: only whole patients out of the fold show
    that the features tell nothing."""
    rng = np.random.default_rng(0)
    patients = torch.arange(100).repeat_interleave(10)
    features = torch.eye(100)[patients] + 0.01 * torch.tensor(rng.standard_normal((1000, 100)), dtype=torch.float32)
    targets = torch.tensor(rng.random((100, K)) < 0.2, dtype=torch.int8)[patients]
    whole = started(passing(features, targets, patients)).trust()
    torn = started(passing(features, targets, torch.arange(1000))).trust()
    assert min(whole.noise) > 0.2
    assert max(torn.noise) < 0.05
    assert whole == label_trust(features, targets, patients)


def test_the_prevalence_is_that_of_the_known_entries():
    trust = LabelTrust((0.1, 0.2), (0, 0), (1, 1), (1, 2), (9, 9))
    targets = torch.tensor([[1, -1], [0, -1], [0, 1], [0, 0]], dtype=torch.int8)
    noise = random_share_noise(torch.tensor([0.1, 0.2]), torch.tensor([0.25, 0.5]), torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(trust_weights(trust, targets, "coin", "information"), noise_weights(noise))


def test_a_label_that_cannot_be_estimated_has_the_signal_of_a_clean_one():
    trust = LabelTrust((0.5, float("nan")), (0, 0), (1, 1), (1, 2), (9, 0))
    weights = trust_weights(trust, torch.zeros(4, 2, dtype=torch.int8), "coin", "signal")
    torch.testing.assert_close(weights, torch.tensor([0.4, 1.6], dtype=torch.float64))


def test_svd_dynamic_by_trust_has_the_same_weights_from_the_same_features_and_reports_no_trust():
    features, _, noisy = drawn()
    other = SvdDynamic(SvdDynamicSettings(features="finished"), K)
    other.start(passing(features, noisy))
    torch.testing.assert_close(other.weights(), started(passing(features, noisy)).weights())
    assert other.trust() is None  # features of a network that was trained on the labels are too kind to them


def test_the_features_of_each_network_are_read_by_themselves():
    features, _, noisy = drawn()
    networks = torch.arange(4000) % 2
    mixed = torch.where(networks[:, None] == 1, features, -features)
    expected = label_trust(mixed, noisy, torch.arange(4000) % 80, networks=networks)
    assert started(passing(mixed, noisy, networks=networks)).trust() == expected
    assert started(passing(mixed, noisy)).trust() != expected


def test_the_weights_stay_during_training_and_survive_a_resume():
    features, _, noisy = drawn()
    one, two = started(passing(features, noisy)), Trust(TrustSettings(), K)
    expected = one.weights()
    for epoch in range(3):
        one.after_epoch(epoch, lambda rows: pytest.fail("the features were asked for"))
    assert torch.equal(one.weights(), expected)
    two.load_state_dict(one.state_dict())
    assert torch.equal(two.weights(), expected)
    assert two.trust() == one.trust()
    two.load_state_dict(Trust(TrustSettings(), K).state_dict())
    assert two.trust() is None
    assert TrustSettings().feature_source == "cross_fitted"
