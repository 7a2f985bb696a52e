"""Counter-based random numbers: each value is a hash of its key (seed, purpose, epoch, sample); no generator state.

What happens to sample i in epoch e is a function of (seed, purpose, e, i) only. It does not depend on the batch size,
the device, the number of processes, the order of calls, or the epoch from which training resumed.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
OOPSLA 2014, figure 13), applied once per part of the key. PyTorch has no unsigned 64-bit arithmetic, but sums and
products of int64 wrap around in the same way, and a logical right shift is an arithmetic one without the sign bits.

Shapes: n samples, c values per sample.
"""

import numpy as np
import torch
from torch import Tensor


def _to_int64(value: int) -> int:
    """Return the signed integer with the same low 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GAMMA = _to_int64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = _to_int64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _to_int64(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Shift logically: zeros come in from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """Apply SplitMix64's finaliser."""
    x = (x ^ _shift_right(x, 30)) * _MULTIPLIER_1
    x = (x ^ _shift_right(x, 27)) * _MULTIPLIER_2
    return x ^ _shift_right(x, 31)


def seed_for(seed: int, purpose: str) -> int:
    """Derive an independent 64-bit seed for one purpose from a study's seed.

    Args:
        seed: at least 0.
        purpose: ASCII name, for example "initial weights".
    """
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode()))
    return int(sequence.generate_state(1, np.uint64)[0])


def random_bits(seed: int, purpose: str, epoch: int, samples: Tensor, count: int) -> Tensor:
    """Hash (seed, purpose, epoch, sample, column) to 64 random bits for each sample and column.

    Args:
        seed: at least 0.
        purpose: ASCII name.
        epoch: at least 0.
        samples: (n,) int64, row numbers of the samples. The result is on their device.
        count: c, the number of values per sample.

    Returns:
        (n, c) int64, all 64 bits random.
    """
    key = _to_int64(seed_for(seed, purpose) + _GAMMA * (epoch + 1))
    # torch.full, not torch.tensor: a copy from the host would make the host wait for the GPU in every step
    epoch_hash = _mix(torch.full((), key, dtype=torch.int64, device=samples.device))
    sample_hash = _mix(epoch_hash + _GAMMA * (samples + 1))
    columns = torch.arange(1, count + 1, device=samples.device)
    return _mix(sample_hash[:, None] + _GAMMA * columns)


def uniform_from(bits: Tensor) -> Tensor:
    """Return uniform values, float32 in [0, 1), from the top 24 bits of each int64."""
    return _shift_right(bits, 40).float() * 2.0**-24


def index_from(bits: Tensor, n: int) -> Tensor:
    """Return indices in 0..n-1, int64, from the lower 63 bits of each int64; n below 2**40 leaves no visible bias."""
    return (bits & ((1 << 63) - 1)) % n


def random_uniform(seed: int, purpose: str, epoch: int, samples: Tensor, count: int) -> Tensor:
    """Return uniform values, (n, c) float32 in [0, 1), from `random_bits` of the same arguments."""
    return uniform_from(random_bits(seed, purpose, epoch, samples, count))


def random_subset(seed: int, purpose: str, n: int, size: int) -> Tensor:
    """Choose a random subset of n samples; a larger subset of the same seed and purpose contains the smaller one.

    Args:
        seed: at least 0.
        purpose: ASCII name.
        n: number of samples.
        size: number of samples to choose; all n if it is larger than n.

    Returns:
        Row numbers, (min(n, size),) int64, ascending, on the CPU.
    """
    rank = random_bits(seed, purpose, 0, torch.arange(n), 1)[:, 0]
    return torch.argsort(rank, stable=True)[:size].sort().values


def epoch_order(seed: int, epoch: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the order in which an epoch visits its n samples: (n,) int64, a permutation of 0..n-1."""
    rank = random_bits(seed, "order", epoch, torch.arange(n, device=device), 1)[:, 0]
    return torch.argsort(rank, stable=True)
