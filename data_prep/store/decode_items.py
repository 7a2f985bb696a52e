"""Decode the items of a source in several processes, in their order; a decoder that crashes costs one image.

n items of a source, s side of an image in pixels.
"""

import hashlib
import itertools
import multiprocessing
import resource
import signal
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from data_prep.decoding.radiograph import holds_dicom
from data_prep.decoding.raster import MAX_BYTES
from data_prep.decoding.sandbox import CPU_SECONDS, MEMORY_BYTES, DecodingStoppedError, safe_decode, used_memory
from data_prep.errors import DataError
from data_prep.regular_file import read_regular

if TYPE_CHECKING:  # a process that decodes reads no tables
    from data_prep.sources.source import Item

_BATCH_IMAGES = 16  # a worker gets at once: at 1024 px 0.2 s of work against a millisecond of transfer
_WORKER_BYTES = 2 * MEMORY_BYTES  # of a worker process, beyond its own: one file, and the batch that it has decoded
_POOL_PAYS = 3.0  # seconds of decoding after which starting processes (1 s) is worth it


@dataclass(frozen=True)
class DecodedItem:
    """An item after decoding.

    Attributes:
        pixels: (s, s) uint8, of a picture in colour (3, s, s); or None if the item cannot be read, for `reason`.
        source_sha256: of the content of the file, which also gives the rest; "" where another try may give something
            else: the file could not be read, or its decoding was stopped.
        dicom: whether it is a DICOM file by its content.
        original: rows and columns of the image in the file, in pixels; zeros if they are not known.
    """

    pixels: np.ndarray | None
    reason: str = ""
    pixels_sha256: str = ""
    source_sha256: str = ""
    view: str = ""
    patient_id: str = ""
    dicom: bool = False
    original: tuple[int, int] = (0, 0)


_Batch: TypeAlias = "list[Item]"
_DecodedBatch = list[tuple[str, DecodedItem]]
_Decode = Callable[..., _DecodedBatch]


def decode_items(
    items: "Iterable[Item]",
    size: int,
    workers: int,
    chest: bool = False,
    picture_channels: int | None = None,
) -> Generator[tuple[str, DecodedItem]]:
    """Decode `items` in their order; never more than a few batches per worker are in memory.

    Items are decoded in isolation (see `data_prep.decoding.sandbox`) or in worker processes, so that a decoder that
    crashes does not end this process. There are `workers` processes once the first items took so long that there may
    be enough work for them.
    `chest` and `picture_channels` as in `data_prep.decoding.sandbox.safe_decode`.

    Yields:
        Name and decoded item, of s = `size`.
    """
    waiting = batches(items)
    decode = partial(_decode_batch, size=size, chest=chest, picture_channels=picture_channels)
    seconds = 0.0  # of decoding: that items come slowly is no reason for processes
    for batch in waiting:
        begun = time.perf_counter()
        decoded = decode(batch, isolate=True)
        seconds += time.perf_counter() - begun
        yield from decoded
        if seconds > _POOL_PAYS:
            yield from _decode_in_processes(waiting, decode, workers)


def decode_item(
    image: str,
    item: Path | bytes,
    size: int,
    isolate: bool,
    chest: bool = False,
    picture_channels: int | None = None,
) -> DecodedItem:
    """Decode one image from its file, or the content of its file, to s = `size`.

    With `isolate`, it is decoded in a process of its own, so that a crash does not end this one. `chest` and
    `picture_channels` as in `data_prep.decoding.sandbox.safe_decode`.
    """
    dicom, digest = False, ""
    try:
        data = item if isinstance(item, bytes) else read_regular(item, MAX_BYTES)
        dicom, digest = holds_dicom(data), hashlib.sha256(data).hexdigest()
        with nullcontext() if isolate else _limited_time():
            radiograph = safe_decode(data, size, isolate=isolate, chest=chest, picture_channels=picture_channels)
    except MemoryError:
        return DecodedItem(None, "decoding needs more memory than is allowed", dicom=dicom)
    except DecodingStoppedError as error:
        return DecodedItem(None, str(error), dicom=dicom)
    except DataError as error:
        return DecodedItem(None, str(error), source_sha256=digest, dicom=dicom)
    except OSError as error:
        return DecodedItem(None, f"cannot be read ({error.strerror})", dicom=dicom)
    return DecodedItem(
        radiograph.pixels,
        pixels_sha256=hashlib.sha256(radiograph.pixels.data).hexdigest(),
        source_sha256=digest,
        view=radiograph.view,
        patient_id=radiograph.patient_id,
        dicom=dicom,
        original=(radiograph.rows, radiograph.columns),
    )


def start_worker() -> None:
    """Prepare a worker process for decoding: a file that needs too much memory gets a reason instead of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    cv2.setNumThreads(1)  # the processes are the parallelism
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used_memory() + _WORKER_BYTES, most))


@contextmanager
def _limited_time() -> Iterator[None]:
    """End this process, by SIGPROF, if the block takes too much processor time; the file is then tried in isolation."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _decode_in_processes(batches: Iterator[_Batch], decode: _Decode, workers: int) -> Iterator[tuple[str, DecodedItem]]:
    """Decode with a pool; a crash breaks it: pending batches are decoded in isolation, later ones by a new pool."""
    pending: deque[tuple[_Batch, Future[_DecodedBatch]]] = deque()
    pool = _pool(workers)
    try:
        for batch in batches:
            try:
                future = pool.submit(decode, batch)
            except BrokenProcessPool:
                pool = _pool(workers)
                future = pool.submit(decode, batch)
            pending.append((batch, future))
            if len(pending) > 4 * workers:
                yield from _result(*pending.popleft(), decode)
        while pending:
            yield from _result(*pending.popleft(), decode)
    finally:
        pool.shutdown(cancel_futures=True)


def _result(batch: _Batch, future: Future[_DecodedBatch], decode: _Decode) -> _DecodedBatch:
    try:
        return future.result()
    except (BrokenProcessPool, MemoryError):
        return decode(batch, isolate=True)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Start a pool of processes: spawned, not forked, as the caller may run threads; they import no torch."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=start_worker)


def batches(items: "Iterable[Item]") -> Iterator[_Batch]:
    """Cut items into batches, each as many as a worker gets at once."""
    stream = iter(items)
    while batch := list(itertools.islice(stream, _BATCH_IMAGES)):
        yield batch


def _decode_batch(
    batch: _Batch, size: int, chest: bool, picture_channels: int | None, isolate: bool = False
) -> _DecodedBatch:
    return [(image, decode_item(image, item, size, isolate, chest, picture_channels)) for image, item in batch]
