"""The store: decoded pixels on disk, memory-mapped, with their table and a manifest of hashes.

n images, k labels, s side of an image in pixels.

    manifest.json       schema, counts, fingerprint, recipe, quarantine; sha256 of every other file and of itself
    table.csv           one row per image: image, patient (opaque key), view, then each label with 1, 0 or nothing
    pixels-00000.npy    (rows, s, s) uint8, the first shard's images in the table's order; and so on
                        (pixels-PPP-00000.npy in a store that was written in parts, one per archive)

Shards are written in ``<store>.partial``, each to a temporary name first, with a record of what is in it; what is
recorded is finished and survives a kill. The folder gets its final name last, so a store is whole or not there.
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.patients import in_order_of_appearance
from data_prep.labels.table import UNKNOWN, LabelTable, read_labels

SCHEMA = "medmtl/store/1"
SHARD_IMAGES = 4096

_MANIFEST, _TABLE, _RECIPE, _RECORDS = "manifest.json", "table.csv", "recipe.json", "records"


class Quarantined(NamedTuple):
    """An image that could not be read, and why."""

    image: str
    reason: str


class Pixels:
    """The memory-mapped images of a store, indexed by row as one (n, s, s) uint8 array would be."""

    def __init__(self, shards: list[np.ndarray], size: int) -> None:
        """Join `shards`, each (rows, s, s) uint8 with s = `size`."""
        self._shards = shards
        self._starts = np.cumsum([0, *(len(shard) for shard in shards)])
        self._rows = np.arange(self._starts[-1])
        self.shape = (len(self._rows), size, size)
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        """Return n."""
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Copy the images at `rows` (an int, a slice, an int or bool array) -> (s, s) or (b, s, s) uint8."""
        wanted = self._rows[rows]
        if wanted.ndim == 0:
            shard = int(np.searchsorted(self._starts, wanted, side="right")) - 1
            return np.array(self._shards[shard][wanted - self._starts[shard]])
        images = np.empty((len(wanted), *self.shape[1:]), dtype=np.uint8)
        for start, shard_pixels in zip(self._starts, self._shards, strict=False):
            here = (wanted >= start) & (wanted < start + len(shard_pixels))
            if here.any():
                images[here] = shard_pixels[wanted[here] - start]
        return images


@dataclass(frozen=True)
class Store:
    """An opened store.

    pixels: (n, s, s) uint8. images: (n,) str. patients: (n,) str, opaque keys. labels: k names.
    targets: (n, k) int8; 1 present, 0 absent, -1 unknown. views: (n,) str; "PA", "AP", "LATERAL" or "".
    population: whose patients these are. fingerprint: "sha256:..." of the content, whatever the patients' key.
    quarantine: the images that could not be read, then what was no image of the table's. manifest: manifest.json.
    """

    path: Path
    pixels: Pixels
    images: np.ndarray
    patients: np.ndarray
    labels: tuple[str, ...]
    targets: np.ndarray
    views: np.ndarray
    size: int
    population: str
    fingerprint: str
    quarantine: tuple[Quarantined, ...]
    manifest: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open the store at `path` after checking every file's hash.

        Raises DataError if there is none, or naming the file that differs from what was written.
        """
        manifest = _read_manifest(path)
        names = list(manifest["files"])
        with ThreadPoolExecutor() as threads:  # hashing releases the interpreter's lock
            for name, digest in zip(names, threads.map(lambda name: _file_digest(path / name), names), strict=True):
                if digest != manifest["files"][name]:
                    state = "is missing" if digest is None else "is not what was written (its hash differs)"
                    raise DataError(f"{path}: {name} {state}; {_REBUILD}")
        table = read_labels(path / _TABLE)
        shards = [np.load(path / name, mmap_mode="r") for name in names if name.endswith(".npy")]
        return cls(
            path=path,
            pixels=Pixels(shards, manifest["size"]),
            images=table.images,
            patients=table.patients,
            labels=table.labels,
            targets=table.targets,
            views=table.views,
            size=manifest["size"],
            population=manifest["population"],
            fingerprint=manifest["fingerprint"],
            quarantine=tuple(Quarantined(**entry) for entry in manifest["quarantine"]),
            manifest=manifest,
        )


_REBUILD = "delete the folder and run again: the store is made anew from its source"


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no store here ({_MANIFEST} is missing); ingest into a new folder") from error
    except OSError as error:
        raise DataError(f"{path}: {_MANIFEST} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: {_MANIFEST} is damaged; {_REBUILD}") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise DataError(f"{path}: not a store of schema {SCHEMA}; {_REBUILD}")
    if manifest.pop("sha256", None) != _json_digest(manifest):
        raise DataError(f"{path}: {_MANIFEST} is not what was written (its hash differs); {_REBUILD}")
    return manifest


def _json_digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _file_digest(file: Path) -> str | None:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error


@dataclass
class ShardRecord:
    """What a finished shard holds; JSON on disk, beside the shard, until the store is finished.

    images: names of its rows. pixels, sources: sha256 of each row's pixels and of the file they came from.
    views, patients: what each file itself says ("" where it does not), patients as opaque keys.
    quarantine: (image, reason) of what could not be read; others: of what is no image of the table's, or comes again.
    file, sha256: the shard's own, or None if it has no rows.
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

    finished: the records of the shards that are done, in order; the next shard to write is number len(finished).
    A part has its shards and records under its own prefix, so that parts are written side by side.
    """

    def __init__(self, folder: Path, size: int, prefix: str = "") -> None:
        """Look what is finished in `folder`, a store in the making; a damaged shard and those after it are not."""
        self._folder, self._size, self._prefix = folder, size, prefix
        try:
            names = sorted((folder / _RECORDS).glob(f"{prefix}?????.json"))
            records = [ShardRecord(**json.loads(name.read_text(encoding="utf-8"))) for name in names]
        except ValueError:
            records = []
        whole = [record.file is None or _file_digest(folder / record.file) == record.sha256 for record in records]
        self.finished = records[: whole.index(False)] if False in whole else records

    @contextlib.contextmanager
    def shard(self, rows: int) -> Iterator["ShardWriter"]:
        """Open the next shard, of at most `rows` images; leaving the context without an error finishes it."""
        with self._writing(len(self.finished), rows) as (writer, done):
            yield writer
        self.finished.append(done[0])

    def drop(self, index: int, reasons: Mapping[str, str]) -> None:
        """Write shard `index` anew without the images in `reasons`, which are set aside."""
        record = self.finished[index]
        if record.file is None:
            raise ValueError(f"shard {index} holds no image")
        pixels = np.load(self._folder / record.file, mmap_mode="r")
        with self._writing(index, len(pixels)) as (writer, done):
            writer.record.quarantine.extend(record.quarantine)
            writer.record.others.extend(record.others)
            facts = zip(record.pixels, record.sources, record.views, record.patients, strict=True)
            for image, row, fact in zip(record.images, pixels, facts, strict=True):
                if image in reasons:
                    writer.set_aside(image, reasons[image])
                else:
                    writer.append(image, row, *fact)
        self.finished[index] = done[0]

    @contextlib.contextmanager
    def _writing(self, index: int, rows: int) -> Iterator[tuple["ShardWriter", list[ShardRecord]]]:
        """Give a writer, and a list that holds the shard's record afterwards."""
        done: list[ShardRecord] = []
        with ShardWriter(self._folder / f"pixels-{self._prefix}{index:05d}.npy", rows, self._size) as writer:
            yield writer, done
            with explained(self._folder):
                done.append(writer.finish())
                _write(self._folder / _RECORDS / f"{self._prefix}{index:05d}.json", json.dumps(vars(done[0])))

    @property
    def ending(self) -> dict[str, Any] | None:
        """What `end` was told, or None while more shards may come."""
        try:
            return dict(json.loads(self._end.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None

    def end(self, facts: Mapping[str, Any]) -> None:
        """Note that no shard is missing."""
        with explained(self._folder):
            _write(self._end, json.dumps({**facts, "shards": len(self.finished)}))

    def clear(self) -> None:
        """Forget all shards."""
        with explained(self._folder):
            self._end.unlink(missing_ok=True)
            for record in reversed(range(len(self.finished))):
                (self._folder / _RECORDS / f"{self._prefix}{record:05d}.json").unlink(missing_ok=True)
        self.finished = []

    @property
    def _end(self) -> Path:
        return self._folder / _RECORDS / f"{self._prefix}end.json"


class StoreWriter:
    """Writes a store shard by shard, and continues where an earlier writer of the same recipe was stopped."""

    def __init__(self, path: Path, size: int, recipe: Mapping[str, Any]) -> None:
        """Prepare ``<path>.partial``; what another recipe left in it is removed.

        Raises DataError if something other than a store's remains is in the way, or the disk refuses.
        """
        self.path, self.size, self.recipe = path, size, dict(recipe)
        self.partial = path.with_name(path.name + ".partial")
        with explained(path):
            if not self._continues():
                shutil.rmtree(self.partial, ignore_errors=True)
                (self.partial / _RECORDS).mkdir(parents=True)
                _write(self.partial / _RECIPE, json.dumps(self.recipe))
            self._shards = ShardSequence(self.partial, size)

    def _continues(self) -> bool:
        try:
            return bool(json.loads((self.partial / _RECIPE).read_text(encoding="utf-8")) == self.recipe)
        except (FileNotFoundError, ValueError):
            return False

    @property
    def finished(self) -> list[ShardRecord]:
        """The records of the shards that are done, in order, of a store that is written as one part."""
        return self._shards.finished

    def shard(self, rows: int) -> contextlib.AbstractContextManager["ShardWriter"]:
        """Open the next shard of a store that is written as one part."""
        return self._shards.shard(rows)

    def part(self, number: int) -> ShardSequence:
        """Return the shards of part `number` of a store that is written in several; see `part_prefix`."""
        return ShardSequence(self.partial, self.size, part_prefix(number))

    def finish(self, table: LabelTable, facts: Mapping[str, Any], parts: Sequence[ShardSequence] = ()) -> Store:
        """Write table and manifest, give the folder its final name, and open the store.

        table: the rows of all finished shards in order, with opaque patient keys. facts: what else the manifest
        says (source counts, population, ...). parts: in their order, if the store was written in parts.
        """
        records = [record for part in parts or [self._shards] for record in part.finished]
        unreadable = [entry for record in records for entry in record.quarantine]
        others = [entry for record in records for entry in record.others]
        with explained(self.path):
            _write(self.partial / _TABLE, _table_text(table))
            files = {record.file: record.sha256 for record in records if record.file is not None}
            manifest = {
                "schema": SCHEMA,
                "fingerprint": _fingerprint(table, self.size, [hash_ for r in records for hash_ in r.pixels]),
                "size": self.size,
                "images": len(table.images),
                "patients": len(set(table.patients.tolist())),
                "labels": list(table.labels),
                **facts,
                "sources_sha256": _json_digest([r.sources for r in records]),
                "quarantine": [Quarantined(*entry)._asdict() for entry in [*unreadable, *others]],
                "files": {_TABLE: _file_digest(self.partial / _TABLE), **files},
                "recipe": self.recipe,
            }
            manifest["sha256"] = _json_digest(manifest)
            _write(self.partial / _MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            for left in (*self.partial.glob("*.tmp"), *self.partial.glob("*lock")):
                left.unlink()
            self.partial.rename(self.path)
            _sync(self.path.parent)
            tidy(self.path)
        return Store.open(self.path)


def tidy(path: Path) -> None:
    """Remove from the finished store at `path` what was needed to continue; a kill may have come before."""
    shutil.rmtree(path / _RECORDS, ignore_errors=True)
    with contextlib.suppress(OSError):  # a store that cannot be written is as good with it
        (path / _RECIPE).unlink(missing_ok=True)


def part_prefix(number: int) -> str:
    """Return what the names of the shards of part `number` begin with."""
    return f"{number:03d}-"


class ShardWriter:
    """Appends images to one shard's file under a temporary name; only `finish` gives it its own."""

    def __init__(self, file: Path, rows: int, size: int) -> None:
        """Begin `file`, a shard of at most `rows` images of `size` pixels a side."""
        self.record = ShardRecord()
        self._file, self._size = file, size
        self._temporary = file.with_suffix(".tmp")
        self._header_bytes = len(_npy_header(rows, size))
        with explained(file):
            self._stream = self._temporary.open("wb")
            self._stream.write(b"\0" * self._header_bytes)

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; without `finish`, drop it."""
        with contextlib.suppress(OSError):  # a full disk has been reported by the write already
            self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def append(
        self, image: str, pixels: np.ndarray, pixels_sha256: str, source_sha256: str, view: str = "", patient: str = ""
    ) -> None:
        """Add one image: pixels (s, s) uint8; the view and the patient's key as the file gives them."""
        with explained(self._file):
            self._stream.write(pixels.data)
        self.record.images.append(image)
        self.record.pixels.append(pixels_sha256)
        self.record.sources.append(source_sha256)
        self.record.views.append(view)
        self.record.patients.append(patient)

    def quarantine(self, image: str, reason: str) -> None:
        """Leave one image out, with the reason."""
        self.record.quarantine.append((image, reason))

    def set_aside(self, name: str, reason: str) -> None:
        """Note something that is not an image to be read, with the reason."""
        self.record.others.append((name, reason))

    def finish(self) -> ShardRecord:
        """Write the header now that the number of rows is known, and put the file in its place."""
        if not self.record.images:
            return self.record
        header = _npy_header(len(self.record.images), self._size)
        self._stream.seek(0)
        self._stream.write(header.ljust(self._header_bytes))
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._temporary.replace(self._file)
        _sync(self._file.parent)
        self.record.file, self.record.sha256 = self._file.name, _file_digest(self._file)
        return self.record


def _npy_header(rows: int, size: int) -> bytes:
    """Return the header of an .npy file of (rows, size, size) uint8: 128 bytes for any shard."""
    stream = io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size)}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def _table_text(table: LabelTable) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "patient", "view", *table.labels])
    cells = {1: "1", 0: "0", UNKNOWN: ""}
    rows = zip(table.images, table.patients, table.views, table.targets.tolist(), strict=True)
    writer.writerows([image, patient, view, *map(cells.get, row)] for image, patient, view, row in rows)
    return text.getvalue()


def _fingerprint(table: LabelTable, size: int, pixels_sha256: list[str]) -> str:
    """Hash what a model can see and how a split can group it; the patients' keys stay out of it."""
    hash_ = hashlib.sha256()
    for part in ([SCHEMA, size, table.labels], table.images.tolist(), table.views.tolist(), pixels_sha256):
        hash_.update(json.dumps(part).encode())
    hash_.update(np.ascontiguousarray(table.targets, dtype=np.int8).tobytes())
    hash_.update(in_order_of_appearance(table.patients).astype("<i8").tobytes())
    return "sha256:" + hash_.hexdigest()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into a DataError that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free some space and run again: finished shards are kept"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "choose a folder that can be written"
        else:
            remedy = "mend it, or choose another folder"
        raise DataError(f"{path}: the store cannot be written ({error.strerror or error}); {remedy}") from error


def _write(file: Path, text: str) -> None:
    """Write `file` so that it is there whole or not at all, even after a power cut."""
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
