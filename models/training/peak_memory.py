"""Peak memory of a training above the memory in use before it: of the GPU, or of this process on a CPU."""

import ctypes
import threading
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Self

import torch

_SELF = Path("/proc/self")


class PeakMemory:
    """Context that measures peak memory: allocated by PyTorch on a GPU, else resident memory (Linux only).

    The peak is that of the whole process, so blocks that overlap in time have no value. Before the block, memory that
    the process has freed is returned to the system: using it again would not raise the peak.

    Attributes:
        mib: peak in MiB; None while the block runs, if it overlapped with another block, and if the system records no
            peak.
    """

    _running: ClassVar[set["PeakMemory"]] = set()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, device: Literal["auto", "cpu", "cuda"]) -> None:
        self.mib: float | None = None
        self._on_gpu = device != "cpu" and torch.cuda.is_available()

    def __enter__(self) -> Self:
        with self._lock:
            self._running.add(self)
            self._exclusive = len(self._running) == 1
            for other in self._running:
                other._exclusive = self._exclusive
            self._before = self._reset_peak() if self._exclusive else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._running.remove(self)
            if self._exclusive and self._before is not None:
                peak = torch.cuda.max_memory_allocated() if self._on_gpu else _resident("VmHWM")
                self.mib = max(0, peak - self._before) / 2**20

    def _reset_peak(self) -> int | None:
        """Reset the peak, and return the bytes in use now, or None if the system records no peak."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        import lightning_fabric  # noqa: F401  # training imports it: not part of the first block's peak only

        try:
            ctypes.CDLL(None).malloc_trim(0)
            (_SELF / "clear_refs").write_text("5", encoding="ascii")  # resets the peak
            return _resident("VmRSS")
        except (OSError, AttributeError, StopIteration):  # not Linux, or a container that forbids it
            return None


def _resident(field: str) -> int:
    """Read this process's resident memory in bytes: VmRSS is the present value, VmHWM the peak."""
    lines = (_SELF / "status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
