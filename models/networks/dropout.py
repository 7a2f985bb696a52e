"""Dropout whose masks belong to (seed, step, place), and to no generator that anyone else draws from.

Arms train in parallel threads of one process, which share PyTorch's global generators: seeding those would let one
arm draw another's numbers. Here each layer makes a generator of its own for each mask, at the beginning of
(seed, step, part, place). So a resumed training, and a forward pass that is repeated to save memory (gradient
checkpointing), draw the same mask again.
"""

import torch
from torch import Tensor, nn

from models.randomness import seed_for


class Draws:
    """Where training is; the dropout layers of one network share it."""

    def __init__(self) -> None:
        self._seed: int | None = None

    def begin(self, seed: int, step: int, part: int = 0) -> None:
        """What is drawn next belongs to this part (a micro-batch) of this step."""
        self._seed = seed_for(seed, f"dropout/{step}/{part}")

    def generator(self, place: int, device: torch.device) -> torch.Generator:
        """At the beginning of the current part's draws at a place.

        Raises:
            RuntimeError: no step has begun.
        """
        if self._seed is None:
            raise RuntimeError("dropout needs to know the step: call network.draws.begin(seed, step) before forward")
        return torch.Generator(device).manual_seed(seed_for(self._seed, f"{place}") >> 1)


class SeededDropout(nn.Module):
    """Zeroes a share p of the values in training mode and divides the others by 1 - p.

    Args:
        place: a number of its own among the layers that share `draws`.
    """

    def __init__(self, p: float, place: int, draws: Draws) -> None:
        super().__init__()
        self.p, self.place, self.draws = p, place, draws

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or self.p == 0:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.draws.generator(self.place, x.device))
        return x * kept.div_(1 - self.p)
