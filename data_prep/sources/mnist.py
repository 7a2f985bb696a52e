"""MNIST and its relatives (Fashion-MNIST, KMNIST) as published: IDX files of grey images and of their classes.

LeCun, Cortes and Burges: The MNIST database of handwritten digits. 60,000 training images ("train-") and 10,000 test
images ("t10k-") of 28 x 28 pixels.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.sources.class_source import ArraySource
from data_prep.sources.idx import read_idx

_FILES = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def find_parts(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Find the files of each part, "train" and "test", among names of files: (images, labels), gzipped or not."""
    found = {}
    for part, begin in _FILES.items():
        images = next((f"{begin}-{_IMAGES}{end}" for end in ("", ".gz") if f"{begin}-{_IMAGES}{end}" in files), None)
        labels = next((f"{begin}-{_LABELS}{end}" for end in ("", ".gz") if f"{begin}-{_LABELS}{end}" in files), None)
        if images is not None:
            found[part] = images, labels or f"{begin}-{_LABELS}"
    return found


def open_mnist(folder: Path, parts: dict[str, tuple[str, str]]) -> ArraySource:
    """Open the parts that `find_parts` found in a folder; one part alone is none that the data give.

    Classes are numbered as in the files, and called by their numbers.

    Raises:
        DataError: a file is missing or damaged, or images and labels differ in number.
    """
    read = {}
    for part, (images, labels) in parts.items():
        pixels, targets = read_idx(folder / images), read_idx(folder / labels)
        if pixels.ndim != 3 or targets.ndim != 1:
            raise DataError(
                f"{folder}: {images} has {pixels.ndim} dimensions and {labels} {targets.ndim}; images have 3 and "
                "labels 1: fetch them again"
            )
        read[part] = pixels, targets.astype(np.int64)
    shapes = {pixels.shape[1:] for pixels, _ in read.values()}
    if len(shapes) > 1:
        raise DataError(f"{folder}: images of {' and of '.join(map(str, sorted(shapes)))} pixels; fetch them again")
    count = 1 + max(int(targets.max()) for _, targets in read.values())
    return ArraySource.of(folder, read, [str(number) for number in range(count)])
