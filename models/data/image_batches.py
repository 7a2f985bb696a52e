"""Examples, and the order of the batches of an epoch: no worker processes, no copies of files.

Shapes: n images, b images of a batch, s x s pixels, k labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import SettingError
from models.randomness import epoch_order


class StoredPixels:
    """Rows of an array of images, such as a memory-mapped store's, that are read when they are asked for.

    It stands in for an (n, 1, s, s) uint8 tensor on the CPU; every index copies.

    Args:
        array: (m, s, s) uint8, indexable with an array of integers.
        rows: (n,) int64, the images in question, each in 0..m-1.
    """

    device = torch.device("cpu")

    def __init__(self, array: Any, rows: np.ndarray) -> None:
        self._array, self._rows = array, rows
        self.shape = (len(rows), 1, *array.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """(b, 1, s, s) uint8: the images of a slice, or of (b,) int64 positions as a tensor on the CPU."""
        rows = self._rows[index.numpy() if isinstance(index, Tensor) else index]
        return torch.as_tensor(self._array[rows])[:, None]

    def numel(self) -> int:
        """The number of pixels in all, which is their size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64))

    def split(self, size: int) -> Iterator[Tensor]:
        """The images in order, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))


@dataclass(frozen=True)
class Examples:
    """Images with their labels and patients.

    Args:
        pixels: (n, 1, s, s) uint8.
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        patients: hashes of the patients in it, by `models.evaluation.leakage.hashed_patients`.
    """

    pixels: Tensor | StoredPixels
    targets: Tensor
    patients: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pixels)


def examples(pixels: Any, targets: Any, patients: tuple[str, ...], rows: np.ndarray | None = None) -> Examples:
    """Examples from a store's arrays.

    Args:
        pixels: (n, s, s) uint8 array or tensor, copied into memory; with `rows` (m, s, s), and nothing is read yet.
        targets: (n, k) int8 array or tensor.
        patients: as `models.evaluation.leakage.hashed_patients` gives them.
        rows: (n,) integers in 0..m-1, the rows of `pixels` that are meant.

    Raises:
        SettingError: there are no images, or the two disagree on their number, or a row is not there.
    """
    n = len(pixels) if rows is None else len(rows)
    if n == 0 or n != len(targets):
        raise SettingError(
            f"examples need at least one image and a row of targets for each; got {n} and {len(targets)}"
        )
    if len(pixels.shape) != 3 or pixels.dtype not in (torch.uint8, np.uint8):
        raise SettingError(f"pixels must be (n, s, s) uint8; got {tuple(pixels.shape)} {pixels.dtype}")
    labels = torch.as_tensor(targets if isinstance(targets, Tensor) else np.array(targets)).to(torch.int8)
    if rows is None:
        # a memory-mapped array is read-only, which torch does not know: take a copy
        whole = pixels if isinstance(pixels, Tensor) else torch.as_tensor(np.array(pixels))
        return Examples(whole[:, None], labels, patients)
    if rows.min() < 0 or rows.max() >= len(pixels):
        raise SettingError(f"rows must lie in 0..{len(pixels) - 1}; got {rows.min()} to {rows.max()}")
    return Examples(StoredPixels(pixels, rows.astype(np.int64)), labels, patients)


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
