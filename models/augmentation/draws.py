"""The random draws of a policy: which operations change an image, how much, and where.

What is drawn for candidate c of sample i in epoch e is a function of (seed, c, e, i) and the policy: it depends neither
on the batch and its order, nor on the device, the number of processes, the number of candidates or where a training was
resumed. Draws are made on the CPU, where the row numbers of a batch are known before its images: so partners of mixup
can be read with them, and no step waits for the GPU to learn what was drawn.

Shapes: b samples, J slots of the policy, C candidates.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from models.augmentation.operations import NAMES
from models.augmentation.policies import Slot
from models.randomness import index_from, random_bits, uniform_from

IDENTITY = NAMES.index("identity")
_MIXUP = NAMES.index("mixup")
_COLUMNS = 7  # random numbers of a slot: operation, applied, level, sign, place (2), partner


class Draw(NamedTuple):
    """What was drawn for some images. All on the CPU.

    Attributes:
        operations: (b, J) int64, positions in `NAMES`; identity where nothing is applied.
        magnitudes: (b, J) float64, with sign.
        places: (b, J, 2) float64 in [0, 1), for operations that have a place in the image.
        partners: (b, J) int64, row numbers of the other images of mixup; -1 in all other slots.
    """

    operations: Tensor
    magnitudes: Tensor
    places: Tensor
    partners: Tensor

    @classmethod
    def concatenate(cls, draws: Sequence[Self]) -> Self:
        """Return the draws of several groups of images as one."""
        return cls(*(torch.cat(parts) for parts in zip(*draws, strict=True)))

    @property
    def partner_rows(self) -> Tensor:
        """Row numbers of all partners, image by image and slot by slot: (m,) int64."""
        return self.partners[self.partners >= 0]

    @property
    def partner_positions(self) -> Tensor:
        """Where each slot's partner stands in `partner_rows`: (b, J) int64, of no meaning in slots without one."""
        has_one = (self.partners >= 0).flatten()
        return (has_one.cumsum(0) - 1).clamp(min=0).reshape(self.partners.shape)


def draw(slots: Sequence[Slot], *, seed: int, epoch: int, samples: Tensor, candidate: int, n: int) -> Draw:
    """Draw the operations of one candidate of each sample.

    Args:
        slots: of the policy, at least one.
        seed: of the training, at least 0.
        epoch: at least 0.
        samples: (b,) int64, row numbers in the training set, on the CPU.
        candidate: number of the candidate, counted from 0.
        n: number of training images, from which partners of mixup are drawn.
    """
    bits = random_bits(seed, f"augmentation, candidate {candidate}", epoch, samples, _COLUMNS * len(slots))
    bits = bits.reshape(len(samples), len(slots), _COLUMNS)
    uniform = uniform_from(bits[..., : _COLUMNS - 1]).double()
    drawn = [_draw_slot(slot, uniform[:, j]) for j, slot in enumerate(slots)]
    operations = torch.stack([of_slot for of_slot, _ in drawn], dim=1)
    magnitudes = torch.stack([of_slot for _, of_slot in drawn], dim=1)
    partners = torch.where(operations == _MIXUP, index_from(bits[..., -1], n), -1)
    return Draw(operations, magnitudes, uniform[..., 4:6], partners)


def _draw_slot(slot: Slot, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """Return the operations and magnitudes of one slot, (b,) each, from (b, 6) uniform numbers."""
    table = torch.tensor(
        [(NAMES.index(each.name), each.low, each.high, each.signed) for each in slot.operations], dtype=torch.float64
    )
    choice, applied, level, sign = uniform[:, :4].unbind(1)
    name, low, high, signed = table[(choice * len(table)).long()].unbind(1)
    if slot.level is not None:
        level = torch.full_like(level, slot.level)
    elif slot.bins is not None:
        level = (level * slot.bins).floor() / (slot.bins - 1)
    magnitudes = (low + level * (high - low)) * torch.where((signed > 0) & (sign < 0.5), -1.0, 1.0)
    return torch.where(applied < slot.probability, name.long(), IDENTITY), magnitudes
