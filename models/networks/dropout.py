"""Seeded dropout: each mask is a function of (seed, step, micro-batch, layer) and uses no shared generator.

Arms train in parallel threads of one process, which share PyTorch's global generators; if those were seeded, one arm
could use up another's random numbers. Here each layer makes a new generator for each mask, seeded by (seed, step,
micro-batch, layer). Therefore resumed training draws the same masks, and so does a forward pass that is repeated to
save memory (gradient checkpointing).
"""

import torch
from torch import Tensor, nn

from models.randomness import seed_for


class MaskSource:
    """The source of random masks that all dropout layers of one network share; it knows the current step."""

    def __init__(self) -> None:
        self._seed: int | None = None

    def begin_step(self, seed: int, step: int, micro_batch: int = 0) -> None:
        """Set what the next masks are for: the training's seed (at least 0), a step, and a micro-batch of the step."""
        self._seed = seed_for(seed, f"dropout/{step}/{micro_batch}")

    def generator(self, layer: int, device: torch.device) -> torch.Generator:
        """Return a new generator for a layer's mask in the current micro-batch.

        Raises:
            RuntimeError: no step has begun.
        """
        if self._seed is None:
            raise RuntimeError(
                "dropout needs to know the step: call network.mask_source.begin_step(seed, step) before forward"
            )
        return torch.Generator(device).manual_seed(seed_for(self._seed, f"{layer}") >> 1)


class SeededDropout(nn.Module):
    """A dropout layer: in training mode it sets a share p of the values to zero and divides the others by 1 - p.

    Args:
        p: probability of each value to be set to zero, in [0, 1).
        layer: a number that is unique among the layers that share `mask_source`.
        mask_source: of the network.
    """

    def __init__(self, p: float, layer: int, mask_source: MaskSource) -> None:
        super().__init__()
        self.p, self.layer, self.mask_source = p, layer, mask_source

    def forward(self, x: Tensor) -> Tensor:
        """Apply dropout to a tensor of any shape."""
        if not self.training or self.p == 0:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.mask_source.generator(self.layer, x.device))
        return x * kept.div_(1 - self.p)
