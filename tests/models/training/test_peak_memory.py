"""A peak is what the block took at its most, and is never given where it could be another's."""

import threading
from pathlib import Path

import pytest
import torch

from models.training import peak_memory
from models.training.peak_memory import PeakMemory

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system keeps no peak of a process")
MIB = 2**20


def hold(mib: int) -> None:
    torch.ones(mib * MIB, dtype=torch.uint8)


@linux
@pytest.mark.parametrize("mib", [64, 200])
def test_the_peak_is_what_was_held_at_once_though_it_was_given_back(mib: int) -> None:
    hold(300)  # before the block: not its own
    with PeakMemory("cpu") as memory:
        assert memory.mib is None
        hold(mib)
        hold(mib // 2)
    assert memory.mib == pytest.approx(mib, abs=16)


@linux
def test_a_second_block_that_takes_as_much_is_told_as_much() -> None:
    found = []
    for _ in range(3):
        with PeakMemory("cpu") as memory:
            parts = [torch.ones(16 * 1024, dtype=torch.uint8) for _ in range(4096)]  # small ones: the heap keeps them
            parts.clear()
        found.append(memory.mib)
    assert found == pytest.approx([64] * 3, abs=16)


def test_blocks_that_overlap_in_a_process_have_no_peak() -> None:
    started, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with PeakMemory("cpu") as memory:
            started.set()
            go_on.wait(10)
        found.append(memory.mib)

    found: list[float | None] = []
    thread = threading.Thread(target=other)
    with PeakMemory("cpu") as first:
        thread.start()
        started.wait(10)
    with PeakMemory("cpu") as beside_the_other:
        hold(1)
    go_on.set()
    thread.join()
    assert (first.mib, beside_the_other.mib, found) == (None, None, [None])


def test_where_the_system_keeps_no_peak_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peak_memory, "_SELF", tmp_path / "absent")
    with PeakMemory("cpu") as memory:
        hold(1)
    assert memory.mib is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_peak_is_the_gpus() -> None:
    with PeakMemory("auto") as memory:
        torch.ones(32 * MIB, dtype=torch.uint8, device="cuda")
        torch.ones(300 * MIB, dtype=torch.uint8)
    assert memory.mib == pytest.approx(32, abs=4)
