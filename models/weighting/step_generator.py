"""Draws for libraries that take no generator: PyTorch's global ones, borrowed for a moment and given back.

What is drawn in a step depends on (seed, purpose, step) alone: not on the steps before it, so that a resumed
training draws what an uninterrupted one does.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.randomness import seed_for

_borrowed = threading.RLock()  # the generators are the process's: of the arms in its threads, one at a time draws


@contextmanager
def step_generator(seed: int, purpose: str, step: int, device: torch.device) -> Iterator[None]:
    """Inside, the global generators of the CPU and of `device` are at the start of (seed, purpose, step); outside,
    it is as if nothing had happened.

    Args:
        seed: at least 0.
        purpose: ASCII name.
        step: at least 0.
    """
    value = seed_for(seed, f"{purpose}/{step}") >> 1  # a generator takes 63 bits
    with _borrowed, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(value)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        yield
