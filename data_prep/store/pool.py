"""Pool of decoded pixels that stores share: what was decoded once is not decoded again.

A folder for each way of decoding (version, size, channels, population and key; `Recipe.pixels_key`) holds

    00000.npy     a shard: the pixels of up to some thousand images, in the order in which they were decoded
    00000.json    its record: of each image the SHA-256 of its file and of its pixels, view, opaque patient, size;
                  of each file that cannot be read the SHA-256 and the reason; no file is named
    files.json    see `data_prep.store.file_hashes`

and, of an archive with the key K, shards K-00000 and so on, which a process of its own writes, and K-index.json (see
`data_prep.store.archive_index`).

A shard is written once and never changed. A store has hard links to the shards that hold its images, so each is on
the disk once, and a store stays whole when the pool or another store is deleted.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

from data_prep.errors import DataError
from data_prep.store.archive_index import unused_indexes
from data_prep.store.file_hashes import FileHashes
from data_prep.store.recipe import Recipe
from data_prep.store.shards import (
    SHARD_IMAGES,
    ShardRecord,
    ShardWriter,
    os_errors_explained,
    read_json_or_none,
    write_whole,
)
from data_prep.store.store import PIXELS, file_digest, image_shape, json_digest

_DICOM = ".dcm"
_LOCK, _HASHES, _NUMBER = "lock", "files.json", "[0-9]" * 5

Say = Callable[[str], None]


@dataclass
class PixelPool:
    """A pool, and how many of the images that builds with this object asked for it had.

    Attributes:
        root: its folder; None: each build has its own, which ends with it.
        shard_images: files decoded into a shard, at most.
        say: called with a sentence for the log: what is waited for, and what is damaged and decoded again.
        decoded: number of images that were decoded, those that could not be read included.
        reused: number of images that were not, because their file, or one of the same content, was decoded before.
    """

    root: Path | None = None
    shard_images: int = SHARD_IMAGES
    say: Say = lambda line: None
    decoded: int = 0
    reused: int = 0

    @contextmanager
    def opened(self, recipe: Recipe, alone: Path) -> Iterator["DecodedFiles"]:
        """Open what is decoded as in `recipe`, for one build at a time; `alone` is the folder if there is no `root`.

        Raises:
            DataError: the folder cannot be written.
        """
        folder = (self.root or alone) / recipe.pixels_key
        lock = filelock.FileLock(folder / _LOCK)
        with os_errors_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                self.say("waiting for another run that decodes images of this size")
                lock.acquire()
        try:
            yield DecodedFiles(folder, recipe, self)
        finally:
            lock.release()


class Known(NamedTuple):
    """What the pool knows of a file: in which row of which shard its pixels are, or why it cannot be read.

    Attributes:
        dicom: whether it is a DICOM file by its content.
    """

    shard: str = ""
    row: int = -1
    reason: str = ""
    dicom: bool = False


class DecodedFiles:
    """The files that were decoded in one way, by the SHA-256 of their content; one build at a time has it open.

    Attributes:
        folder: where they are.
        hashes: remembered SHA-256 of files by their paths.
    """

    def __init__(self, folder: Path, recipe: Recipe, pool: PixelPool) -> None:
        """Read the records in `folder`; a damaged one is removed, so that its images are decoded again."""
        self.folder, self._pool = folder, pool
        self._shape = image_shape(recipe.size, recipe.channels)
        self._records: dict[str, ShardRecord] = {}
        self._known: dict[str, Known] = {}
        self._checked: set[str] = set()
        self.hashes = FileHashes(folder / _HASHES, recipe.source.population, recipe.secret)
        self._own = PoolShards(folder, "", pool.shard_images, self._shape)
        self.update()

    def update(self) -> int:
        """Read the records that other processes have written since; return how many files were decoded into them."""
        new = 0
        for file in sorted(self.folder.glob(f"*{_NUMBER}.json")):
            if file.stem in self._records:
                continue
            if record := _read_record(file):
                self._take(file.stem, record)
                new += len(record.images) + len(record.quarantine)
            else:
                self._drop(file.stem, "its record is not what was written")
        return new

    def find(self, digest: str) -> Known | None:
        """Return what is known of a file; None if its pixels are not there, or no longer as they were written."""
        known = self._known.get(digest)
        if known is None or known.reason or known.shard in self._checked:
            return known
        record = self._records[known.shard]
        try:
            found = file_digest(self._file(known.shard, ".npy"))
        except DataError:  # a disk that fails
            found = ""
        if found == record.sha256:
            self._checked.add(known.shard)
            return known
        self._drop(known.shard, "it is missing" if found is None else "it is not what was written")
        return None

    def digests(self) -> frozenset[str]:
        """Return the SHA-256 of all files of which something is known; the shards are read to check them."""
        return frozenset(digest for digest in list(self._known) if self.find(digest))

    @contextmanager
    def shard(self) -> Iterator[tuple[str, ShardWriter]]:
        """Begin the next shard; give its name and writer. Leaving the context without an error finishes it."""
        with self._own.shard() as (name, writer):
            yield name, writer
        if writer.record.images or writer.record.quarantine:
            self._checked.add(name)
            self._take(name, writer.record)
            self.remember_hashes()

    def remember_hashes(self) -> None:
        """Write the hashes of files for later builds, as far as their pixels are here."""
        self.hashes.save(self._known)

    def link(self, images: Sequence[Known], folder: Path) -> tuple[list[ShardRecord], np.ndarray | None]:
        """Link the shards of `images` into the folder of an unfinished store.

        Returns:
            A record of each link, without images; and the place of each image among those of all links, (n,) int64,
            or None if they are all of these, in their order.
        """
        shards = list(dict.fromkeys(known.shard for known in images))
        *starts, total = accumulate((len(self._records[shard].images) for shard in shards), initial=0)
        start = dict(zip(shards, starts, strict=True))
        links = []
        with os_errors_explained(folder):
            for left in folder.glob(f"{PIXELS}-*"):
                left.unlink()
            for place, shard in enumerate(shards):
                link = folder / f"{PIXELS}-{place:05d}.npy"
                _link(self._file(shard, ".npy"), link)
                links.append(ShardRecord(file=link.name, sha256=self._records[shard].sha256))
        rows = np.array([start[known.shard] + known.row for known in images], np.int64)
        return links, None if np.array_equal(rows, np.arange(total)) else rows

    def content(self, images: Sequence[tuple[str, Known]]) -> ShardRecord:
        """Return the record of `images`, by name, as if they were one shard without a file."""
        content = ShardRecord()
        for name, (shard, row, reason, _) in images:
            if reason:
                content.quarantine.append((name, reason))
                continue
            record = self._records[shard]
            content.images.append(name)
            for column in ("pixels", "sources", "views", "patients", "sizes"):
                getattr(content, column).append(getattr(record, column)[row])
        return content

    def _file(self, shard: str, suffix: str) -> Path:
        return self.folder / f"{shard}{suffix}"

    def _take(self, shard: str, record: ShardRecord) -> None:
        self._records[shard] = record
        for row, name in enumerate(record.images):
            self._known[name.removesuffix(_DICOM)] = Known(shard, row, dicom=name.endswith(_DICOM))
        for name, reason in record.quarantine:
            self._known[name.removesuffix(_DICOM)] = Known(reason=reason, dicom=name.endswith(_DICOM))

    def _drop(self, shard: str, why: str) -> None:
        """Remove a shard; what is known of its images is forgotten."""
        self._pool.say(f"shard {shard} of the pool of pixels is left out ({why}): its images are decoded again")
        with os_errors_explained(self.folder):
            for suffix in (".json", ".npy"):
                self._file(shard, suffix).unlink(missing_ok=True)
        self._records.pop(shard, None)
        self._known = {digest: known for digest, known in self._known.items() if known.shard != shard}


class PoolShards:
    """The shards in a folder of a pool whose names have the same prefix; one process at a time writes them."""

    def __init__(self, folder: Path, prefix: str, shard_images: int, shape: tuple[int, ...]) -> None:
        """Find the finished ones; `shard_images` and `shape`, (s, s) or (channels, s, s), are those of the next."""
        self._folder, self._prefix, self._shard_images, self._shape = folder, prefix, shard_images, shape
        self._finished = sorted(folder.glob(f"{prefix}{_NUMBER}.json"))
        self._next = int(self._finished[-1].stem.removeprefix(prefix)) + 1 if self._finished else 0

    def digests(self) -> set[str]:
        """Return the SHA-256 of the files whose images, or reasons, the shards hold that were finished at first."""
        records = [record for record in map(_read_record, self._finished) if record]
        names = [name for record in records for name in (*record.images, *(name for name, _ in record.quarantine))]
        return {name.removesuffix(_DICOM) for name in names}

    @contextmanager
    def shard(self) -> Iterator[tuple[str, ShardWriter]]:
        """Begin the next shard; give its name and writer.

        Leaving the context without an error finishes it, unless nothing was added.
        """
        name = f"{self._prefix}{self._next:05d}"
        with ShardWriter(self._folder / f"{name}.npy", self._shard_images, self._shape) as writer:
            yield name, writer
            record = writer.finish()
            if not (record.images or record.quarantine):
                return
            content = {**vars(record), "record_sha256": json_digest(vars(record))}
            with os_errors_explained(self._folder):
                write_whole(self._folder / f"{name}.json", json.dumps(content).encode())
        self._next += 1


def _read_record(file: Path) -> ShardRecord | None:
    """Return the record of a shard; None if it is damaged."""
    found = read_json_or_none(file)
    is_whole = isinstance(found, dict) and found.pop("record_sha256", "") == json_digest(found)
    return ShardRecord(**found) if is_whole else None


def pool_name(digest: str, dicom: bool) -> str:
    """Return the name of a file in a pool: the SHA-256 of its content, with .dcm if that is DICOM."""
    return digest + _DICOM * dicom


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:  # the file system has no hard links, or no more of this file
        shutil.copyfile(file, link)


class UnusedShard(NamedTuple):
    """A shard of a pool to which no store has a link, and its size in bytes."""

    file: Path
    bytes: int


def remove_unused(root: Path, say: Say) -> list[UnusedShard]:
    """Remove the shards of the pool at `root` to which no store has a link, and return them.

    Those that a build has open are left, and `say` is called with a sentence about them. A build that was killed left
    shards that no store uses yet: they are decoded again when it is repeated. Where the file system has no hard
    links, stores have copies, which they keep.

    Raises:
        DataError: a shard cannot be removed.
    """
    removed = []
    for folder in sorted(lock.parent for lock in root.glob(f"*/{_LOCK}")):
        try:
            with filelock.FileLock(folder / _LOCK, timeout=0), os_errors_explained(folder):
                for shard in _unused(folder):
                    shard.file.with_suffix(".json").unlink(missing_ok=True)
                    shard.file.unlink()
                    removed.append(shard)
                for left in (*folder.glob("*.tmp"), *unused_indexes(folder)):
                    left.unlink()
        except filelock.Timeout:
            say(f"unused pixels are left in {folder}: another run decodes images there now")
    return removed


def _unused(folder: Path) -> list[UnusedShard]:
    states = {file: file.stat() for file in sorted(folder.glob("*.npy"))}
    return [UnusedShard(file, state.st_size) for file, state in states.items() if state.st_nlink == 1]
