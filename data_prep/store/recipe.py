"""From a source of images to a store: decode in parallel, set the unreadable aside, write in the source's order.

n items of a source, s side of an image in pixels.
"""

import hashlib
import itertools
import json
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import cv2
import filelock
import kornia_rs
import numpy as np

from data_prep.decoding.radiograph import DICOM_SUFFIXES, is_dicom
from data_prep.decoding.raster import DECODE_VERSION, MAX_BYTES
from data_prep.decoding.sandbox import safe_decode
from data_prep.errors import DataError
from data_prep.labels.patients import PUBLIC_KEY, check_secret, key_name, opaque_name, patient_keys, patients_in_both
from data_prep.labels.table import LabelTable
from data_prep.store.store import SCHEMA, SHARD_IMAGES, ShardRecord, Store, StoreWriter, explained, tidy

UNREADABLE_LIMIT = 0.05  # share of the items
MIN_SIZE, MAX_SIZE = 8, 4096  # pixels
_BATCH_IMAGES = 16  # a worker gets at once: at 1024 px 0.2 s of work against a millisecond of hand-over
_POOL_PAYS = 3.0  # seconds of decoding from which starting processes (1 s) is worth it

Progress = Callable[[int, int], None]
_Batch = list[tuple[str, Path | bytes]]


class Labelled(Protocol):
    """Whatever a store is built from: the table that labels its images, and whose patients they are."""

    @property
    def table(self) -> LabelTable:
        """The label table; every item has a row in it."""

    @property
    def population(self) -> str:
        """Whose patients these are."""

    @property
    def public(self) -> bool:
        """Whether the patients' identifiers are public already, and need no secret."""

    @property
    def identity(self) -> str:
        """A hash that differs whenever the items or the table may differ."""


class Source(Labelled, Protocol):
    """Named images, in an order that stays, each with a row in the table."""

    @property
    def images_without_row(self) -> int:
        """How many images were left out."""

    @property
    def rows_without_image(self) -> int:
        """How many rows were left out."""

    def __len__(self) -> int:
        """n."""

    def items(self) -> Iterator[tuple[str, Path | bytes]]:
        """The n (image name, file or its content), in the same order every time."""


@dataclass(frozen=True)
class Decoded:
    """pixels: (s, s) uint8, or None with the reason; sha256 of the pixels and of the file's content.

    view, patient_id: as the file gives them. dicom: the file's name may be identity.
    """

    pixels: np.ndarray | None
    reason: str = ""
    pixels_sha256: str = ""
    source_sha256: str = ""
    view: str = ""
    patient_id: str = ""
    dicom: bool = False


def build_store(
    source: Source,
    path: Path,
    size: int,
    *,
    key: bytes,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
    unreadable_limit: float = UNREADABLE_LIMIT,
    shard_images: int = SHARD_IMAGES,
) -> Store:
    """Build the store of `source` at `path`, or open the one that is there if it was built from the same.

    size: side of the images, in pixels. key: the secret for patient keys; not used for a public source.
    workers: processes that decode; the store is the same, byte for byte, for any number. progress: called with
    (items done, n). unreadable_limit: share of the items that may be unreadable. shard_images: items a shard.

    A build that was killed continues with the first shard it had not finished. Two builders of one path take
    turns: the second opens what the first has built.

    Raises DataError for too many unreadable items (quoting the first reasons), for another store or a damaged
    one at `path`, and for a disk that is full or cannot be written.
    """
    check_size(size)
    secret = PUBLIC_KEY if source.public else check_secret(key)
    recipe = recipe_of(source, size, secret, shard_images)
    if path.exists():
        return _reuse(path, recipe, unreadable_limit)
    with store_lock(path):
        if path.exists():
            return _reuse(path, recipe, unreadable_limit)
        writer = StoreWriter(path, size, recipe)
        _write_shards(source, writer, secret, workers, progress, unreadable_limit, shard_images)
        table = rows_of(source, writer.finished, secret)
        return writer.finish(table, manifest_of(source) | _counts(source) | patients_in_files(writer.finished, table))


def check_size(size: int) -> None:
    """Raise DataError for a size, in pixels, beyond reason."""
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise DataError(f"image size must lie in [{MIN_SIZE}, {MAX_SIZE}] pixels; got {size}")


def store_key(source: Labelled, size: int, key: bytes) -> str:
    """Return 16 hexadecimal digits that name the store `build_store` would make: the same for the same input."""
    recipe = recipe_of(source, size, PUBLIC_KEY if source.public else key, SHARD_IMAGES)
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:16]


def recipe_of(source: Labelled, size: int, secret: bytes, shard_images: int) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "decode_version": DECODE_VERSION,
        "size": size,
        "source": source.identity,
        "population": source.population,
        "patient_key": key_name(secret),
        "shard_images": shard_images,
    }


def manifest_of(source: Labelled) -> dict[str, Any]:
    """Return what the manifest says of a source, but for its counts."""
    return {
        "population": source.population,
        "decoder": f"opencv {cv2.__version__}, kornia-rs {kornia_rs.__version__}",
        "label_table": {
            "sha256": source.table.sha256,
            "layout": source.table.layout,
            "ignored_columns": list(source.table.ignored),
        },
    }


def _counts(source: Source) -> dict[str, Any]:
    return {
        "items": len(source),
        "images_without_row": source.images_without_row,
        "rows_without_image": source.rows_without_image,
    }


def patients_in_files(records: Sequence[ShardRecord], table: LabelTable) -> dict[str, Any]:
    """Say how far the patients that DICOM files name themselves agree with those of the table."""
    known, joined = patients_in_both([patient for record in records for patient in record.patients], table.patients)
    return {"patients_in_files": {"images": known, "joined": joined}}


def _reuse(path: Path, recipe: Mapping[str, Any], unreadable_limit: float) -> Store:
    store = reuse(path, recipe)
    check_unreadable(store.quarantine, unreadable_limit, store.manifest["items"])
    return store


def reuse(path: Path, recipe: Mapping[str, Any]) -> Store:
    """Open the store at `path`; DataError if it was built by another recipe."""
    tidy(path)
    store = Store.open(path)
    if store.manifest["recipe"] != recipe:
        raise DataError(f"{path}: holds a store of other data or settings; choose another folder, or delete it")
    return store


@contextmanager
def store_lock(path: Path) -> Iterator[None]:
    """Hold the lock on `path`; the kernel releases it when its holder dies."""
    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _write_shards(
    source: Source,
    writer: StoreWriter,
    secret: bytes,
    workers: int,
    progress: Progress,
    limit: float,
    shard_images: int,
) -> None:
    total = len(source)
    done = min(len(writer.finished) * shard_images, total)
    unreadable = [entry for record in writer.finished for entry in record.quarantine]
    progress(done, total)
    items = itertools.islice(source.items(), done, None)
    with closing(_decoded(items, writer.size, workers, total - done)) as stream:
        for start in range(done, total, shard_images):
            rows = min(shard_images, total - start)
            with writer.shard(rows) as shard:
                for done, (name, item) in enumerate(itertools.islice(stream, rows), start=start + 1):
                    image = opaque_name(name, source.population, secret) if item.dicom else name
                    if item.pixels is None:
                        shard.quarantine(image, item.reason)
                        unreadable.append((image, item.reason))
                        check_unreadable(unreadable, limit, total)
                    else:
                        patient = file_patient(item, source.population, secret)
                        shard.append(image, item.pixels, item.pixels_sha256, item.source_sha256, item.view, patient)
                    progress(done, total)
    if done < total:
        raise RuntimeError(f"the source promised {total} items and gave {done}")


def file_patient(item: Decoded, population: str, secret: bytes) -> str:
    return str(patient_keys(np.array([item.patient_id]), population, secret)[0]) if item.patient_id else ""


def check_unreadable(unreadable: Sequence[tuple[str, str]], limit: float, total: int) -> None:
    if len(unreadable) > limit * total:
        first = "; ".join(f"{image}: {reason}" for image, reason in unreadable[:3])
        raise DataError(
            f"{len(unreadable)} of {total} images cannot be read, the limit is {limit:.0%} ({first}); "
            "mend or remove them, or raise the limit"
        )


def rows_of(source: Labelled, records: Sequence[ShardRecord], secret: bytes) -> LabelTable:
    """Return the rows of the records' images in that order, with opaque patient keys; a file knows its view best."""
    images = [image for record in records for image in record.images]
    if not images:
        raise DataError("none of the images can be read")
    table = source.table
    row_of = {image: row for row, image in enumerate(table.images.tolist())}
    row_of |= {opaque_name(image, source.population, secret): row for image, row in row_of.items()}
    rows = np.array([row_of[image] for image in images])
    views = np.array([view for record in records for view in record.views])
    return replace(
        table,
        images=np.array(images),
        patients=patient_keys(table.patients[rows], source.population, secret),
        targets=table.targets[rows],
        views=np.where(views == "", table.views[rows], views),
    )


def _decoded(
    items: Iterable[tuple[str, Path | bytes]], size: int, workers: int, total: int
) -> Generator[tuple[str, Decoded]]:
    """Decode `items` in their order; never more than a few batches per worker are in memory.

    A decoder that crashes costs one image: this process leaves decoding to processes that it can do without.
    """
    batches = _batches(items)
    started = time.perf_counter()
    first = _decode_batch(next(batches, []), size, isolate=True)
    expected = (time.perf_counter() - started) * total / _BATCH_IMAGES
    yield from first
    if expected > _POOL_PAYS:
        yield from _decoded_by_processes(batches, size, workers)
    else:
        for batch in batches:
            yield from _decode_batch(batch, size, isolate=True)


def _decoded_by_processes(batches: Iterator[_Batch], size: int, workers: int) -> Iterator[tuple[str, Decoded]]:
    """A crash breaks the pool: the batches under way are decoded in isolation, later ones by a new pool."""
    waiting: deque[tuple[_Batch, Future[list[tuple[str, Decoded]]]]] = deque()
    pool = _pool(workers)
    try:
        for batch in batches:
            try:
                future = pool.submit(_decode_batch, batch, size)
            except BrokenProcessPool:
                pool = _pool(workers)
                future = pool.submit(_decode_batch, batch, size)
            waiting.append((batch, future))
            if len(waiting) > 4 * workers:
                yield from _result(*waiting.popleft(), size)
        while waiting:
            yield from _result(*waiting.popleft(), size)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(batch: _Batch, future: Future[list[tuple[str, Decoded]]], size: int) -> list[tuple[str, Decoded]]:
    try:
        return future.result()
    except BrokenProcessPool:
        return _decode_batch(batch, size, isolate=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Spawned, not forked: the caller may run threads. A worker imports this module only, without torch."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)


def _batches(items: Iterable[tuple[str, Path | bytes]]) -> Iterator[_Batch]:
    stream = iter(items)
    while batch := list(itertools.islice(stream, _BATCH_IMAGES)):
        yield batch


def start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    cv2.setNumThreads(1)  # the workers are the parallelism


def _decode_batch(batch: _Batch, size: int, isolate: bool = False) -> list[tuple[str, Decoded]]:
    return [(image, decode_item(image, item, size, isolate)) for image, item in batch]


def decode_item(image: str, item: Path | bytes, size: int, isolate: bool) -> Decoded:
    dicom = image.lower().endswith(DICOM_SUFFIXES)
    try:
        data = item if isinstance(item, bytes) else _read(item)
        dicom = dicom or is_dicom(data)
        found = safe_decode(data, size, isolate=isolate)
    except DataError as error:
        return Decoded(None, str(error), dicom=dicom)
    except OSError as error:
        return Decoded(None, f"cannot be read ({error.strerror})", dicom=dicom)
    return Decoded(
        found.pixels,
        pixels_sha256=hashlib.sha256(found.pixels.data).hexdigest(),
        source_sha256=hashlib.sha256(data).hexdigest(),
        view=found.view,
        patient_id=found.patient_id,
        dicom=dicom,
    )


def _read(file: Path) -> bytes:
    if (size := file.stat().st_size) > MAX_BYTES:
        raise DataError(f"file of {size} bytes; the limit is {MAX_BYTES}")
    return file.read_bytes()
