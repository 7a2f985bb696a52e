"""The digits of MNIST, from a folder with its two IDX files."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.sources.idx import read_idx

PARTS = ("train", "t10k")
"""MNIST's parts, the one to prefer first; each has a file of images and one of labels."""


class Digits(NamedTuple):
    """n images, (n, s, s) uint8, and their labels, (n,) from 0 to 9.

    `files` are the names of the two files, `fingerprint` is a hash of what they hold.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    files: tuple[str, str]
    fingerprint: str


def read_digits(folder: Path) -> Digits:
    """Read MNIST's training part from a folder, or its test part if there is no training part.

    The files have their published names, such as ``t10k-images-idx3-ubyte.gz``, with or without ``.gz``.

    Raises:
        DataError: the files are not there, cannot be read, or do not hold digits with their labels.
    """
    images_path, labels_path = _find(folder)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1] != images.shape[2] or labels.shape != images.shape[:1]:
        raise DataError(
            f"{folder}: {images_path.name} has shape {images.shape} and {labels_path.name} {labels.shape}; "
            "there must be n square images and n labels: fetch both files again"
        )
    if labels.max() > 9:
        raise DataError(f"{labels_path}: a label is {labels.max()}; digits are labelled 0 to 9: name MNIST's files")
    content = hashlib.sha256(images.tobytes() + labels.tobytes())
    return Digits(images, labels, (images_path.name, labels_path.name), f"sha256:{content.hexdigest()}")


def _find(folder: Path) -> tuple[Path, Path]:
    """Return the paths of the images and of the labels."""
    for part in PARTS:
        found = []
        for name in (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"):
            found += [path for path in (folder / f"{name}.gz", folder / name) if path.exists()][:1]
        if len(found) == 2:
            return found[0], found[1]
    raise DataError(
        f"{folder}: not a folder with {PARTS[-1]}-images-idx3-ubyte and {PARTS[-1]}-labels-idx1-ubyte, gzipped or not, "
        f"or those of {PARTS[0]!r}: name the folder of MNIST's files"
    )
