"""Image examples (pixels, targets, patients) and the batches of an epoch, without worker processes.

Shapes: n images, b images of a batch, c channels, s x s pixels, k labels.
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
    """Selected rows of an image array, such as a memory-mapped store, that are read only when they are indexed.

    Can be used in place of an (n, c, s, s) uint8 tensor on the CPU. Each indexing returns a copy.

    Args:
        array: (m, s, s) or (m, c, s, s) uint8, indexable with an array of integers.
        rows: (n,) int64, the selected images, each in 0..m-1.
    """

    device = torch.device("cpu")

    def __init__(self, array: Any, rows: np.ndarray) -> None:
        self._array, self._rows = array, rows
        self.shape = (len(rows), *((1,) if len(array.shape) == 3 else ()), *array.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Tensor:
        """Read the images of a slice, or of (b,) int64 positions as a CPU tensor: (b, c, s, s) uint8."""
        rows = self._rows[index.numpy() if isinstance(index, Tensor) else index]
        return torch.as_tensor(self._array[rows]).reshape(-1, *self.shape[1:])

    def select(self, rows: Tensor) -> "StoredPixels":
        """Select the images of (b,) int64 positions; nothing is read."""
        return StoredPixels(self._array, self._rows[rows.numpy()])

    def numel(self) -> int:
        """Return the number of pixels of all images, which is their size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64))

    def split(self, size: int) -> Iterator[Tensor]:
        """Read the images in order, `size` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))


@dataclass(frozen=True)
class Examples:
    """Images with their targets and patients.

    Attributes:
        pixels: (n, c, s, s) uint8.
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        patients: hashes of the patients shown, from `models.evaluation.leakage.hashed_patients`.
        patient_numbers: (n,) int64, equal for images of the same patient.
    """

    pixels: Tensor | StoredPixels
    targets: Tensor
    patients: tuple[str, ...]
    patient_numbers: Tensor

    def __len__(self) -> int:
        return len(self.pixels)


def examples(
    pixels: Any,
    targets: Any,
    patients: tuple[str, ...],
    rows: np.ndarray | None = None,
    *,
    patient_numbers: np.ndarray | None = None,
) -> Examples:
    """Make and check examples from a store's arrays.

    Args:
        pixels: (n, s, s) or (n, c, s, s) uint8 array or tensor, copied into memory. With `rows`: m images, of which
            nothing is read yet.
        targets: (n, k) whole numbers, array or tensor; kept as int8, as int16 with a class above 127.
        patients: hashes from `models.evaluation.leakage.hashed_patients`.
        rows: (n,) integers in 0..m-1, the rows of `pixels` to use; all if None.
        patient_numbers: (n,) integers, equal for images of the same patient; None: each image is another patient's.

    Raises:
        SettingError: there are no images, pixels and targets differ in number, the pixels have another shape or
            type, or a row does not exist.
    """
    n = len(pixels) if rows is None else len(rows)
    if n == 0 or n != len(targets):
        raise SettingError(
            f"examples need at least one image and a row of targets for each; got {n} and {len(targets)}"
        )
    if len(pixels.shape) not in (3, 4) or pixels.dtype not in (torch.uint8, np.uint8):
        raise SettingError(f"pixels must be (n, s, s) or (n, c, s, s) uint8; got {tuple(pixels.shape)} {pixels.dtype}")
    given = torch.as_tensor(targets if isinstance(targets, Tensor) else np.array(targets))
    labels = given.to(torch.int8 if given.max() <= 127 else torch.int16)
    numbers = torch.arange(n) if patient_numbers is None else torch.as_tensor(patient_numbers, dtype=torch.int64)
    if rows is None:
        # a memory-mapped array may be read-only, which torch does not support: copy it
        whole = pixels if isinstance(pixels, Tensor) else torch.as_tensor(np.array(pixels))
        return Examples(whole if whole.ndim == 4 else whole[:, None], labels, patients, numbers)
    if rows.min() < 0 or rows.max() >= len(pixels):
        raise SettingError(f"rows must lie in 0..{len(pixels) - 1}; got {rows.min()} to {rows.max()}")
    return Examples(StoredPixels(pixels, rows.astype(np.int64)), labels, patients, numbers)


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Return the number of batches in an epoch over n images: n / batch_size, rounded up."""
    return -(-n // batch_size)


def epoch_batches(
    n: int, batch_size: int, *, seed: int, epoch: int, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """Yield the row numbers of each batch of an epoch, (b,) int64; every image occurs once.

    Batch sizes differ by at most one, and none exceeds `batch_size`: a small last batch would disturb batch
    normalisation. The order is `models.randomness.epoch_order` on the device.
    """
    yield from epoch_order(seed, epoch, n, device).tensor_split(steps_per_epoch(n, batch_size))
