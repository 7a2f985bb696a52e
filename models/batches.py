"""Examples on the device, and the batches of an epoch: no worker processes, no copies of files.

Shapes: n images, b images of a batch, s x s pixels, k labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import SettingError
from models.randomness import epoch_order


@dataclass(frozen=True)
class Examples:
    """Images with their labels and patients; one uint8 tensor holds all pixels.

    Args:
        pixels: (n, 1, s, s) uint8.
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        patients: hashes of the patients in it, by `models.provenance.hashed_patients`.
    """

    pixels: Tensor
    targets: Tensor
    patients: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)

    def to(self, device: torch.device) -> "Examples":
        """The same examples on a device."""
        return replace(self, pixels=self.pixels.to(device), targets=self.targets.to(device))


def examples(pixels: Any, targets: Any, patients: tuple[str, ...]) -> Examples:
    """Examples from a store's arrays.

    Args:
        pixels: (n, s, s) uint8 array or tensor.
        targets: (n, k) int8 array or tensor.
        patients: as `models.provenance.hashed_patients` gives them.

    Raises:
        SettingError: there are no images, or the two disagree on their number.
    """
    if len(pixels) == 0 or len(pixels) != len(targets):
        raise SettingError(
            f"examples need at least one image and a row of targets for each; got {len(pixels)} and {len(targets)}"
        )
    # a memory-mapped array is read-only, which torch does not know: take a copy
    as_tensor = torch.as_tensor(pixels if isinstance(pixels, Tensor) else np.array(pixels))
    rows = torch.as_tensor(targets if isinstance(targets, Tensor) else np.array(targets))
    if as_tensor.dtype != torch.uint8 or as_tensor.ndim != 3:
        raise SettingError(f"pixels must be (n, s, s) uint8; got {tuple(as_tensor.shape)} {as_tensor.dtype}")
    return Examples(as_tensor[:, None], rows.to(torch.int8), patients)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Number of batches in an epoch over n images: n / batch_size, rounded up."""
    return -(-n // batch_size)


def epoch_batches(
    n: int, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """The row numbers of an epoch's batches, (b,) int64 each.

    Every image comes once. Sizes differ by at most one and none exceeds batch_size: a small last batch would
    upset batch normalisation.
    """
    yield from epoch_order(seed, epoch, n, device).tensor_split(steps_per_epoch(n, batch_size))
