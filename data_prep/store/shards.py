"""Shards of decoded images: files of up to some thousand images each, with a record of their content.

s is the side of an image in pixels.
"""

import contextlib
import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_prep.errors import DataError
from data_prep.json_file import read_json
from data_prep.store.store import file_digest

SHARD_IMAGES = 4096

RECORDS = "records"
"""The folder of an unfinished store for what its build alone needs: a pool of its own, indexes of private archives."""


@dataclass
class ShardRecord:
    """The content of a finished shard.

    Attributes:
        images: names of the rows.
        pixels: SHA-256 of the pixels of each row.
        sources: SHA-256 of the file of each row.
        views: the view that each file gives, "" where it gives none.
        patients: the patient that each file gives, as an opaque key; "" where it gives none.
        sizes: rows and columns of the image in each file, in pixels; zeros where they are not known.
        quarantine: (image, reason) of each image that could not be read.
        others: (name, reason) of each member that is not an image of the label table, or comes a second time.
        file: name of the shard's file, None if the shard has no rows; `sha256` likewise.
    """

    images: list[str] = field(default_factory=list)
    pixels: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    quarantine: list[tuple[str, str]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    file: str | None = None
    sha256: str | None = None


class ShardWriter:
    """A writer of one shard: appends images to a file with a temporary name, which `finish` replaces by its own."""

    def __init__(self, file: Path, rows: int, shape: tuple[int, ...]) -> None:
        """Begin `file`, a shard of at most `rows` images of `shape`, (s, s) or (channels, s, s)."""
        self.record = ShardRecord()
        self._file, self._shape = file, shape
        self._temporary = file.with_suffix(".tmp")
        self._header_bytes = len(_npy_header(rows, shape))
        with os_errors_explained(file):
            self._stream = self._temporary.open("wb")
            self._stream.write(b"\0" * self._header_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file, and remove it unless `finish` was called."""
        with contextlib.suppress(OSError):  # a full disk has been reported by the write already
            self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def append(
        self,
        image: str,
        pixels: np.ndarray,
        pixels_sha256: str,
        source_sha256: str,
        view: str = "",
        patient: str = "",
        size: tuple[int, int] = (0, 0),
    ) -> None:
        """Add one image of the shard's shape, uint8, with the SHA-256 of its pixels and file; see `ShardRecord`."""
        with os_errors_explained(self._file):
            self._stream.write(pixels.data)
        self.record.images.append(image)
        self.record.pixels.append(pixels_sha256)
        self.record.sources.append(source_sha256)
        self.record.views.append(view)
        self.record.patients.append(patient)
        self.record.sizes.append(size)

    def quarantine(self, image: str, reason: str) -> None:
        """Record an image that cannot be read, with the reason."""
        self.record.quarantine.append((image, reason))

    def finish(self) -> ShardRecord:
        """Write the header, now that the number of rows is known, and give the file its name."""
        if not self.record.images:
            return self.record
        header = _npy_header(len(self.record.images), self._shape)
        with os_errors_explained(self._file):
            self._stream.seek(0)
            self._stream.write(header.ljust(self._header_bytes))
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._temporary.replace(self._file)
            sync(self._file.parent)
        self.record.file, self.record.sha256 = self._file.name, file_digest(self._file)
        return self.record


def _npy_header(rows: int, shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file of (rows, *shape) uint8: 128 bytes for any shard."""
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


@contextlib.contextmanager
def os_errors_explained(path: Path) -> Iterator[None]:
    """Turn an OSError while writing into a DataError that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space and run again: finished shards are kept"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "choose a folder that can be written"
        else:
            remedy = "repair it, or choose another folder"
        raise DataError(f"{path}: the store cannot be written ({error.strerror or error}); {remedy}") from error


def read_json_or_none(file: Path) -> Any:
    """Return the content of `file`, or None if it is not there or damaged."""
    try:
        return read_json(file)
    except (FileNotFoundError, ValueError):
        return None


def write_whole(file: Path, content: bytes) -> None:
    """Write `file` so that it exists whole or not at all, even after a power failure."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    sync(file.parent)


def sync(folder: Path) -> None:
    """Have the names of the files in `folder` on the disk, so that a power failure does not lose them."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
