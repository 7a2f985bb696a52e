"""ChestMNIST files of the `medmnist` package: one npz file per image size, read as a stream and without pickle.

Yang et al., MedMNIST v2, Scientific Data 2023. The images are those of ChestX-ray14 at 28, 64, 128 or 224 pixels, with
a 70/10/20 split by patient. The file does not contain patient identifiers, so each image counts as a separate patient
here. Only MedMNIST's own split, which the image names begin with, is known to be disjoint by patient.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cv2
import numpy as np

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS, LabelTable
from data_prep.regular_file import open_regular
from data_prep.sources.source import Source, content_hash

CHESTMNIST = "chestmnist"
SIZES = (28, 64, 128, 224)
PARTS = ("train", "val", "test")
MAX_IMAGES = 1_000_000  # of a part; there are 112,120 in all

# What damaged npz files raise: zipfile, its decompressor, and NumPy on a header; RuntimeError if it is encrypted.
_DAMAGE = (OSError, KeyError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


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
        if not path.exists():
            raise DataError(
                f"{path}: not there; install the extra 'medmnist', which downloads it, or name its folder with --from"
            )
        with _opened(path) as archive:
            labels = {part: _read_labels(archive, part) for part in PARTS}
        targets = np.concatenate([labels[part] for part in PARTS])
        if not np.isin(targets, (0, 1)).all():
            raise DataError(f"{path}: labels other than 0 and 1")
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
        with _opened(self.path) as archive:
            for part in PARTS:
                for pixels in _iterate_images(archive, part, self.size):
                    yield next(names), cv2.imencode(".png", pixels)[1].tobytes()


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an npz file; whatever is wrong with it is a DataError that names it."""
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGE as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise DataError(f"{path}: not a complete MedMNIST file ({what}); remove it and run again") from error


@contextmanager
def _array(archive: zipfile.ZipFile, name: str, kind: str, shape: tuple[int, ...]) -> Iterator[tuple[IO[bytes], int]]:
    """Open an array of n rows of `shape` and bytes of `kind` in an npz file; give its data as a stream, and n.

    What a header declares is checked before memory is taken for it: it may be anything.
    """
    info = archive.getinfo(name)
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others expand without a limit
        raise ValueError(f"{name} is compressed in another way than NumPy's")
    with archive.open(info) as stream:
        if (version := np.lib.format.read_magic(stream)) != (1, 0):
            raise ValueError(f"array format {version}")
        found, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream)
        if found[1:] != shape or fortran_order or dtype.kind not in kind or dtype.itemsize != 1:
            raise ValueError(f"{name} holds {str(dtype)[:40]} of shape {str(found)[:60]}")
        if not 0 <= found[0] <= MAX_IMAGES:
            raise ValueError(f"{name} holds {found[0]} rows, ChestMNIST fewer than {MAX_IMAGES}")
        yield stream, found[0]


def _read_labels(archive: zipfile.ZipFile, part: str) -> np.ndarray:
    """Return the labels of a part: (n, 14) int8."""
    with _array(archive, f"{part}_labels.npy", "uib", (len(FINDINGS),)) as (stream, rows):
        data = stream.read(rows * len(FINDINGS))
        return np.frombuffer(data, np.int8).reshape(rows, len(FINDINGS))


def _iterate_images(archive: zipfile.ZipFile, part: str, size: int) -> Iterator[np.ndarray]:
    """Yield the (s, s) uint8 images of a part without loading all of them: at 224 px they have 4 GB."""
    labels = archive.getinfo(f"{part}_labels.npy")
    with _array(archive, f"{part}_images.npy", "u", (size, size)) as (stream, rows):
        with _array(archive, labels.filename, "uib", (len(FINDINGS),)) as (_, labelled):
            if rows != labelled:
                raise ValueError(f"{part} has {rows} images and {labelled} rows of labels")
        for _ in range(rows):
            yield np.frombuffer(stream.read(size**2), np.uint8).reshape(size, size)


def file_name(size: int) -> str:
    """Return the name of MedMNIST's file of images of `size` pixels; raise DataError if there is none."""
    if size not in SIZES:
        raise DataError(f"ChestMNIST has no images of {size} pixels; choose --size {', '.join(map(str, SIZES))}")
    return f"{CHESTMNIST}.npz" if size == SIZES[0] else f"{CHESTMNIST}_{size}.npz"
