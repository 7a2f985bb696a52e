"""Write a store shard by shard, so that a killed writer can continue.

n images, k labels, s side of an image in pixels.

Shards are written in ``<store>.partial``, each to a temporary name first, with a record of its content; a shard with
a record is finished and survives a kill. The folder gets its final name last, so a store exists whole or not at all.
The files of a finished store: see `data_prep.store.store`.
"""

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_prep.errors import DataError
from data_prep.json_file import read_json
from data_prep.labels.patients import number_patients
from data_prep.labels.table import UNKNOWN, LabelTable
from data_prep.store.store import (
    CLASSES,
    COLUMNS,
    HELD_BY_1,
    LABELS,
    MANIFEST,
    PARTS,
    PATIENTS,
    PIXELS,
    SCHEMA_1,
    TABLE,
    VIEWS,
    Quarantined,
    Store,
    file_digest,
    image_shape,
    json_digest,
    schema_of,
)

SHARD_IMAGES = 4096

_RECIPE, _RECORDS = "recipe.json", "records"


@dataclass
class ShardRecord:
    """The content of a finished shard; a JSON file beside the shard until the store is finished.

    Attributes:
        images: names of the rows.
        pixels: SHA-256 of the pixels of each row.
        sources: SHA-256 of the file of each row.
        views: the view that each file gives, "" where it gives none.
        patients: the patient that each file gives, as an opaque key; "" where it gives none.
        quarantine: (image, reason) of each image that could not be read.
        others: (name, reason) of each member that is not an image of the label table, or comes a second time.
        file: name of the shard's file, None if the shard has no rows; `sha256` likewise.
    """

    images: list[str] = field(default_factory=list)
    pixels: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    patients: list[str] = field(default_factory=list)
    quarantine: list[tuple[str, str]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)
    file: str | None = None
    sha256: str | None = None


class ShardSequence:
    """The shards of a store, or of one part of it, in order; each is on disk whole or not at all.

    A part has its shards and records under its own prefix, so that several processes can write one part each.

    Attributes:
        finished: the records of the finished shards, in order; the next shard to write is number len(finished).
    """

    def __init__(self, folder: Path, size: int, prefix: str = "", channels: int = 1) -> None:
        """Find the finished shards in `folder`, an unfinished store; a damaged shard and all after it do not count."""
        self._folder, self.size, self._prefix, self.channels = folder, size, prefix, channels
        self._end = folder / _RECORDS / f"{prefix}end.json"
        try:
            names = sorted((folder / _RECORDS).glob(f"{prefix}?????.json"))
            records = [ShardRecord(**read_json(name)) for name in names]
        except ValueError:
            records = []
        whole = [record.file is None or file_digest(folder / record.file) == record.sha256 for record in records]
        self.finished = records[: whole.index(False)] if False in whole else records

    @contextlib.contextmanager
    def shard(self, rows: int, index: int | None = None) -> Iterator["ShardWriter"]:
        """Open the next shard, of at most `rows` images; leaving the context without an error finishes it.

        With `index`, it replaces that finished shard.
        """
        index = len(self.finished) if index is None else index
        file = self._folder / f"{PIXELS}-{self._prefix}{index:05d}.npy"
        with ShardWriter(file, rows, image_shape(self.size, self.channels)) as writer:
            yield writer
            with os_errors_explained(self._folder):
                record = writer.finish()
                _write(self._folder / _RECORDS / f"{self._prefix}{index:05d}.json", json.dumps(vars(record)))
        self.finished[index : index + 1] = [record]

    def drop(self, index: int, reasons: Mapping[str, str]) -> None:
        """Write shard `index` anew without the images in `reasons` (image -> reason), which are skipped."""
        record = self.finished[index]
        if record.file is None:
            raise ValueError(f"shard {index} holds no image")
        pixels = np.load(self._folder / record.file, mmap_mode="r")
        with self.shard(len(pixels), index) as writer:
            writer.record.quarantine.extend(record.quarantine)
            writer.record.others.extend(record.others)
            columns = zip(record.pixels, record.sources, record.views, record.patients, strict=True)
            for image, row, values in zip(record.images, pixels, columns, strict=True):
                if image in reasons:
                    writer.skip(image, reasons[image])
                else:
                    writer.append(image, row, *values)

    @property
    def end_record(self) -> dict[str, Any] | None:
        """The record that `end` wrote, or None while more shards may come."""
        record: dict[str, Any] | None = _read_json(self._end)
        return record

    def end(self, counts: Mapping[str, Any]) -> None:
        """Record that no shard is missing, with `counts` of what was read."""
        with os_errors_explained(self._folder):
            _write(self._end, json.dumps({**counts, "shards": len(self.finished)}))

    def clear(self) -> None:
        """Discard the records of all shards, so that they are written again."""
        with os_errors_explained(self._folder):
            self._end.unlink(missing_ok=True)
            for record in reversed(range(len(self.finished))):
                (self._folder / _RECORDS / f"{self._prefix}{record:05d}.json").unlink(missing_ok=True)
        self.finished = []


class StoreWriter(ShardSequence):
    """A writer of a store, shard by shard; it continues where an earlier writer of the same recipe was stopped.

    It is the sequence of the shards of a store that is written as one part.
    """

    def __init__(self, path: Path, size: int, recipe: Mapping[str, Any], channels: int = 1) -> None:
        """Prepare ``<path>.partial``; what a writer of another recipe left in it is removed.

        Raises:
            DataError: the folder cannot be written.
        """
        self.path, self.recipe = path, dict(recipe)
        self.partial = path.with_name(path.name + ".partial")
        with os_errors_explained(path):
            if _read_json(self.partial / _RECIPE) != self.recipe:
                shutil.rmtree(self.partial, ignore_errors=True)
                (self.partial / _RECORDS).mkdir(parents=True)
                _write(self.partial / _RECIPE, json.dumps(self.recipe))
            super().__init__(self.partial, size, channels=channels)

    def part(self, number: int) -> ShardSequence:
        """Return the shards of part `number` of a store that is written in several; see `part_prefix`."""
        return ShardSequence(self.partial, self.size, part_prefix(number), self.channels)

    def finish(self, table: LabelTable, facts: Mapping[str, Any], parts: Sequence[ShardSequence] = ()) -> Store:
        """Write table and manifest, give the folder its final name, and open the store.

        Args:
            table: the rows of all finished shards in order, with opaque patient keys.
            facts: further entries of the manifest (population, counts of the source, ...).
            parts: in their order, if the store was written in parts.
        """
        records = [record for part in parts or [self] for record in part.finished]
        unreadable = [entry for record in records for entry in record.quarantine]
        others = [entry for record in records for entry in record.others]
        held = HELD_BY_1 if schema_of(table, self.channels) == SCHEMA_1 else _held(table)
        with os_errors_explained(self.path):
            _write(self.partial / TABLE, _table_text(table, held))
            files = {record.file: record.sha256 for record in records if record.file is not None}
            manifest = {
                **self._schema(table, held, [digest for record in records for digest in record.pixels]),
                "size": self.size,
                "images": len(table.images),
                "patients": len(set(table.patients.tolist())),
                "labels": list(table.labels),
                **facts,
                "same_pixels": find_same_pixels(records, table.patients),
                "sources_sha256": json_digest([r.sources for r in records]),
                "quarantine": [Quarantined(*entry)._asdict() for entry in [*unreadable, *others]],
                "files": {TABLE: file_digest(self.partial / TABLE), **files},
                "recipe": self.recipe,
            }
            manifest["sha256"] = json_digest(manifest)
            _write(self.partial / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            for left in (*self.partial.glob("*.tmp"), *self.partial.glob("*lock")):
                left.unlink()
            self.partial.rename(self.path)
            _sync(self.path.parent)
            tidy(self.path)
        return Store.open(self.path)

    def _schema(self, table: LabelTable, held: Sequence[str], pixels_sha256: list[str]) -> dict[str, Any]:
        """Return the entries of the manifest that say what the store holds, in the form of its schema."""
        if (schema := schema_of(table, self.channels)) == SCHEMA_1:
            return {"schema": schema, "fingerprint": _fingerprint_of_1(table, self.size, pixels_sha256)}
        fingerprint = _fingerprint(table, held, [self.size, self.channels, pixels_sha256])
        return {
            "schema": schema,
            "fingerprint": fingerprint,
            "holds": list(held),
            "channels": self.channels,
            "classes": list(table.classes),
        }


def find_same_pixels(records: Sequence[ShardRecord], patients: np.ndarray) -> list[list[str]]:
    """Return the groups of images, by name, that have the same pixels but belong to several patients.

    `patients` are those of the n images of the records, in their order: (n,) str.
    """
    groups: dict[str, dict[str, str]] = {}
    digests = (
        (image, digest) for record in records for image, digest in zip(record.images, record.pixels, strict=True)
    )
    for (image, digest), patient in zip(digests, patients.tolist(), strict=True):
        groups.setdefault(digest, {})[image] = patient
    return [sorted(group) for group in groups.values() if len(set(group.values())) > 1]


def tidy(path: Path) -> None:
    """Remove from the finished store at `path` the files that were needed to continue; a kill may have left them."""
    shutil.rmtree(path / _RECORDS, ignore_errors=True)
    with contextlib.suppress(OSError):  # a read-only store is as good with it
        (path / _RECIPE).unlink(missing_ok=True)


def part_prefix(number: int) -> str:
    """Return the prefix of the names of all files of part `number`."""
    return f"{number:03d}-"


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
        self, image: str, pixels: np.ndarray, pixels_sha256: str, source_sha256: str, view: str = "", patient: str = ""
    ) -> None:
        """Add one image of the shard's shape, uint8, with the SHA-256 of its pixels and file; see `ShardRecord`."""
        with os_errors_explained(self._file):
            self._stream.write(pixels.data)
        self.record.images.append(image)
        self.record.pixels.append(pixels_sha256)
        self.record.sources.append(source_sha256)
        self.record.views.append(view)
        self.record.patients.append(patient)

    def quarantine(self, image: str, reason: str) -> None:
        """Record an image that cannot be read, with the reason."""
        self.record.quarantine.append((image, reason))

    def skip(self, name: str, reason: str) -> None:
        """Record something that is not an image to be read, with the reason."""
        self.record.others.append((name, reason))

    def finish(self) -> ShardRecord:
        """Write the header, now that the number of rows is known, and give the file its name."""
        if not self.record.images:
            return self.record
        header = _npy_header(len(self.record.images), self._shape)
        self._stream.seek(0)
        self._stream.write(header.ljust(self._header_bytes))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._temporary.replace(self._file)
        _sync(self._file.parent)
        self.record.file, self.record.sha256 = self._file.name, file_digest(self._file)
        return self.record


def _npy_header(rows: int, shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file of (rows, *shape) uint8: 128 bytes for any shard."""
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (rows, *shape)}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _held(table: LabelTable) -> list[str]:
    """Return the names of the parts of a store of schema 2 of these rows; see `data_prep.store.store`."""
    is_held = {
        PIXELS: True,
        PATIENTS: len(set(table.patients.tolist())) < len(table.patients),
        VIEWS: bool((table.views != "").any()),
        LABELS: not table.classes,
        CLASSES: bool(table.classes),
        PARTS: table.parts is not None,
    }
    return [part for part, holds in is_held.items() if holds]


def _table_text(table: LabelTable, held: Sequence[str]) -> str:
    """Return the table: the images, the columns of the parts that are held, the labels."""
    columns: dict[str, Any] = {
        PATIENTS: table.patients,
        VIEWS: table.views,
        CLASSES: table.targets[:, 0] if CLASSES in held else None,
        PARTS: table.parts,
    }
    shown = [part for part in COLUMNS if part in held]
    labels = table.labels if LABELS in held else ()
    cells = {1: "1", 0: "0", UNKNOWN: ""}
    of_labels = ([cells[value] for value in row] if labels else [] for row in table.targets.tolist())
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *(COLUMNS[part] for part in shown), *labels])
    rows = zip(table.images, *(columns[part] for part in shown), of_labels, strict=True)
    writer.writerows([*row, *last] for *row, last in rows)
    return text.getvalue()


def _fingerprint(table: LabelTable, held: Sequence[str], pixels: list[Any]) -> str:
    """Hash what a model sees and how a split groups it, part by part: a part that is not held does not enter.

    Neither do the schema, the patients' keys and the views, which describe an image but are not what is learnt.
    """
    content = {
        PIXELS: pixels,
        PATIENTS: number_patients(table.patients).tolist(),
        LABELS: [table.labels, table.targets.tolist()],
        CLASSES: [table.classes, table.targets.tolist()],
        PARTS: None if table.parts is None else table.parts.tolist(),
    }
    parts = {part: value for part, value in content.items() if part in held}
    return "sha256:" + json_digest({"images": table.images.tolist(), **parts})


def _fingerprint_of_1(table: LabelTable, size: int, pixels_sha256: list[str]) -> str:
    """Hash what a model sees and how a split groups it, as schema 1 does; the patients' keys are left out."""
    hash_ = hashlib.sha256()
    for part in ([SCHEMA_1, size, table.labels], table.images.tolist(), table.views.tolist(), pixels_sha256):
        hash_.update(json.dumps(part).encode())
    hash_.update(np.ascontiguousarray(table.targets, dtype=np.int8).tobytes())
    hash_.update(number_patients(table.patients).astype("<i8").tobytes())
    return "sha256:" + hash_.hexdigest()


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


def _read_json(file: Path) -> Any:
    """Return the content of `file`, or None if it is not there or damaged."""
    try:
        return read_json(file)
    except (FileNotFoundError, ValueError):
        return None


def _write(file: Path, text: str) -> None:
    """Write `file` so that it exists whole or not at all, even after a power failure."""
    temporary = file.with_name(file.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
    _sync(file.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
