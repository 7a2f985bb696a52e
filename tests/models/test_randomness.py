import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.randomness import epoch_order, random_bits, random_subset, random_uniform, seed_for

MASK = (1 << 64) - 1


def splitmix(x: int) -> int:
    """SplitMix64's finaliser on Python's integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def naive_hash(seed: int, purpose: str, epoch: int, sample: int, column: int) -> int:
    gamma = 0x9E3779B97F4A7C15
    of_epoch = splitmix((seed_for(seed, purpose) + gamma * (epoch + 1)) & MASK)
    of_sample = splitmix((of_epoch + gamma * (sample + 1)) & MASK)
    return splitmix((of_sample + gamma * (column + 1)) & MASK)


@settings(deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 10**6), st.integers(0, 10**9))
def test_hashes_equal_unsigned_arithmetic(seed, epoch, sample):
    ours = random_bits(seed, "order", epoch, torch.tensor([sample]), 3)[0].tolist()
    assert [value & MASK for value in ours] == [naive_hash(seed, "order", epoch, sample, c) for c in range(3)]


def test_a_sample_gets_the_same_values_in_any_set_of_samples():
    batched = random_uniform(3, "augmentation", 2, torch.arange(100), 7)
    single = torch.cat([random_uniform(3, "augmentation", 2, torch.tensor([i]), 7) for i in range(100)])
    assert torch.equal(batched, single)


def test_seed_purpose_epoch_and_sample_all_matter():
    sample = torch.tensor([5])
    values = {
        random_uniform(*key, sample, 1).item() for key in [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    } | {random_uniform(0, "a", 0, torch.tensor([6]), 1).item()}
    assert len(values) == 5


def test_uniforms_are_uniform_and_uncorrelated():
    values = random_uniform(0, "augmentation", 1, torch.arange(100_000), 2).double().numpy()
    assert values.min() >= 0
    assert values.max() < 1
    counts = np.histogram(values[:, 0], bins=50, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 95  # chi-squared, 49 degrees of freedom, 1e-4
    neighbours = np.stack([values[:-1, 0], values[1:, 0], values[:-1, 1]])
    assert np.abs(np.corrcoef(neighbours) - np.eye(3)).max() < 0.013  # four standard errors


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 1000), st.integers(1, 500))
def test_an_epoch_visits_every_sample_once(seed, epoch, n):
    assert sorted(epoch_order(seed, epoch, n).tolist()) == list(range(n))


def test_epochs_differ_in_their_order():
    assert not torch.equal(epoch_order(0, 1, 50), epoch_order(0, 2, 50))


@settings(deadline=None)
@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 9))
def test_a_subset_is_ascending_within_range_and_part_of_every_larger_one(n, size, seed):
    rows = random_subset(seed, "feature pass", n, size).tolist()
    assert len(rows) == min(n, size)
    assert rows == sorted(set(rows))
    assert set(rows) <= set(range(n))
    assert set(rows) <= set(random_subset(seed, "feature pass", n, size + 1).tolist())
