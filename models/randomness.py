"""Counter-based randomness: a value is a hash of what it is for, never the next one of a stream.

What happens to sample i in epoch e is a function of (seed, purpose, e, i) alone, so it depends neither on the
batch size nor on the device, the number of processes, the order of calls or the point of resumption.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators,
OOPSLA 2014, figure 13), applied once per part of the key. PyTorch has no unsigned 64-bit arithmetic: additions and
products of int64 wrap as they should, and a logical right shift is an arithmetic one without the copied sign bits.

Shapes: n samples, c values per sample.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift_right(x, 30)) * _FIRST
    x = (x ^ _shift_right(x, 27)) * _SECOND
    return x ^ _shift_right(x, 31)


def seed_for(seed: int, purpose: str) -> int:
    """A 64-bit seed of its own for each purpose of one study seed.

    Args:
        seed: at least 0.
        purpose: ASCII name, for example "initial weights".
    """
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode()))
    return int(sequence.generate_state(1, np.uint64)[0])


def hashed(seed: int, purpose: str, epoch: int, samples: Tensor, count: int) -> Tensor:
    """Hashes of (seed, purpose, epoch, sample, column).

    Args:
        samples: (n,) int64, the samples' row numbers; the result lies on their device.
        count: c, the number of values per sample.

    Returns:
        (n, c) int64, all 64 bits random.
    """
    key = _signed(seed_for(seed, purpose) + _GAMMA * (epoch + 1))
    # filled, not copied: a copy from the host would make it wait for a GPU in every step
    of_epoch = _mix(torch.full((), key, dtype=torch.int64, device=samples.device))
    of_sample = _mix(of_epoch + _GAMMA * (samples + 1))
    columns = torch.arange(1, count + 1, device=samples.device)
    return _mix(of_sample[:, None] + _GAMMA * columns)


def uniforms(seed: int, purpose: str, epoch: int, samples: Tensor, count: int) -> Tensor:
    """Uniform values, (n, c) float32 in [0, 1), from the top 24 bits of `hashed`."""
    return _shift_right(hashed(seed, purpose, epoch, samples, count), 40).float() * 2.0**-24


def subset(seed: int, purpose: str, n: int, size: int) -> Tensor:
    """Row numbers of a random subset of n samples: (size,) int64, ascending, on the CPU; n of them at most.

    A larger subset of the same seed and purpose holds the smaller one.
    """
    rank = hashed(seed, purpose, 0, torch.arange(n), 1)[:, 0]
    return torch.argsort(rank, stable=True)[:size].sort().values


def epoch_order(seed: int, epoch: int, n: int, device: torch.device | str = "cpu") -> Tensor:
    """The order in which an epoch visits its n samples: (n,) int64, a permutation of 0..n-1."""
    rank = hashed(seed, "order", epoch, torch.arange(n, device=device), 1)[:, 0]
    return torch.argsort(rank, stable=True)


@contextmanager
def seeded_construction(seed: int, purpose: str) -> Iterator[None]:
    """Inside, PyTorch's own generator on the CPU is seeded by name; outside, it is as if nothing had happened.

    Modules draw their initial weights from the global generator and take no other: this is the only place
    where it is touched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, purpose))
        yield
