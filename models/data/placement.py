"""Image placement: where the images are stored during training, and how their batches reach the device.

    device       in the training device's memory: a batch is one indexing operation there
    main memory  a thread gathers the next batches into pinned memory; a separate CUDA stream copies them to the device
    store        the same, but read from the memory-mapped array; only batches are held in memory

The row numbers of each batch are decided before; every placement yields the same bits in the same order.

Shapes: n images, b images of a batch, c channels, s x s pixels.
"""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.data.image_batches import StoredPixels

Place = Literal["device", "main memory", "store"]

PREFETCH = 3
"""Number of batches that are gathered before the training step needs them."""

_CHUNK = 1024  # images read at a time when all are loaded into memory


@dataclass(frozen=True)
class ImageCache:
    """Images in their placement, as a source of batches on the device.

    Attributes:
        pixels: a tensor on the training device, or `StoredPixels` in main memory or in the store.
        device: the training device.
        place: the placement, for the record.
    """

    pixels: Tensor | StoredPixels
    device: torch.device
    place: Place

    @property
    def index_device(self) -> torch.device:
        """Device on which `stream` expects row numbers."""
        return self.pixels.device

    def stream(self, batches: Iterable[Tensor], prefetch: int = PREFETCH) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the row numbers (b,) and pixels (b, c, s, s) uint8 of each batch, on the device, in order.

        Args:
            batches: row numbers, (b,) int64 each, on `index_device`.
            prefetch: number of batches gathered in advance, if the images are not on the device.
        """
        if isinstance(self.pixels, Tensor):
            return ((rows, self.pixels[rows]) for rows in batches)
        return _prefetched(self.pixels, batches, self.device, prefetch)


class MemoryBudget:
    """The memory that images may still use, on a device and on this machine.

    Args:
        device: the training device.
        device_memory: GiB on the device. None: half of what is free now; the rest is for all else that training needs.
            On a CPU, device memory is main memory, and the smaller of the two limits applies.
        main_memory: GiB of main memory. None: half of what is free now.
        processes: number of processes that share this machine's main memory, each with its own images.
    """

    def __init__(
        self, device: torch.device, device_memory: float | None, main_memory: float | None, processes: int = 1
    ) -> None:
        self._device = device
        self._main = (_available_memory() / 2 if main_memory is None else main_memory * 2**30) / processes
        if device_memory is None:
            self._on_device = torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else self._main
        else:
            self._on_device = device_memory * 2**30

    def place(self, pixels: Tensor | StoredPixels) -> ImageCache:
        """Load images as near to the device as they fit, and subtract their size from the budget.

        A tensor that is on the device already stays there, whatever the budget.
        """
        if isinstance(pixels, Tensor) and pixels.device == self._device:
            return ImageCache(pixels, self._device, "device")
        size, shares_memory = pixels.numel(), self._device.type == "cpu"
        if size <= self._on_device and (size <= self._main or not shares_memory):
            self._on_device -= size
            self._main -= size * shares_memory
            return ImageCache(_read(pixels, self._device), self._device, "device")
        if isinstance(pixels, StoredPixels) and size <= self._main:
            self._main -= size
            pixels = _read(pixels, torch.device("cpu"))
        return in_place(pixels, self._device, streamed=True)


def in_place(pixels: Tensor | StoredPixels, device: torch.device, *, streamed: bool = False) -> ImageCache:
    """Make an image cache without loading anything: the images stay where they are.

    Args:
        pixels: (n, c, s, s) uint8.
        device: the training device.
        streamed: whether a tensor on the device is treated as being in main memory.
    """
    if isinstance(pixels, StoredPixels):
        return ImageCache(pixels, device, "store")
    if pixels.device == device and not streamed:
        return ImageCache(pixels, device, "device")
    # NumPy gathers in a single thread; torch would use all of its threads, which the training step needs
    return ImageCache(StoredPixels(pixels.cpu().numpy(), np.arange(len(pixels))), device, "main memory")


def _read(pixels: Tensor | StoredPixels, device: torch.device) -> Tensor:
    """Read all images into one tensor on the device, without a second copy in main memory."""
    shape, on_cpu = tuple(pixels.shape), device.type == "cpu"
    # NumPy asks the system for huge pages: to touch new memory for the first time then takes a quarter of the time
    images = (
        torch.from_numpy(np.empty(shape, np.uint8)) if on_cpu else torch.empty(shape, dtype=torch.uint8, device=device)
    )
    for target, part in zip(images.split(_CHUNK), pixels.split(_CHUNK), strict=True):
        target.copy_(part)
    return images


class _Fetched(NamedTuple):
    """A batch on the device, or on its way there.

    Attributes:
        rows: (b,) int64.
        pixels: (b, c, s, s) uint8.
        copied: reached when the copy to the GPU is complete; None on a CPU.
    """

    rows: Tensor
    pixels: Tensor
    copied: torch.cuda.Event | None


def _prefetched(
    source: StoredPixels, batches: Iterable[Tensor], device: torch.device, prefetch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches that a thread gathers and copies to the device in advance."""
    copy_stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch(rows: Tensor) -> _Fetched:
        pixels = source[rows]
        if copy_stream is None:
            return _Fetched(rows, pixels, None)
        with torch.cuda.stream(copy_stream):
            # the pinned-memory allocator reuses a buffer only after the copy from it is complete
            on_device = [part.pin_memory().to(device, non_blocking=True) for part in (rows, pixels)]
            copied = torch.cuda.Event()
            copied.record(copy_stream)
        return _Fetched(on_device[0], on_device[1], copied)

    pending: deque[Future[_Fetched]] = deque()
    with ThreadPoolExecutor(1, "prefetch") as worker:
        try:
            for rows in batches:
                pending.append(worker.submit(fetch, rows))
                if len(pending) > prefetch:
                    yield _wait_for_copy(pending.popleft().result(), device)
            while pending:
                yield _wait_for_copy(pending.popleft().result(), device)
        finally:
            for batch in pending:
                batch.cancel()


def _wait_for_copy(batch: _Fetched, device: torch.device) -> tuple[Tensor, Tensor]:
    """Make the current CUDA stream wait for the copy; the host does not wait."""
    if batch.copied is not None:
        compute_stream = torch.cuda.current_stream(device)
        compute_stream.wait_event(batch.copied)
        for part in (batch.rows, batch.pixels):
            part.record_stream(compute_stream)  # so that its memory is not reused before the step is done with it
    return batch.rows, batch.pixels


def _available_memory() -> int:
    """Return the available main memory in bytes, within a container's limit."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit))
