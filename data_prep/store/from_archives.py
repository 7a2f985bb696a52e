"""Build a store from archives: a process per archive reads it as a stream and decodes what the pool does not know.

A build that was killed continues archive by archive: gzip cannot seek, so an unfinished archive is read again from
its start, but images in finished shards are not decoded again. Which images a shard holds depends on its archive and
on what was decoded before, so that a new store is the same, byte for byte, for any number of processes, any order and
any number of kills.
"""

import multiprocessing
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.patients import opaque_name
from data_prep.labels.safe_names import is_harmless, row_name
from data_prep.labels.table import LabelTable
from data_prep.sources.archives import NO_ROW, ImageSelection
from data_prep.sources.left_out import MAX_NAMED, LeftOut
from data_prep.sources.source import LabelledSource, content_hash, population_of
from data_prep.store.archive_index import read_index, shards_prefix, write_index
from data_prep.store.archive_process import ArchiveJob, Reading, decode_archive
from data_prep.store.build import UNREADABLE_LIMIT, Progress, WrittenShards, check_unreadable, open_or_build
from data_prep.store.pool import DecodedFiles, Known, PixelPool
from data_prep.store.recipe import Recipe
from data_prep.store.shards import RECORDS, ShardRecord
from data_prep.store.store import Store
from data_prep.store.writer import StoreWriter

DOWNLOADS_AHEAD = 2  # archives that may wait on disk, fetched, beside those being decoded
_SILENCE_SECONDS = 300  # a process that reports nothing for so long is killed; a sandboxed image takes 270 s at most
_MAX_CRASHES = 20  # of processes on one archive, before the archive is given up
_POLL_SECONDS = 0.2  # between checks whether the build was stopped


@dataclass(frozen=True)
class ArchiveFiles:
    """Access to the files of archives.

    Attributes:
        fetch: returns an archive's file; called from several threads. Meanwhile other archives are decoded.
        discard: called with each archive once its images are on disk and were checked; may remove its file.
        verified: whether an archive's MD5 sum was checked when it was fetched; else it is checked when it is read.
        expect: called once with all archives that will be fetched, before the first is, if there are any.
    """

    fetch: Callable[[RemoteFile], Path]
    discard: Callable[[RemoteFile], None] = lambda archive: None
    verified: Callable[[RemoteFile], bool] = lambda archive: False
    expect: Callable[[Sequence[RemoteFile]], None] = lambda archives: None


@dataclass(frozen=True, kw_only=True)
class ArchiveSource(LabelledSource):
    """Archives with a label table.

    The identity is that of the table's content and of the archives' names and MD5 sums as published; for an archive
    without a sum, of the size and time of its file.

    Attributes:
        marks: of each archive, its MD5 sum, or the size and time of its file.
        complete: these are all archives of the table's images, not some.
        allow_missing: more than 1 % of the images may lack a row, and of the rows an image.
    """

    archives: tuple[RemoteFile, ...]
    marks: tuple[str, ...]
    files: ArchiveFiles
    complete: bool = True
    allow_missing: bool = False

    @classmethod
    def of(
        cls, table: LabelTable, archives: tuple[RemoteFile, ...], local: dict[str, Path], files: ArchiveFiles
    ) -> "ArchiveSource":
        """Describe archives; raise DataError if one without a published sum is not in `local` (name -> file)."""
        marks = tuple(archive.md5 or _size_and_time(archive, local) for archive in archives)
        named = [[archive.name, mark] for archive, mark in zip(archives, marks, strict=True)]
        population, public = population_of(table)
        return cls(
            table=table,
            population=population,
            public=public,
            identity=content_hash([table.sha256, *named]),
            archives=archives,
            marks=marks,
            files=files,
        )


def _size_and_time(archive: RemoteFile, local: dict[str, Path]) -> str:
    if archive.name not in local:
        raise DataError(
            f"{archive.name}: the manifest gives no MD5 sum, so the file must be in the folder given with --from"
        )
    state = local[archive.name].stat()
    return f"{state.st_size} bytes of {state.st_mtime_ns}"


def build_from_archives(
    source: ArchiveSource,
    path: Path,
    size: int,
    *,
    key: bytes,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    unreadable_limit: float = UNREADABLE_LIMIT,
    pool: PixelPool | None = None,
) -> Store:
    """Build the store of `source` at `path`, or open the one that was built there from the same source and settings.

    Members that are not an image, have no row, come twice or are not plain files go to the quarantine with a reason;
    only images with a row that cannot be decoded count towards `unreadable_limit`.

    An archive of public images is not even read, nor fetched, if the pool knows all of it that the table names; one of
    other images is read again for another table, as the pool names no file of theirs.

    The arguments are those of `build_store`, but each of the `workers` processes works on one archive, and `progress`
    is called with (bytes of archives read, bytes in all; 0 if some length is not known).

    Raises:
        DataError: as `build_store` does; and, after all other archives are done, if an archive cannot be fetched, is
            damaged, or its MD5 sum is not the published one.
    """
    pool = pool or PixelPool()
    recipe = Recipe.of(source, size, key, pool.shard_images)

    def write_shards(writer: StoreWriter) -> WrittenShards:
        with pool.opened(recipe, writer.partial / RECORDS) as decoded:
            job = ArchiveJob(
                folder=decoded.folder,
                images=frozenset(source.table.images.tolist()),
                size=size,
                shard_images=pool.shard_images,
                population=source.population,
                secret=recipe.secret,
                chest=source.chest,
            )
            # the names of private files end with the build
            indexes = decoded.folder if source.public else writer.partial / RECORDS
            builder = _Builder(source, decoded, job, indexes, progress)
            contents = builder.run(workers)
            _drop_repeated(source.archives, contents)
            images = [image for each in contents for image in each.images]
            pool.decoded += builder.decoded
            pool.reused += max(0, len(images) - builder.decoded)  # a content of two archives may be decoded twice
            links, rows = decoded.link([known for _, known in images if not known.reason], writer.partial)
            content = decoded.content(images)
        content.others = [other for each in contents for other in each.others]
        check_unreadable(content.quarantine, unreadable_limit, len(images))
        counts = _count(source, contents, content, recipe.secret)
        return WrittenShards(counts, [content, *links], rows)

    return open_or_build(recipe, path, unreadable_limit, write_shards)


@dataclass
class _Contents:
    """What an archive holds: members, among them folders; images with a row; (name, reason) of the others."""

    members: int
    folders: int
    images: list[tuple[str, Known]] = field(default_factory=list)
    others: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class _Builder:
    """Fetches, decodes and discards archives, several at a time, each in a thread that waits for its process.

    Attributes:
        indexes: folder of the indexes of archives.
        contents: of the archives that are done, by their numbers.
        decoded: number of images that were decoded, those that could not be read included.
    """

    source: ArchiveSource
    pool: DecodedFiles
    job: ArchiveJob
    indexes: Path
    progress: Progress
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    positions: Counter[int] = field(default_factory=Counter)
    contents: dict[int, _Contents] = field(default_factory=dict)
    decoded: int = 0

    @cached_property
    def selection(self) -> ImageSelection:
        """The rows of the label table, which are looked up in each archive."""
        return ImageSelection(self.job.images)

    def run(self, workers: int) -> list[_Contents]:
        """Process all archives; a DataError about one of them is raised after the others are done."""
        errors: list[DataError] = []
        decoding = threading.BoundedSemaphore(workers)
        parts = range(len(self.source.archives))
        if unread := [part for part in parts if not self._is_known(part)]:
            self.job = replace(self.job, known=self.pool.digests())
            self.source.files.expect([self.source.archives[part] for part in unread])
        with ThreadPoolExecutor(workers + DOWNLOADS_AHEAD) as threads:
            futures = [threads.submit(self._process, part, decoding) for part in parts]
            try:
                for future in as_completed(futures):
                    if isinstance(error := future.exception(), DataError):
                        errors.append(error)
                    elif error is not None:
                        raise error
            except BaseException:
                self.stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        if errors:
            more = f" (and {len(errors) - 1} more archives)" if len(errors) > 1 else ""
            raise DataError(f"{errors[0]}{more}; what was decoded is kept")
        return [self.contents[part] for part in parts]

    def _is_known(self, part: int) -> bool:
        """Look into the pool for all that the table names of an archive."""
        index = read_index(self.indexes, self._prefix(part))
        return index is not None and self._take(part, Reading(index, {}))

    def _take(self, part: int, reading: Reading) -> bool:
        """Find the images of an archive in the pool; return whether they are all there."""
        is_folder = [member.data is None and not member.reason for member in reading.members]
        contents = _Contents(len(is_folder), sum(is_folder))
        with self.lock:
            for image, digest, reason in self.selection.select(reading.members):
                if digest is None:
                    contents.others.append((image, reason))
                elif known := self.pool.find(digest) or reading.unread.get(digest):
                    contents.images.append((self._name(image, known), known))
                else:
                    return False
        self.contents[part] = contents
        return True

    def _name(self, image: str, known: Known) -> str:
        harmless = is_harmless(image) and not known.dicom
        return image if harmless else opaque_name(image, self.job.population, self.job.secret)

    def _process(self, part: int, decoding: threading.BoundedSemaphore) -> None:
        archive, files = self.source.archives[part], self.source.files
        if part not in self.contents:
            file = files.fetch(archive)
            with decoding:
                reading = self._decode(part, replace(archive, md5=None) if files.verified(archive) else archive, file)
            with self.lock:
                self.decoded += self.pool.update() + len(reading.unread)
            if not self._take(part, reading):
                raise DataError(f"{archive.name}: its shards are not what was written; run again")
            write_index(self.indexes, self._prefix(part), reading.members)
        self._report(part, archive.bytes or 0)
        files.discard(archive)

    def _prefix(self, part: int) -> str:
        return shards_prefix(self.source.archives[part].name, self.source.marks[part])

    def _decode(self, part: int, archive: RemoteFile, file: Path) -> Reading:
        """Run processes on the archive until one reaches its end; an image that crashed one is isolated in the next."""
        suspects: set[str] = set()
        for _ in range(_MAX_CRASHES):
            found = self._run_process(part, archive, file, suspects)
            if isinstance(found, Reading):
                return found
            suspects.add(found)
        raise DataError(f"{archive.name}: {_MAX_CRASHES} processes crashed while reading it; leave it out with --parts")

    def _run_process(self, part: int, archive: RemoteFile, file: Path, suspects: set[str]) -> Reading | str:
        """Return what was found when the archive's end was reached, or the image during which the process died."""
        context = multiprocessing.get_context("spawn")  # not forked: this process has threads
        ours, theirs = context.Pipe(duplex=False)
        args = (theirs, self.job, archive, file, self._prefix(part), frozenset(suspects))
        process = context.Process(target=decode_archive, args=args, daemon=True)
        process.start()
        theirs.close()
        image, silent_seconds = "", 0.0
        try:
            while True:
                if self.stopped.is_set() or silent_seconds > _SILENCE_SECONDS:
                    process.kill()
                if not ours.poll(_POLL_SECONDS):
                    silent_seconds += _POLL_SECONDS
                    continue
                silent_seconds = 0.0
                kind, value = ours.recv()
                if kind == "error":
                    raise DataError(value)
                if kind == "broken":
                    raise RuntimeError(f"decoding {archive.name} failed:\n{value}")
                if kind == "end":
                    return Reading(*value)
                image, position = value
                self._report(part, position)
        except (EOFError, OSError):
            if self.stopped.is_set():
                raise DataError("stopped; run the command again to continue") from None
            return image
        finally:
            ours.close()
            process.join(_POLL_SECONDS if process.exitcode is None else None)
            if process.exitcode is None:
                process.kill()
                process.join()

    def _report(self, part: int, position: int) -> None:
        with self.lock:
            self.positions[part] = position
            sizes = [archive.bytes for archive in self.source.archives]
            total = 0 if None in sizes else sum(size or 0 for size in sizes)
            self.progress(self.positions.total(), total)


def _drop_repeated(archives: tuple[RemoteFile, ...], contents: Sequence[_Contents]) -> None:
    """Keep an image that several archives hold only in the first of them."""
    first: dict[str, str] = {}
    for archive, each in zip(archives, contents, strict=True):
        readable = [name for name, known in each.images if not known.reason]
        again = {name for name in readable if name in first}
        each.images = [(name, known) for name, known in each.images if name not in again]
        each.others += [(name, f"it is in {first[name]} already") for name in readable if name in again]
        first |= dict.fromkeys(set(readable) - again, archive.name)


def _left_out(source: ArchiveSource, content: ShardRecord, secret: bytes) -> LeftOut:
    """Find the images without a row, and the rows without an image; the rows of archives that are not used are none."""
    unmatched = [name for name, reason in content.others if reason == NO_ROW]
    seen = {*content.images, *(image for image, _ in content.quarantine)}
    names = source.table.images.tolist() if source.complete else []
    rows = [
        row_name(row, name)
        for row, name in enumerate(names, start=1)
        if name not in seen and opaque_name(name, source.population, secret) not in seen
    ]
    return LeftOut(
        len(unmatched), tuple(filter(is_harmless, unmatched))[:MAX_NAMED], len(rows), tuple(rows[:MAX_NAMED])
    )


def _count(
    source: ArchiveSource, contents: Sequence[_Contents], content: ShardRecord, secret: bytes
) -> dict[str, object]:
    """Count what was read and left out.

    Raises:
        DataError: more than 1 % is left out, and the source does not allow it.
    """
    items = len(content.images) + len(content.quarantine)
    left = _left_out(source, content, secret)
    if not source.allow_missing:
        left.check("the archives", items + left.images, len(source.table.images))
    return {
        "items": items,
        "images_without_row": left.images,
        "rows_without_image": len(source.table.images) - items,
        "unmatched_images": list(left.image_names),
        "unmatched_rows": list(left.row_names),
        "remarks": [],
        "archives": [
            {
                "name": archive.name,
                "images": sum(not known.reason for _, known in each.images),
                "members": each.members,
                "folders": each.folders,
            }
            for archive, each in zip(source.archives, contents, strict=True)
        ],
    }
