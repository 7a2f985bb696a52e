"""Where the images lie while a network trains on them, and how a batch of them comes to the device.

    device       on the training device: a batch is one gather there
    main memory  a thread gathers the next batches into pinned memory, and a stream of its own copies them over
    store        the same, out of the memory-mapped array; only batches are ever held

Which rows a batch has is decided before; every place yields the same bits, in the same order.

Shapes: n images, b images of a batch, s x s pixels.
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

AHEAD = 3
"""Batches that are gathered before the step asks for them."""

_CHUNK = 1024  # images read at a time when they are brought into memory


@dataclass(frozen=True)
class ImageCache:
    """Images in their place; `pixels` is a tensor on the device, or else what lies on the other side."""

    pixels: Tensor | StoredPixels
    device: torch.device
    place: Place

    @property
    def index_device(self) -> torch.device:
        """Where the row numbers of batches are wanted."""
        return self.pixels.device

    def stream(self, batches: Iterable[Tensor], ahead: int = AHEAD) -> Iterator[tuple[Tensor, Tensor]]:
        """Row numbers (b,) and pixels (b, 1, s, s) uint8 of each batch, on the device, in order.

        Args:
            batches: row numbers, (b,) int64 each, on `index_device`.
            ahead: batches gathered beforehand, where images are not on the device.
        """
        if isinstance(self.pixels, Tensor):
            return ((rows, self.pixels[rows]) for rows in batches)
        return _ahead(self.pixels, batches, self.device, ahead)


class MemoryBudget:
    """What images may take of the memory of a device and of the machine.

    Args:
        device_memory, main_memory: GiB; none: half of what is free now, the rest being for all else that training
            needs. On a CPU the device's memory is main memory, and the smaller of the two counts.
        processes: that share this machine's main memory, each with its own images.
    """

    def __init__(
        self, device: torch.device, device_memory: float | None, main_memory: float | None, processes: int = 1
    ) -> None:
        self._device = device
        self._main = (_free_main() / 2 if main_memory is None else main_memory * 2**30) / processes
        if device_memory is None:
            self._on_device = torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else self._main
        else:
            self._on_device = device_memory * 2**30

    def place(self, pixels: Tensor | StoredPixels) -> ImageCache:
        """Brings images as near to the device as they fit. What is a tensor already is never moved away from it."""
        if isinstance(pixels, Tensor) and pixels.device == self._device:
            return ImageCache(pixels, self._device, "device")
        size, in_main_too = pixels.numel(), self._device.type == "cpu"
        if size <= self._on_device and (size <= self._main or not in_main_too):
            self._on_device -= size
            self._main -= size * in_main_too
            return ImageCache(_read(pixels, self._device), self._device, "device")
        if isinstance(pixels, StoredPixels) and size <= self._main:
            self._main -= size
            pixels = _read(pixels, torch.device("cpu"))
        return in_place(pixels, self._device, streamed=True)


def in_place(pixels: Tensor | StoredPixels, device: torch.device, *, streamed: bool = False) -> ImageCache:
    """Images as they are, to be handed to a device; `streamed` even if they lie on it."""
    if isinstance(pixels, StoredPixels):
        return ImageCache(pixels, device, "store")
    if pixels.device == device and not streamed:
        return ImageCache(pixels, device, "device")
    # NumPy gathers in one thread of its own; torch would set all of them to it, beside those that compute
    return ImageCache(StoredPixels(pixels[:, 0].cpu().numpy(), np.arange(len(pixels))), device, "main memory")


def _read(pixels: Tensor | StoredPixels, device: torch.device) -> Tensor:
    """All images in one tensor on the device, without a second copy on the way."""
    whole = torch.empty(tuple(pixels.shape), dtype=torch.uint8, device=device)
    for target, part in zip(whole.split(_CHUNK), pixels.split(_CHUNK), strict=True):
        target.copy_(part)
    return whole


class _Arriving(NamedTuple):
    rows: Tensor
    pixels: Tensor
    copied: torch.cuda.Event | None


def _ahead(
    source: StoredPixels, batches: Iterable[Tensor], device: torch.device, ahead: int
) -> Iterator[tuple[Tensor, Tensor]]:
    copying = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch(rows: Tensor) -> _Arriving:
        pixels = source[rows]
        if copying is None:
            return _Arriving(rows, pixels, None)
        with torch.cuda.stream(copying):
            # the allocator of pinned memory gives a buffer out again only when the copy from it is done
            there = [part.pin_memory().to(device, non_blocking=True) for part in (rows, pixels)]
            copied = torch.cuda.Event()
            copied.record(copying)
        return _Arriving(there[0], there[1], copied)

    waiting: deque[Future[_Arriving]] = deque()
    with ThreadPoolExecutor(1, "batches ahead") as worker:
        try:
            for rows in batches:
                waiting.append(worker.submit(fetch, rows))
                if len(waiting) > ahead:
                    yield _arrived(waiting.popleft().result(), device)
            while waiting:
                yield _arrived(waiting.popleft().result(), device)
        finally:
            for batch in waiting:
                batch.cancel()


def _arrived(batch: _Arriving, device: torch.device) -> tuple[Tensor, Tensor]:
    """The step's stream waits for the copy; the host does not."""
    if batch.copied is not None:
        computing = torch.cuda.current_stream(device)
        computing.wait_event(batch.copied)
        for part in (batch.rows, batch.pixels):
            part.record_stream(computing)  # its memory is not given out again before the step is done with it
    return batch.rows, batch.pixels


def _free_main() -> int:
    """Bytes of main memory that could be had, within a container's limit."""
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
