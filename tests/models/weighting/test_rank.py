import numpy as np
import pytest
import torch
from torch import Tensor

from models.errors import SettingError
from models.weighting.rank import Moments, rank_from_spectrum, rank_on_validation
from models.weighting.svd import Theta


def planted(rank: int, n: int, seed: int, strength: float = 3.0) -> tuple[Tensor, Tensor]:
    """Features (n, 20) of which `rank` directions carry six labels (n, 6), scrambled by a fixed rotation."""
    fixed, rng = np.random.default_rng(7), np.random.default_rng(seed)
    rotation = np.linalg.qr(fixed.standard_normal((20, 20)))[0]
    mixing = fixed.standard_normal((rank, 6))
    x = rng.standard_normal((n, 20))
    y = x[:, :rank] @ mixing * strength + rng.standard_normal((n, 6)) > 0
    return torch.tensor(x @ rotation), torch.tensor(y).to(torch.int8)


def sums(features: Tensor, targets: Tensor) -> tuple[Theta, Moments]:
    known = targets >= 0
    return Theta().add(features, targets, known), Moments().add(features, targets, known)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_spectrum_shows_the_planted_rank(rank):
    theta, moments = sums(*planted(rank, 2000, 0))
    assert rank_from_spectrum(theta.matrix("unit"), moments) == rank


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_validation_finds_the_planted_rank(rank):
    theta, moments = sums(*planted(rank, 2000, 0))
    assert rank_on_validation(theta.matrix("unit"), moments, [planted(rank, 1000, 1)]) == rank


def test_labels_without_signal_have_rank_1_almost_always():
    found = []
    for seed in range(20):
        x, _ = planted(1, 300, seed)
        y = torch.tensor(np.random.default_rng(seed).random((300, 6)) < 0.3).to(torch.int8)
        theta, moments = sums(x, y)
        found.append(rank_from_spectrum(theta.matrix("unit"), moments))
    assert np.mean(np.array(found) == 1) >= 0.8


def test_neither_rule_depends_on_the_coding_of_a_label_or_the_order_of_the_labels():
    x, y = planted(2, 1000, 0)
    xv, yv = planted(2, 500, 1)
    other, other_val = (1 - t[:, [3, 1, 0, 5, 4, 2]] for t in (y, yv))
    one, two = sums(x, y), sums(x, other)
    assert rank_from_spectrum(one[0].matrix("unit"), one[1]) == rank_from_spectrum(two[0].matrix("unit"), two[1])
    assert rank_on_validation(one[0].matrix("effect"), one[1], [(xv, yv)]) == rank_on_validation(
        two[0].matrix("effect"), two[1], [(xv, other_val)]
    )


def test_moments_are_those_of_numpy_in_any_batches_and_pairwise_over_known_rows():
    x, y = planted(2, 200, 0)
    y[::3, 0] = -1
    y[::5, 1] = -1
    moments = Moments()
    for rows in torch.arange(200).split(64):
        moments.add(x[rows], y[rows], y[rows] >= 0)
    np.testing.assert_allclose(moments.feature_covariance(), np.cov(x.T, bias=True), atol=1e-12)
    correlation = moments.label_correlation()
    np.testing.assert_allclose(correlation[2:, 2:], np.corrcoef(y[:, 2:].T), atol=1e-12)
    both = (y[:, 0] >= 0) & (y[:, 1] >= 0)
    a, b = y[both, 0].double(), y[both, 1].double()
    covariance = (a * b).mean() - a.mean() * b.mean()
    ka, kb = (y[y[:, i] >= 0, i].double() for i in (0, 1))
    expected = covariance / (ka.std(correction=0) * kb.std(correction=0))
    assert correlation[0, 1].item() == pytest.approx(expected.item())
    assert moments.known()[0] == (y[:, 0] >= 0).sum()


def test_constant_labels_and_an_unscorable_validation_set_give_rank_1():
    x, y = planted(1, 100, 0)
    theta, moments = sums(x, torch.zeros_like(y))
    assert rank_from_spectrum(theta.matrix("unit"), moments) == 1
    assert rank_on_validation(theta.matrix("unit"), moments, [(x, torch.zeros_like(y))]) == 1
    with pytest.raises(SettingError, match="at least one training image"):
        Moments().feature_covariance()
