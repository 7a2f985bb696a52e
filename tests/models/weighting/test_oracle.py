import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.errors import SettingError
from models.weighting.oracle import Oracle, OracleSettings, noise_weights, realised_noise


def test_the_realised_noise_is_the_share_of_each_class_that_changed():
    clean = torch.tensor([[1, 0], [1, 0], [0, 0], [0, -1]], dtype=torch.int8)
    noisy = torch.tensor([[0, 1], [1, 0], [0, 0], [1, -1]], dtype=torch.int8)
    expected = torch.tensor([[0.5, 0.5], [0.0, 1 / 3]], dtype=torch.float64)  # no 1 in the second label
    torch.testing.assert_close(realised_noise(clean, noisy), expected)


@pytest.mark.parametrize("prevalence", [0.03, 0.5])
@pytest.mark.parametrize("replaced_by", ["coin", "prevalence"])
def test_random_labels_on_a_share_p_cost_the_factor_1_minus_p_squared(prevalence, replaced_by):
    rng = np.random.default_rng(0)
    n, p = 400_000, 0.4
    clean = rng.random((n, 2)) < prevalence
    random = rng.random((n, 2)) < (0.5 if replaced_by == "coin" else prevalence)
    noisy = np.where(rng.random((n, 2)) < [0, p], random, clean)
    weights = noise_weights(realised_noise(torch.tensor(clean).int(), torch.tensor(noisy).int()).sum(1))
    assert (weights[1] / weights[0]).item() == pytest.approx((1 - p) ** 2, abs=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=14))
def test_weights_sum_to_k_and_fall_with_the_noise(noise):
    p = torch.tensor(noise, dtype=torch.float64)
    weights = noise_weights(p)
    assert weights.sum().item() == pytest.approx(len(noise))
    order = torch.argsort(p)
    assert (weights[order].diff() <= 1e-9).all()


def test_equal_noise_and_no_signal_at_all_weigh_alike():
    ones = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(noise_weights(torch.full((3,), 0.3)), ones)
    assert torch.equal(noise_weights(torch.tensor([1.0, 1.0, 1.5])), ones)


def test_an_oracle_without_the_noise_is_refused():
    with pytest.raises(SettingError, match="which is not known here: choose another method"):
        Oracle(OracleSettings(), 3, None)
    with pytest.raises(SettingError, match=r"shape \(3, 2\); got \(3,\)"):
        Oracle(OracleSettings(), 3, torch.zeros(3))
