import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from models.weighting.oracle import (
    LabelNoise,
    Oracle,
    OracleSettings,
    noise_weights,
    random_share_noise,
    realised_noise,
)

SHARES = st.integers(0, 10**6).map(lambda count: count / 10**6)  # of a million entries


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def noise_of(signal, before, after):
    return LabelNoise(vector(*signal), vector(*before), vector(*after))


def noisy_labels(clean, rng, *, share=0.0, ones=None, flips=0.0, lost=0.0):
    """Labels (n,) of which a share is replaced by random ones, or flipped, or of which present ones are lost."""
    n = len(clean)
    random = rng.permutation(clean) if ones is None else rng.random(n) < ones
    noisy = np.where(rng.random(n) < share, random, clean)
    noisy = np.where(rng.random(n) < flips, ~noisy, noisy)
    return noisy & (rng.random(n) >= lost)


def relative_weight(clean, noisy, formula):
    """The weight of noisy labels, relative to that of the same labels without noise."""
    both = torch.tensor(np.stack([clean, noisy], 1)).int()
    weights = noise_weights(realised_noise(both[:, [0, 0]], both), formula)
    return float(weights[1] / weights[0])


def test_the_realised_noise_is_the_signal_that_is_left_and_both_prevalences():
    clean = torch.tensor([[1, 0], [1, 0], [0, 0], [0, -1]], dtype=torch.int8)
    noisy = torch.tensor([[1, 1], [1, 0], [0, 0], [1, -1]], dtype=torch.int8)
    signal, before, after = realised_noise(clean, noisy)
    torch.testing.assert_close(signal, vector(1 - 0.5, 1 - 1 / 3))  # no 1 in the second label, so none is lost
    torch.testing.assert_close(before, vector(0.5, 0))
    torch.testing.assert_close(after, vector(0.75, 1 / 3))


def test_only_entries_that_are_known_before_and_after_count():
    clean = torch.tensor([[1], [1], [0], [-1], [1]], dtype=torch.int8)
    noisy = torch.tensor([[0], [1], [0], [1], [-1]], dtype=torch.int8)
    signal, before, after = realised_noise(clean, noisy)
    assert (signal.item(), before.item(), after.item()) == pytest.approx((0.5, 2 / 3, 1 / 3))


def test_a_rare_label_with_coins_on_a_fifth_keeps_an_eighth_of_its_information():
    """By hand: q = 0.8 x 0.02 + 0.2 x 0.5 = 0.116, and 0.8^2 x 0.02 x 0.98 / (0.116 x 0.884) = 0.1223."""
    noise = noise_of([1, 0.8], [0.02, 0.02], [0.02, 0.116])
    information, signal = noise_weights(noise, "information"), noise_weights(noise, "signal")
    assert (information[1] / information[0]).item() == pytest.approx(0.1223, abs=5e-5)
    assert (signal[1] / signal[0]).item() == pytest.approx(0.64)
    assert noise_weights(noise).equal(information)


@pytest.mark.parametrize(
    "noise",
    [
        {"share": 0.4, "ones": 0.5},
        {"share": 0.4, "ones": 0.1},
        {"share": 0.3},
        {"flips": 0.2},
        {"lost": 0.5},
        {"share": 0.2, "ones": 0.9, "lost": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("prevalence", [0.05, 0.5])
def test_information_is_the_inverse_variance_of_an_effect_that_is_learnt_from_noisy_labels(prevalence, noise):
    """Monte Carlo: a feature is 0.1 higher in the images with the finding. Of each of 1,500 samples of noisy labels,
    the effect is estimated by the covariance of feature and label, divided by what the noise leaves of it on average.
    """
    rng = np.random.default_rng(1)
    samples, n = 1500, 1000
    clean = rng.random((samples, n)) < prevalence
    noisy = noisy_labels(clean.reshape(-1), rng, **noise).reshape(samples, n)
    feature = rng.normal(size=(samples, n)) + 0.1 * clean

    def precision(labels):
        """Squared mean over variance: what scales an estimate without bias cancels out."""
        covariances = ((labels - labels.mean(1, keepdims=True)) * feature).mean(1)
        expected = 0.1 * np.mean(labels * clean) - 0.1 * labels.mean() * clean.mean()
        return expected**2 / covariances.var()

    found = relative_weight(clean.reshape(-1), noisy.reshape(-1), "information")
    assert found == pytest.approx(precision(noisy) / precision(clean), rel=0.12)


def test_a_permutation_keeps_the_prevalence_so_both_formulas_agree():
    rng = np.random.default_rng(0)
    clean = rng.random(400_000) < 0.1
    noisy = noisy_labels(clean, rng, share=0.4)
    for formula in ("information", "signal"):
        assert relative_weight(clean, noisy, formula) == pytest.approx(0.6**2, abs=0.01)


@pytest.mark.parametrize(
    ("noise", "signal", "after"),
    [({"flips": 0.2}, 0.6, 0.2 + 0.6 * 0.1), ({"lost": 0.3}, 0.7, 0.07), ({"share": 0.3, "ones": 1}, 0.7, 0.37)],
    ids=["flips", "lost findings", "invented findings"],
)
def test_flips_and_noise_on_one_side_follow_from_the_rates_of_both_classes(noise, signal, after):
    rng = np.random.default_rng(0)
    clean = rng.random(400_000) < 0.1
    noisy = noisy_labels(clean, rng, **noise)
    expected = signal**2 * (0.1 * 0.9) / (after * (1 - after))
    assert relative_weight(clean, noisy, "information") == pytest.approx(expected, rel=0.03)
    assert relative_weight(clean, noisy, "signal") == pytest.approx(signal**2, rel=0.03)


def test_labels_that_are_wrong_more_often_than_right_have_no_weight():
    clean = torch.tensor([[1, 1], [0, 0]])
    assert torch.equal(noise_weights(realised_noise(clean, torch.tensor([[1, 0], [0, 1]]))), vector(2, 0))


@pytest.mark.parametrize("formula", ["information", "signal"])
@given(st.lists(st.tuples(SHARES, SHARES, SHARES), min_size=1, max_size=14))
def test_weights_are_at_least_0_and_sum_to_k(formula, labels):
    weights = noise_weights(noise_of(*zip(*labels, strict=True)), formula)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert weights.sum().item() == pytest.approx(len(labels))


@pytest.mark.parametrize("formula", ["information", "signal"])
@given(st.floats(0.01, 0.5), st.lists(st.floats(0, 0.99), min_size=2, max_size=14), SHARES)
def test_the_more_random_entries_the_less_weight(formula, prevalence, shares, ones):
    """As long as the random entries are nearer to a fair coin than the label is."""
    p = torch.tensor(shares, dtype=torch.float64)
    q = (1 - p) * prevalence + p * (prevalence + ones * (0.5 - prevalence))
    weights = noise_weights(LabelNoise(1 - p, torch.full_like(p, prevalence), q), formula)
    assert (weights[torch.argsort(p)].diff() <= 1e-9).all()


@pytest.mark.parametrize("formula", ["information", "signal"])
def test_clean_labels_and_labels_without_any_signal_weigh_alike(formula):
    clean = torch.randint(-1, 2, (200, 3), generator=torch.Generator().manual_seed(0))
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(noise_weights(realised_noise(clean, clean), formula), ones)
    assert torch.equal(noise_weights(noise_of([0] * 3, [0.1] * 3, [0.5] * 3), formula), ones)


def test_a_label_that_the_noise_made_constant_tells_nothing():
    noise = realised_noise(torch.tensor([[1, 1], [0, 0]]), torch.tensor([[1, 0], [0, 0]]))
    assert torch.equal(noise_weights(noise), vector(2, 0))


@given(SHARES, st.floats(0, 0.99), SHARES)
def test_the_prevalence_before_random_entries_follows_from_that_after_them(pi, p, ones):
    q = (1 - p) * pi + p * ones
    noise = random_share_noise(vector(p), vector(q), vector(ones))
    assert noise.before.item() == pytest.approx(pi, abs=1e-9)
    assert (noise.signal.item(), noise.after.item()) == pytest.approx((1 - p, q))


@given(SHARES, SHARES)
def test_random_entries_of_the_labels_own_prevalence_do_not_change_it(p, q):
    noise = random_share_noise(vector(p), vector(q))
    assert noise.before.item() == noise.after.item() == q


@given(SHARES, SHARES, SHARES)
def test_a_share_that_the_prevalence_contradicts_gives_a_prevalence_all_the_same(p, q, ones):
    noise = random_share_noise(vector(p), vector(q), vector(ones))
    assert 0 <= noise.before.item() <= 1


def test_the_oracle_has_the_weights_of_its_formula():
    noise = noise_of([1, 0.8, 0.6], [0.02, 0.1, 0.3], [0.02, 0.18, 0.38])
    assert torch.equal(Oracle(OracleSettings(), 3, noise).weights(), noise_weights(noise, "information"))
    signal = Oracle(OracleSettings(formula="signal"), 3, noise)
    assert torch.equal(signal.weights(), noise_weights(noise, "signal"))
    assert signal.settings.name == "oracle(formula=signal)"


def test_an_oracle_without_the_noise_is_refused():
    with pytest.raises(SettingError, match="which is not known here: choose another method"):
        Oracle(OracleSettings(), 3, None)
    with pytest.raises(SettingError, match=r"that of 3 labels; got \(2,\)"):
        Oracle(OracleSettings(), 3, noise_of([1, 1], [0.1, 0.1], [0.1, 0.1]))
