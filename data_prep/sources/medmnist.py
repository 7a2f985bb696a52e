"""ChestMNIST files of the `medmnist` package: one npz file per image size, read as a stream and without pickle.

Yang et al., MedMNIST v2, Scientific Data 2023. The images are those of ChestX-ray14 at 28, 64, 128 or 224 pixels, with
a 70/10/20 split by patient. The file does not contain patient identifiers, so each image counts as a separate patient
here. Only MedMNIST's own split, which the image names begin with, is known to be disjoint by patient.
"""

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS, LabelTable
from data_prep.sources.source import Source, content_hash

CHESTMNIST = "chestmnist"
SIZES = (28, 64, 128, 224)
PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class MedMnistSource(Source):
    """The n images of one npz file, (s, s) uint8 each, and their labels."""

    path: Path
    size: int

    @classmethod
    def open(cls, folder: Path, size: int) -> "MedMnistSource":
        """Open ``chestmnist_SIZE.npz`` (``chestmnist.npz`` for 28) in the `folder` of the `medmnist` package's files.

        The images, of s = `size` pixels a side, are not read yet.

        Raises:
            DataError: MedMNIST has no such size, or the file is missing or not a ChestMNIST file.
        """
        path = folder / file_name(size)
        if not path.is_file():
            raise DataError(
                f"{path}: not there; install the extra 'medmnist', which downloads it, or name its folder with --from"
            )
        try:
            with np.load(path, allow_pickle=False) as arrays:
                labels = {part: arrays[f"{part}_labels"] for part in PARTS}
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: not a complete MedMNIST file ({error}); remove it and run again") from error
        targets = np.concatenate([labels[part] for part in PARTS])
        if targets.ndim != 2 or targets.shape[1] != len(FINDINGS) or not np.isin(targets, (0, 1)).all():
            raise DataError(f"{path}: labels of shape {targets.shape}; ChestMNIST has {len(FINDINGS)} labels of 0 or 1")
        names = np.array([f"{part}_{index:06d}.png" for part in PARTS for index in range(len(labels[part]))])
        digest = hashlib.sha256(targets.astype(np.int8).tobytes()).hexdigest()
        table = LabelTable(
            images=names,
            patients=names,
            labels=FINDINGS,
            targets=targets.astype(np.int8),
            views=np.full(len(names), "", dtype="<U7"),
            layout="columns",
            sha256=digest,
        )
        state = path.stat()
        identity = content_hash([digest, size, state.st_size, state.st_mtime_ns])
        return cls(table=table, population=CHESTMNIST, public=True, identity=identity, path=path, size=size)

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield (image name, PNG file): a store is built from files, and encoding such small images costs little."""
        names = iter(self.table.images.tolist())
        with zipfile.ZipFile(self.path) as archive:
            for part in PARTS:
                for pixels in self._pixels(archive, f"{part}_images.npy"):
                    yield next(names), cv2.imencode(".png", pixels)[1].tobytes()

    def _pixels(self, archive: zipfile.ZipFile, name: str) -> Iterator[np.ndarray]:
        """Yield the (s, s) uint8 images of one array without loading all of it: at 224 px it has 4 GB."""
        try:
            with archive.open(name) as stream:
                version = np.lib.format.read_magic(stream)
                if version != (1, 0):
                    raise ValueError(f"array format {version}")
                shape, fortran_order, kind = np.lib.format.read_array_header_1_0(stream)
                if shape[1:] != (self.size, self.size) or fortran_order or kind != np.uint8:
                    raise ValueError(f"{name} holds {kind} of shape {shape}")
                for _ in range(shape[0]):
                    data = stream.read(self.size**2)
                    yield np.frombuffer(data, np.uint8).reshape(self.size, self.size)
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path}: not a complete MedMNIST file ({error}); remove it and run again") from error


def file_name(size: int) -> str:
    """Return the name of MedMNIST's file of images of `size` pixels; raise DataError if there is none."""
    if size not in SIZES:
        raise DataError(f"ChestMNIST has no images of {size} pixels; choose --size {', '.join(map(str, SIZES))}")
    return f"{CHESTMNIST}.npz" if size == SIZES[0] else f"{CHESTMNIST}_{size}.npz"
