"""Seeding of PyTorch's global generators for one step, for libraries that accept no generator; then they are restored.

The random numbers of a step depend only on (seed, purpose, step), not on earlier steps, so that resumed training draws
the same numbers as uninterrupted training.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from models.randomness import seed_for

_lock = threading.RLock()  # the arms that train in threads of this process share the generators


@contextmanager
def step_generator(seed: int, purpose: str, step: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of the CPU and of `device` for the block, and restore their state afterwards.

    Args:
        seed: of the training, at least 0.
        purpose: ASCII name.
        step: at least 0.
        device: of the tensors that are drawn.

    Yields:
        None; call the library inside the block.
    """
    value = seed_for(seed, f"{purpose}/{step}") >> 1  # a generator takes 63 bits
    with _lock, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(value)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(value)
        yield
