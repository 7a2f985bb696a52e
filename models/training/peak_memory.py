"""The most memory that a training takes above what was held before it: of its GPU, else of this process."""

import ctypes
import threading
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Literal, Self

import torch

_SELF = Path("/proc/self")


class PeakMemory:
    """Measures its `with` block: on a GPU what PyTorch allocated there, else resident memory (Linux only).

    A peak belongs to the whole process, so blocks that overlap in it have none. Memory that the process got and gave
    back before cannot be told from new memory by its peak: it is returned to the system first.

    mib: MiB, null while the block runs, where it shared the process with another, and where the system keeps no peak.
    """

    _under_way: ClassVar[set["PeakMemory"]] = set()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, device: Literal["auto", "cpu", "cuda"]) -> None:
        self.mib: float | None = None
        self._on_gpu = device != "cpu" and torch.cuda.is_available()

    def __enter__(self) -> Self:
        with self._lock:
            self._under_way.add(self)
            self._alone = len(self._under_way) == 1
            for other in self._under_way:
                other._alone = self._alone
            self._before = self._started() if self._alone else None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._under_way.remove(self)
            if self._alone and self._before is not None:
                peak = torch.cuda.max_memory_allocated() if self._on_gpu else _resident("VmHWM")
                self.mib = max(0, peak - self._before) / 2**20

    def _started(self) -> int | None:
        """Forgets the peak so far; bytes held now, or None where no peak is kept."""
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        import lightning_fabric  # noqa: F401  # what training loads is there before, for the first as for the others

        try:
            ctypes.CDLL(None).malloc_trim(0)
            (_SELF / "clear_refs").write_text("5", encoding="ascii")  # resets the peak
            return _resident("VmRSS")
        except (OSError, AttributeError, StopIteration):  # not Linux, or a container that forbids it
            return None


def _resident(field: str) -> int:
    """Bytes of resident memory: VmRSS now, VmHWM at its peak."""
    lines = (_SELF / "status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))
