"""From archives to a store: every archive read as a stream by a process of its own, into shards of its own.

A killed build goes on archive by archive: gzip cannot seek, so an unfinished archive is read again from its start,
but what is in a finished shard is not decoded again. Which images a shard holds depends on its archive alone, so
the store is the same, byte for byte, whatever the number of processes, their order and their accidents.
"""

import hashlib
import itertools
import json
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
from data_prep.labels.patients import CHESTXRAY14, PUBLIC_KEY, check_secret, has_public_numbers, opaque_name
from data_prep.labels.table import LabelTable
from data_prep.sources.archives import NO_ROW, Account, Picked, open_archive, pick_images
from data_prep.store.recipe import (
    UNREADABLE_LIMIT,
    check_size,
    check_unreadable,
    decode_item,
    file_patient,
    manifest_of,
    patients_in_files,
    recipe_of,
    reuse,
    rows_of,
    start_worker,
    store_lock,
)
from data_prep.store.store import SHARD_IMAGES, ShardSequence, ShardWriter, Store, StoreWriter, part_prefix

LOCAL_ARCHIVES = "local"  # the population of archives whose rows are not numbered as ChestX-ray14's
DOWNLOADS_AHEAD = 2  # archives that may wait on disk, fetched, beside those being decoded
_SILENCE_SECONDS = 300  # without a sign of life a process is ended; a sandboxed image takes two minutes at most
_DEATHS = 20  # of processes on one archive, before the archive is given up
_TICK = 0.2  # seconds between looks at whether the build was stopped

Fetch = Callable[[RemoteFile], Path]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ArchiveSource:
    """Archives with a label table. md5: of each archive, as published, or a mark of the file that is there.

    identity: "sha256:..." of the table's content and of the archives' names and marks.
    """

    table: LabelTable
    archives: tuple[RemoteFile, ...]
    identity: str
    public: bool
    population: str

    @classmethod
    def of(cls, table: LabelTable, archives: tuple[RemoteFile, ...], found: dict[str, Path]) -> "ArchiveSource":
        """Describe `archives`; those without a published sum must be among the files `found` (name -> path)."""
        marks = [[archive.name, archive.md5 or _mark(archive, found)] for archive in archives]
        public = table.layout == "nih" and has_public_numbers(table.images, table.patients)
        return cls(
            table=table,
            archives=archives,
            identity="sha256:" + hashlib.sha256(json.dumps([table.sha256, *marks]).encode()).hexdigest(),
            public=public,
            population=CHESTXRAY14 if public else LOCAL_ARCHIVES,
        )


def _mark(archive: RemoteFile, found: dict[str, Path]) -> str:
    if archive.name not in found:
        raise DataError(
            f"{archive.name}: the manifest gives no MD5 sum, so it must lie in the folder given with --from"
        )
    state = found[archive.name].stat()
    return f"{state.st_size} bytes of {state.st_mtime_ns}"


def build_from_archives(
    source: ArchiveSource,
    path: Path,
    size: int,
    fetch: Fetch,
    *,
    key: bytes,
    workers: int = 1,
    discard: Callable[[RemoteFile], None] = lambda archive: None,
    verified: Callable[[RemoteFile], bool] = lambda archive: False,
    progress: Progress = lambda done, total: None,
    unreadable_limit: float = UNREADABLE_LIMIT,
    shard_images: int = SHARD_IMAGES,
) -> Store:
    """Build the store of `source` at `path`, or open the one that is there if it was built from the same.

    size: side of the images, in pixels. fetch: gives the file of an archive, called from several threads; while
    one archive is fetched, others are decoded. workers: processes, each on one archive. discard: called with each
    archive once its shards are on disk and their hashes were checked; may remove its file. verified: tells
    whether an archive's MD5 sum was checked when it came; others are checked while they are read. progress: called with
    (bytes of archives read, bytes in all; 0 if some length is not known). Other arguments as for `build_store`.

    Members that are no image, have no row, come twice or are not plain files go to the quarantine with a reason;
    only images with a row that cannot be decoded count towards `unreadable_limit`.

    Raises DataError after all other archives are done if one cannot be had, is damaged, or has another MD5 sum
    than was published; and as `build_store` does.
    """
    check_size(size)
    secret = PUBLIC_KEY if source.public else check_secret(key)
    recipe = recipe_of(source, size, secret, shard_images)
    if not path.exists():
        with store_lock(path):
            if not path.exists():
                writer = StoreWriter(path, size, recipe)
                job = _Job(
                    folder=writer.partial,
                    images=frozenset(source.table.images.tolist()),
                    size=size,
                    shard_images=shard_images,
                    population=source.population,
                    secret=secret,
                )
                _Builder(source, writer, job, fetch, discard, verified, progress).run(workers)
                parts = [writer.part(number) for number in range(len(source.archives))]
                _drop_repeated(source.archives, parts)
                return _finish(source, writer, parts, secret, unreadable_limit)
    store = reuse(path, recipe)
    unreadable = store.manifest["items"] - len(store.images)  # they come first in the quarantine
    check_unreadable(store.quarantine[:unreadable], unreadable_limit, store.manifest["items"])
    return store


@dataclass(frozen=True)
class _Job:
    """What every process is told."""

    folder: Path
    images: frozenset[str]
    size: int
    shard_images: int
    population: str
    secret: bytes


@dataclass
class _Builder:
    """Takes archives through fetching, decoding and discarding, several at a time, each in a thread that waits."""

    source: ArchiveSource
    writer: StoreWriter
    job: _Job
    fetch: Fetch
    discard: Callable[[RemoteFile], None]
    verified: Callable[[RemoteFile], bool]
    progress: Progress
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    positions: Counter[int] = field(default_factory=Counter)

    def run(self, workers: int) -> None:
        """Take all archives; a person's mistake with one does not keep the others from being done first."""
        errors: list[DataError] = []
        decoding = threading.BoundedSemaphore(workers)
        with ThreadPoolExecutor(workers + DOWNLOADS_AHEAD) as threads:
            takes = [threads.submit(self._take, part, decoding) for part in range(len(self.source.archives))]
            try:
                for take in as_completed(takes):
                    if isinstance(error := take.exception(), DataError):
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

    def _take(self, part: int, decoding: threading.BoundedSemaphore) -> None:
        archive = self.source.archives[part]
        if self.writer.part(part).ending is None:
            file = self.fetch(archive)
            with decoding:
                self._decode(part, replace(archive, md5=None) if self.verified(archive) else archive, file)
        shards = self.writer.part(part)
        if shards.ending is None or shards.ending["shards"] != len(shards.finished):
            shards.clear()
            raise DataError(f"{archive.name}: its shards are not what was written; run again")
        self._tell(part, archive.bytes or 0)
        self.discard(archive)

    def _decode(self, part: int, archive: RemoteFile, file: Path) -> None:
        """Run processes on the archive until one reaches its end; what one dies of, the next decodes in isolation."""
        suspects: set[str] = set()
        for _ in range(_DEATHS):
            suspect = self._run_process(part, archive, file, suspects)
            if suspect is None:
                return
            suspects.add(suspect)
        raise DataError(f"{archive.name}: {_DEATHS} processes died of it; leave it out with --parts")

    def _run_process(self, part: int, archive: RemoteFile, file: Path, suspects: set[str]) -> str | None:
        """Return None when the archive's end was reached, or the image during which the process died."""
        context = multiprocessing.get_context("spawn")  # not forked: this process has threads
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_decode_archive, args=(theirs, self.job, part, archive, file, frozenset(suspects)), daemon=True
        )
        process.start()
        theirs.close()
        image, quiet = "", 0.0
        try:
            while True:
                if self.stopped.is_set() or quiet > _SILENCE_SECONDS:
                    process.kill()
                if not ours.poll(_TICK):
                    quiet += _TICK
                    continue
                quiet = 0.0
                kind, value = ours.recv()
                if kind == "error":
                    raise DataError(value)
                if kind == "broken":
                    raise RuntimeError(f"decoding {archive.name} failed:\n{value}")
                if kind == "end":
                    return None
                image, position = value
                self._tell(part, position)
        except (EOFError, OSError):
            if self.stopped.is_set():
                raise DataError("stopped; run the command again to go on") from None
            return image
        finally:
            ours.close()
            process.join(_TICK if process.exitcode is None else None)
            if process.exitcode is None:
                process.kill()
                process.join()

    def _tell(self, part: int, position: int) -> None:
        with self.lock:
            self.positions[part] = position
            sizes = [archive.bytes for archive in self.source.archives]
            total = 0 if None in sizes else sum(size or 0 for size in sizes)
            self.progress(self.positions.total(), total)


def _decode_archive(
    connection: Connection, job: _Job, part: int, archive: RemoteFile, file: Path, suspects: Collection[str]
) -> None:
    """In a process of its own: decode an archive into shards, telling what it is at; ends when nobody listens."""
    start_worker()
    try:
        # the process of a killed build may still be writing, until it notices
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
    account = Account()
    with open_archive(file, account, md5=archive.md5 is not None) as members:
        picked = pick_images(members, job.images)
        done = sum(len(record.images) + len(record.quarantine) + len(record.others) for record in shards.finished)
        for image, _, _ in itertools.islice(picked, done):
            connection.send(("at", (image, account.position)))
        more = True
        while more:
            with shards.shard(job.shard_images) as shard:
                more = _fill(
                    shard, picked, job, suspects, lambda image: connection.send(("at", (image, account.position)))
                )
    if archive.md5 not in (None, account.md5):
        shards.clear()
        raise DataError(f"{file}: MD5 sum {account.md5} instead of {archive.md5}; the file is damaged: fetch it again")
    shards.end({"members": account.members, "folders": account.folders})


def _fill(
    shard: ShardWriter, picked: Iterator[Picked], job: _Job, suspects: Collection[str], tell: Callable[[str], None]
) -> bool:
    """Decode the next images into `shard`; False when there are no more. Other members do not count, but are noted."""
    images = 0
    for image, data, reason in picked:
        tell(image)
        if data is None:
            shard.set_aside(image, reason)
            continue
        item = decode_item(image, data, job.size, isolate=image in suspects)
        name = opaque_name(image, job.population, job.secret) if item.dicom else image
        if item.pixels is None:
            shard.quarantine(name, item.reason)
        else:
            patient = file_patient(item, job.population, job.secret)
            shard.append(name, item.pixels, item.pixels_sha256, item.source_sha256, item.view, patient)
        images += 1
        if images == job.shard_images:
            return True
    return False


def _drop_repeated(archives: tuple[RemoteFile, ...], parts: list[ShardSequence]) -> None:
    """Keep an image that several archives hold only where it comes first."""
    first: dict[str, str] = {}
    for archive, shards in zip(archives, parts, strict=True):
        for index, record in enumerate(shards.finished):
            again = {image: f"it is in {first[image]} already" for image in record.images if image in first}
            if again:
                shards.drop(index, again)
            first.update(dict.fromkeys(record.images, archive.name))


def _finish(
    source: ArchiveSource, writer: StoreWriter, parts: list[ShardSequence], secret: bytes, limit: float
) -> Store:
    records = [record for shards in parts for record in shards.finished]
    unreadable = [entry for record in records for entry in record.quarantine]
    items = sum(len(record.images) for record in records) + len(unreadable)
    check_unreadable(unreadable, limit, items)
    table = rows_of(source, records, secret)
    facts = {
        "items": items,
        "images_without_row": sum(reason == NO_ROW for record in records for _, reason in record.others),
        "rows_without_image": len(source.table.images) - items,
        "archives": [
            {"name": archive.name, "images": sum(len(r.images) for r in shards.finished), **(shards.ending or {})}
            for archive, shards in zip(source.archives, parts, strict=True)
        ],
    }
    return writer.finish(table, manifest_of(source) | facts | patients_in_files(records, table), parts)
