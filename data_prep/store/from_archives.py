"""Build a store from archives: a process per archive reads it as a stream and writes its shards.

A build that was killed continues archive by archive: gzip cannot seek, so an unfinished archive is read again from
its start, but images in finished shards are not decoded again. Which images a shard holds depends on its archive
alone, so the store is the same, byte for byte, for any number of processes, any order and any number of kills.
"""

import itertools
import multiprocessing
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import filelock

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.patients import opaque_name
from data_prep.labels.safe_names import is_harmless, row_name
from data_prep.labels.table import LabelTable
from data_prep.sources.archives import NO_ROW, ArchiveItem, ReadProgress, open_archive, select_images
from data_prep.sources.left_out import MAX_NAMED, LeftOut
from data_prep.sources.source import LabelledSource, content_hash, population_of
from data_prep.store.build import UNREADABLE_LIMIT, Progress, WrittenShards, add_item, check_unreadable, open_or_build
from data_prep.store.decode_items import decode_item, start_worker
from data_prep.store.recipe import Recipe
from data_prep.store.shards import SHARD_IMAGES, ShardRecord, ShardSequence, ShardWriter, part_prefix
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
        discard: called with each archive once its shards are on disk and were checked; may remove its file.
        verified: whether an archive's MD5 sum was checked when it was fetched; else it is checked when it is read.
    """

    fetch: Callable[[RemoteFile], Path]
    discard: Callable[[RemoteFile], None] = lambda archive: None
    verified: Callable[[RemoteFile], bool] = lambda archive: False


@dataclass(frozen=True, kw_only=True)
class ArchiveSource(LabelledSource):
    """Archives with a label table.

    The identity is that of the table's content and of the archives' names and MD5 sums as published; for an archive
    without a sum, of the size and time of its file.

    Attributes:
        complete: these are all archives of the table's images, not some.
        allow_missing: more than 1 % of the images may lack a row, and of the rows an image.
    """

    archives: tuple[RemoteFile, ...]
    files: ArchiveFiles
    complete: bool = True
    allow_missing: bool = False

    @classmethod
    def of(
        cls, table: LabelTable, archives: tuple[RemoteFile, ...], local: dict[str, Path], files: ArchiveFiles
    ) -> "ArchiveSource":
        """Describe archives; raise DataError if one without a published sum is not in `local` (name -> file)."""
        marks = [[archive.name, archive.md5 or _size_and_time(archive, local)] for archive in archives]
        population, public = population_of(table)
        identity = content_hash([table.sha256, *marks])
        return cls(table=table, population=population, public=public, identity=identity, archives=archives, files=files)


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
    shard_images: int = SHARD_IMAGES,
) -> Store:
    """Build the store of `source` at `path`, or open the one that was built there from the same source and settings.

    Members that are not an image, have no row, come twice or are not plain files go to the quarantine with a reason;
    only images with a row that cannot be decoded count towards `unreadable_limit`.

    The arguments are those of `build_store`, but each of the `workers` processes works on one archive, and `progress`
    is called with (bytes of archives read, bytes in all; 0 if some length is not known).

    Raises:
        DataError: as `build_store` does; and, after all other archives are done, if an archive cannot be fetched, is
            damaged, or its MD5 sum is not the published one.
    """
    recipe = Recipe.of(source, size, key, shard_images)

    def write_shards(writer: StoreWriter) -> WrittenShards:
        job = _Job(
            folder=writer.partial,
            images=frozenset(source.table.images.tolist()),
            size=size,
            shard_images=shard_images,
            population=source.population,
            secret=recipe.secret,
            chest=source.chest,
        )
        _Builder(source, writer, job, progress).run(workers)
        parts = [writer.part(number) for number in range(len(source.archives))]
        _drop_repeated(source.archives, parts)
        return _count(source, parts, unreadable_limit, recipe.secret)

    return open_or_build(recipe, path, unreadable_limit, write_shards)


@dataclass(frozen=True)
class _Job:
    """The arguments that all processes have in common."""

    folder: Path
    images: frozenset[str]
    size: int
    shard_images: int
    population: str
    secret: bytes
    chest: bool


@dataclass
class _Builder:
    """Fetches, decodes and discards archives, several at a time, each in a thread that waits for its process."""

    source: ArchiveSource
    writer: StoreWriter
    job: _Job
    progress: Progress
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    positions: Counter[int] = field(default_factory=Counter)

    def run(self, workers: int) -> None:
        """Process all archives; a DataError about one of them is raised after the others are done."""
        errors: list[DataError] = []
        decoding = threading.BoundedSemaphore(workers)
        with ThreadPoolExecutor(workers + DOWNLOADS_AHEAD) as threads:
            futures = [threads.submit(self._process, part, decoding) for part in range(len(self.source.archives))]
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

    def _process(self, part: int, decoding: threading.BoundedSemaphore) -> None:
        archive, files = self.source.archives[part], self.source.files
        if self.writer.part(part).end_record is None:
            file = files.fetch(archive)
            with decoding:
                self._decode(part, replace(archive, md5=None) if files.verified(archive) else archive, file)
        shards = self.writer.part(part)
        if shards.end_record is None or shards.end_record["shards"] != len(shards.finished):
            shards.clear()
            raise DataError(f"{archive.name}: its shards are not what was written; run again")
        self._report(part, archive.bytes or 0)
        files.discard(archive)

    def _decode(self, part: int, archive: RemoteFile, file: Path) -> None:
        """Run processes on the archive until one reaches its end; an image that crashed one is isolated in the next."""
        suspects: set[str] = set()
        for _ in range(_MAX_CRASHES):
            suspect = self._run_process(part, archive, file, suspects)
            if suspect is None:
                return
            suspects.add(suspect)
        raise DataError(f"{archive.name}: {_MAX_CRASHES} processes crashed while reading it; leave it out with --parts")

    def _run_process(self, part: int, archive: RemoteFile, file: Path, suspects: set[str]) -> str | None:
        """Return None when the archive's end was reached, or the image during which the process died."""
        context = multiprocessing.get_context("spawn")  # not forked: this process has threads
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_decode_archive, args=(theirs, self.job, part, archive, file, frozenset(suspects)), daemon=True
        )
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
                    return None
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


def _decode_archive(
    connection: Connection, job: _Job, part: int, archive: RemoteFile, file: Path, suspects: Collection[str]
) -> None:
    """Decode an archive into shards; the main function of a process, which ends when nobody reads `connection`.

    The connection receives ("at", (image, bytes read)) before each image, at last "end", "error" or "broken". The MD5
    sum of the archive is checked where it has one. Suspects are images to decode in isolation.
    """
    start_worker()
    try:
        # the process of a killed build may still be writing until it notices
        with filelock.FileLock(job.folder / f"{part_prefix(part)}lock"):
            _write_shards(connection, job, part, archive, file, suspects)
        connection.send(("end", None))
    except DataError as error:
        connection.send(("error", str(error)))
    except BrokenPipeError:
        return
    except Exception:
        connection.send(("broken", traceback.format_exc()))


def _write_shards(
    connection: Connection, job: _Job, part: int, archive: RemoteFile, file: Path, suspects: Collection[str]
) -> None:
    shards = ShardSequence(job.folder, job.size, part_prefix(part))
    state = ReadProgress()

    def reported(items: Iterator[ArchiveItem]) -> Iterator[ArchiveItem]:
        for item in items:
            connection.send(("at", (item.image, state.position)))
            yield item

    with open_archive(file, state, md5=archive.md5 is not None) as members:
        items = reported(select_images(members, job.images))
        done = sum(len(record.images) + len(record.quarantine) + len(record.others) for record in shards.finished)
        for _ in itertools.islice(items, done):
            pass
        more = True
        while more:
            with shards.shard(job.shard_images) as shard:
                more = _fill(shard, items, job, suspects)
    if archive.md5 not in (None, state.md5):
        shards.clear()
        raise DataError(f"{file}: MD5 sum {state.md5} instead of {archive.md5}; the file is damaged: fetch it again")
    shards.end({"members": state.members, "folders": state.folders})


def _fill(shard: ShardWriter, items: Iterator[ArchiveItem], job: _Job, suspects: Collection[str]) -> bool:
    """Decode the next images into `shard`; return False when there are no more.

    Members that are not an image to be read are recorded, but do not count towards the shard's images.
    """
    images = 0
    for image, data, reason in items:
        if data is None:
            shard.skip(image, reason)
            continue
        item = decode_item(image, data, job.size, isolate=image in suspects, chest=job.chest)
        named = image if is_harmless(image) and not item.dicom else opaque_name(image, job.population, job.secret)
        add_item(shard, named, item, job.population, job.secret)
        images += 1
        if images == job.shard_images:
            return True
    return False


def _drop_repeated(archives: tuple[RemoteFile, ...], parts: list[ShardSequence]) -> None:
    """Keep an image that several archives hold only in the first of them."""
    first: dict[str, str] = {}
    for archive, shards in zip(archives, parts, strict=True):
        for index, record in enumerate(shards.finished):
            again = {image: f"it is in {first[image]} already" for image in record.images if image in first}
            if again:
                shards.drop(index, again)
            first.update(dict.fromkeys(record.images, archive.name))


def _left_out(source: ArchiveSource, records: list[ShardRecord], secret: bytes) -> LeftOut:
    """Find the images without a row, and the rows without an image; the rows of archives that are not used are none."""
    unmatched = [name for record in records for name, reason in record.others if reason == NO_ROW]
    seen = {name for record in records for name in (*record.images, *(image for image, _ in record.quarantine))}
    names = source.table.images.tolist() if source.complete else []
    rows = [
        row_name(row, name)
        for row, name in enumerate(names, start=1)
        if name not in seen and opaque_name(name, source.population, secret) not in seen
    ]
    return LeftOut(
        len(unmatched), tuple(filter(is_harmless, unmatched))[:MAX_NAMED], len(rows), tuple(rows[:MAX_NAMED])
    )


def _count(source: ArchiveSource, parts: list[ShardSequence], unreadable_limit: float, secret: bytes) -> WrittenShards:
    records = [record for shards in parts for record in shards.finished]
    unreadable = [entry for record in records for entry in record.quarantine]
    items = sum(len(record.images) for record in records) + len(unreadable)
    check_unreadable(unreadable, unreadable_limit, items)
    left = _left_out(source, records, secret)
    if not source.allow_missing:
        left.check("the archives", items + left.images, len(source.table.images))
    counts = {
        "items": items,
        "images_without_row": left.images,
        "rows_without_image": len(source.table.images) - items,
        "unmatched_images": list(left.image_names),
        "unmatched_rows": list(left.row_names),
        "remarks": [],
        "archives": [
            {"name": archive.name, "images": sum(len(r.images) for r in shards.finished), **(shards.end_record or {})}
            for archive, shards in zip(source.archives, parts, strict=True)
        ],
    }
    return WrittenShards(counts, records)
