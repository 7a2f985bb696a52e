"""The store: decoded images on disk, memory-mapped, with a table of labels and a manifest of hashes.

n images, k labels, s side of an image in pixels.

    manifest.json       schema, counts, fingerprint, recipe, quarantine; SHA-256 of every other file and of itself
    table.csv           one row per image: image, patient (opaque key), view, then each label with 1, 0 or nothing
    pixels-00000.npy    (rows, s, s) uint8, the first shard's images in the order of the table; and so on
                        (pixels-PPP-00000.npy in a store that was written in parts, one per archive)
    sizes.npy           (n, 2) int32, rows and columns of each original image; a store of an older version has none

That is schema ``medmtl/store/1``, of grey images with binary labels. Schema ``medmtl/store/2`` is of all others. Its
manifest names in "holds" what the store holds; what is not named is absent, and a name that is not known is ignored:

    pixels      (rows, s, s) uint8, or with three "channels" (rows, 3, s, s)
    patients    column "patient"; else each image is of its own patient
    views       column "view"; else all are ""
    labels      the last k columns
    classes     column "class" with an index into the manifest's "classes", instead of labels
    parts       column "part", "train" or "test" as the data give it

Stores share shards with the pool that they were built from, as hard links (`data_prep.store.pool`). So a shard may
hold images that are not of the store, or in another order. Then the schema is ``medmtl/store/3``, which is the second
with one file more, and which versions that do not know it refuse:

    rows.npy            (n,) int64, the place of each image of the table among the images of all shards

This module reads stores; `data_prep.store.writer` writes them.
"""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from data_prep.errors import DataError
from data_prep.json_file import read_json
from data_prep.labels.table import UNKNOWN, LabelTable, read_cells

SCHEMA_1, SCHEMA_2, SCHEMA_3 = SCHEMAS = ("medmtl/store/1", "medmtl/store/2", "medmtl/store/3")
MANIFEST, TABLE, SIZES, ROWS = "manifest.json", "table.csv", "sizes.npy", "rows.npy"
PIXELS, PATIENTS, VIEWS, LABELS, CLASSES, PARTS = "pixels", "patients", "views", "labels", "classes", "parts"
COLUMNS = {PATIENTS: "patient", VIEWS: "view", CLASSES: "class", PARTS: "part"}
"""The column of the table in which a part of the store stands."""

HELD_BY_1 = (PIXELS, PATIENTS, VIEWS, LABELS)

_OPEN_STORES = 4  # are remembered
_OPENING = Lock()  # no two threads hash the same files

_REMEDY = "delete the folder and run again: the store is built anew from its source"


_Table: TypeAlias = tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]


class Quarantined(NamedTuple):
    """An image that is not in the store, and the reason."""

    image: str
    reason: str


def image_shape(size: int, channels: int) -> tuple[int, ...]:
    """Return the shape of an image of `size` pixels a side: (s, s) with one channel, else (channels, s, s)."""
    return (size, size) if channels == 1 else (channels, size, size)


def schema_of(table: LabelTable, channels: int) -> str:
    """Return the schema of a store of its own shards: the first where it can be, as its name is in the fingerprints."""
    return SCHEMA_1 if channels == 1 and not table.classes and table.parts is None else SCHEMA_2


class Pixels:
    """The memory-mapped images of a store, indexed by row like one (n, s, s) or (n, 3, s, s) uint8 array."""

    def __init__(self, shards: list[np.ndarray], size: int, channels: int = 1, rows: np.ndarray | None = None) -> None:
        """Join `shards`, each (rows, s, s) uint8 with s = `size`, or (rows, channels, s, s).

        `rows`: (n,) int64, the place of each image among those of all shards; None: these images in their order.
        """
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._rows = np.arange(self._starts[-1]) if rows is None else rows
        self.shape = (len(self._rows), *image_shape(size, channels))
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        """Return n."""
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Copy the images at `rows` (an int, a slice, an int or bool array): one image, or b of them, uint8."""
        wanted = self._rows[rows]
        if wanted.ndim == 0:
            shard = int(np.searchsorted(self._starts, wanted, side="right")) - 1
            return np.array(self._shards[shard][wanted - self._starts[shard]])
        images = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
        ascending = bool((np.diff(wanted) >= 0).all())
        shards = np.searchsorted(self._starts, wanted, side="right") - 1
        for shard in np.unique(shards).tolist():
            stored, start = self._shards[shard], self._starts[shard]
            if ascending:  # the rows of a shard lie together, and are copied once instead of twice
                first, last = np.searchsorted(shards, (shard, shard + 1))
                np.take(stored, wanted[first:last] - start, axis=0, out=images[first:last], mode="clip")
            else:
                in_shard = shards == shard
                images[in_shard] = stored[wanted[in_shard] - start]
        return images


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store; equal to itself only, so that what was computed from it can be remembered.

    Attributes:
        path: its folder.
        pixels: (n, s, s) uint8 with one channel, (n, 3, s, s) with three: red, green, blue.
        images: (n,) str, names.
        patients: (n,) str, opaque keys; the images' names where each is of its own patient.
        labels: k names; ("class",) in a store of classes.
        targets: (n, k) int8; 1 present, 0 absent, -1 unknown. In a store of classes (n, 1) int16, the class's index.
        classes: names of the classes; () where the labels are binary.
        parts: (n,) str, "train" or "test" where the data give a test part; None where they do not.
        views: (n,) str; "PA", "AP", "LATERAL" or "".
        sizes: (n, 2) int32, rows and columns of each original image, in pixels; None where the store does not say.
        size: s.
        channels: 1 (grey) or 3 (colour).
        population: the group of patients the images come from.
        fingerprint: "sha256:..." of the content; it does not depend on the secret of the patient keys.
        same_pixels: groups of images, by name, that have the same pixels but belong to several patients.
        quarantine: first the images that could not be read, then what is not an image of the label table.
        manifest: the content of manifest.json.
    """

    path: Path
    pixels: Pixels
    images: np.ndarray
    patients: np.ndarray
    labels: tuple[str, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    parts: np.ndarray | None
    views: np.ndarray
    sizes: np.ndarray | None
    size: int
    channels: int
    population: str
    fingerprint: str
    same_pixels: tuple[tuple[str, ...], ...]
    quarantine: tuple[Quarantined, ...]
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the store at `path`, with the hash of every file checked once a process.

        Opened again it is the same object, memory maps included, while the manifest and each file's inode, size and
        times are the same; else every hash is checked again. That is enough: the hashes find a store that was copied
        in part, or changed since it was written, and a file that is written to gets another time. A disk that
        begins to read wrongly is not found, and was not when every opening hashed: pixels are read after that.

        Raises:
            DataError: there is no store, or a file differs from what was written; the message names it.
        """
        manifest = _read_manifest(path)
        states = tuple(_state(path / name) for name in manifest["files"])
        with _OPENING:
            return _open(path, json_digest(manifest), states)


@lru_cache(_OPEN_STORES)
def _open(path: Path, _manifest_sha256: str, _states: tuple[tuple[int, ...] | None, ...]) -> Store:
    """Open a store and check its hashes; what was opened under the same arguments is returned as it is."""
    manifest = _read_manifest(path)
    names = list(manifest["files"])
    with ThreadPoolExecutor() as threads:  # hashing releases the interpreter's lock
        for name, digest in zip(names, threads.map(lambda name: file_digest(path / name), names), strict=True):
            if digest != manifest["files"][name]:
                state = "is missing" if digest is None else "is not what was written (its hash differs)"
                raise DataError(f"{path}: {name} {state}; {_REMEDY}")
    held = manifest.get("holds", HELD_BY_1)
    channels = manifest.get("channels", 1)
    labels = tuple(manifest["labels"]) if {LABELS, CLASSES} & {*held} else ()
    images, columns, targets = _read_table(path, held, len(labels))
    shards = [np.load(path / name, mmap_mode="r") for name in names if name.startswith(PIXELS) and PIXELS in held]
    rows = np.load(path / ROWS) if ROWS in names and PIXELS in held else None
    return Store(
        path=path,
        pixels=Pixels(shards, manifest["size"], channels, rows),
        images=images,
        patients=columns.get(PATIENTS, images),
        labels=labels,
        targets=targets,
        classes=tuple(manifest["classes"]) if CLASSES in held else (),
        parts=columns.get(PARTS),
        views=columns.get(VIEWS, np.full(len(images), "")),
        sizes=np.load(path / SIZES) if SIZES in names else None,
        size=manifest["size"],
        channels=channels,
        population=manifest["population"],
        fingerprint=manifest["fingerprint"],
        same_pixels=tuple(map(tuple, manifest["same_pixels"])),
        quarantine=tuple(Quarantined(**entry) for entry in manifest["quarantine"]),
        manifest=manifest,
    )


def _read_table(path: Path, held: Sequence[str], k: int) -> _Table:
    """Read the table: the images' names, the columns by the part that stands in them, and the targets of k labels."""
    header, rows, _ = read_cells(path / TABLE)
    cells = list(map(np.array, zip(*rows, strict=True)))
    columns = {part: cells[header.index(name)] for part, name in COLUMNS.items() if part in held}
    if CLASSES in columns:
        return cells[0], columns, columns[CLASSES].astype(np.int16)[:, np.newaxis]
    binary = [np.select([cell == "1", cell == "0"], [1, 0], UNKNOWN) for cell in cells[len(cells) - k :]]
    targets = np.array(binary, dtype=np.int8).reshape(k, len(rows))
    return cells[0], columns, np.ascontiguousarray(targets.T)


def _state(file: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written to or replaced; None if it cannot be told."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = read_json(path / MANIFEST)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no store here ({MANIFEST} is missing); ingest into a new folder") from error
    except OSError as error:
        raise DataError(f"{path}: {MANIFEST} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: {MANIFEST} is damaged; {_REMEDY}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") not in SCHEMAS:
        raise DataError(f"{path}: not a store of schema {' or '.join(SCHEMAS)}; {_REMEDY}")
    if manifest.pop("sha256", None) != json_digest(manifest):
        raise DataError(f"{path}: {MANIFEST} is not what was written (its hash differs); {_REMEDY}")
    return manifest


def json_digest(value: object) -> str:
    """Return the SHA-256 of a JSON value, in hexadecimal; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(file: Path) -> str | None:
    """Return the SHA-256 of a file, in hexadecimal, or None if there is no such file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
