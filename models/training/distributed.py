"""Several processes that train one network together, one per device.

Each has all examples and the same network, takes its share of every batch, and agrees with the others on sums. They
are Fabric's DDP processes (gloo between CPUs, NCCL between GPUs), started afresh from here: `spawn` runs a function
in all of them and hears what the first has to tell, so that files and servers stay with the process that called.
Fabric's wrapper of the network is not used: it averages the gradients of single forward passes, which is wrong
where the shares of a batch have unlike numbers of known labels.

Shapes: b images, p processes.
"""

import mmap
import os
import pickle
import signal
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from models.errors import SettingError

Send = Callable[[Any], None]
"""Hands a picklable value to the process that called; does nothing but in the first process."""


@dataclass(frozen=True)
class Processes:
    """Which of p processes this is. All must call `all_reduce`, `all_gather` and `broadcast` in the same order."""

    rank: int
    count: int

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of (b, ...) rows: all of it, where there is one; sizes differ by at most one."""
        return rows.tensor_split(self.count)[self.rank]

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum over the processes, the same bits in each."""
        if self.count == 1:
            return values
        whole = values.clone()
        torch.distributed.all_reduce(whole)
        return whole

    def all_gather(self, part: Tensor, rows: int) -> Tensor:
        """The (rows, ...) whole of which each process has its `share`."""
        if self.count == 1:
            return part
        longest = -(-rows // self.count)
        padded = pad(part, [0, 0] * (part.ndim - 1) + [0, longest - len(part)])
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        torch.distributed.all_gather(parts, padded)
        sizes = [len(share) for share in torch.empty(rows, 0).tensor_split(self.count)]
        return torch.cat([whole[:size] for whole, size in zip(parts, sizes, strict=True)])

    def broadcast(self, values: Tensor) -> Tensor:
        """The first process's values, put in their place."""
        if self.count > 1:
            torch.distributed.broadcast(values, 0)
        return values


SINGLE_PROCESS = Processes(0, 1)


def spawn(
    work: Callable[..., Any], arguments: tuple[Any, ...], *, count: int, on_message: Callable[[Any], None]
) -> Any:
    """Runs `work(processes, tell, *arguments)` in `count` new processes and returns what it returns in the first.

    Args:
        work: a function of a module, importable by name; it brings the process group up, as `models.training.image_step.Step` does.
        arguments: picklable. Tensors are moved to memory that all processes share: the work must copy what it writes
            to. Memory-mapped arrays are mapped again, not copied.
        hear: called here with whatever the first process tells, in order. What it raises ends the processes.

    Raises:
        SettingError: the work raised it, in any process.
        RuntimeError: the work raised something else, whose traceback is in the message, or a process was killed.
    """
    context = torch.multiprocessing.get_context("spawn")
    ForkingPickler.register(np.memmap, _mapped_again)
    receiver, sender = context.Pipe(duplex=False)
    lock = context.Lock()
    threads = max(1, torch.get_num_threads() // count)
    with socket.socket() as free:  # its port is another's only if that is drawn in the next seconds
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [
        context.Process(
            target=_process, args=(Processes(rank, count), port, threads, sender, lock, work, arguments), daemon=True
        )
        for rank in range(count)
    ]
    try:
        for process in processes:
            process.start()
        sender.close()
        return _result(receiver, processes, on_message)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            if process.pid is not None:
                process.join()


def _result(receiver: Connection, processes: list[Any], on_message: Callable[[Any], None]) -> Any:
    while True:
        running = {process.sentinel: process for process in processes if process.is_alive()}
        wait([receiver, *running])
        while receiver.poll():
            try:
                kind, value = pickle.loads(receiver.recv_bytes())
            except EOFError:
                raise RuntimeError("the training processes ended without a result") from None
            if kind == "told":
                on_message(value)
            elif kind == "result":
                return value
            elif kind == "refused":
                raise value
            else:
                raise RuntimeError(f"one of {len(processes)} training processes failed:\n{value}")
        ended = [process.exitcode for process in processes if process.exitcode]
        if ended and not receiver.poll():
            raise RuntimeError(f"one of {len(processes)} training processes ended with exit code {ended[0]}")


def _process(
    processes: Processes, port: int, threads: int, sender: Connection, lock: Any,
    work: Callable[..., Any], arguments: tuple[Any, ...],
) -> None:  # fmt: skip
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who called decides
    torch.set_num_threads(threads)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0",
        "LOCAL_RANK": str(processes.rank), "WORLD_SIZE": str(processes.count),
    }  # fmt: skip

    def put(kind: str, value: Any) -> None:
        with lock:
            # by value: tensors in shared memory would vanish with this process
            sender.send_bytes(pickle.dumps((kind, value)))

    def send(value: Any) -> None:
        if processes.rank == 0:
            put("told", value)

    try:
        result = work(processes, send, *arguments)
        if processes.rank == 0:
            put("result", result)
    except SettingError as refusal:
        put("refused", refusal)
    except Exception:
        put("failed", traceback.format_exc())


def _mapped_again(array: np.memmap) -> Any:
    """How a memory-mapped array is pickled: by its place in the file, where it is contiguous there."""
    mapped = getattr(array, "_mmap", None)
    if mapped is None or array.filename is None or not array.flags.c_contiguous:
        return np.asarray(array).__reduce__()
    begin = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # where the mapping begins in the file
    offset = start + array.__array_interface__["data"][0] - begin
    return np.memmap, (array.filename, array.dtype, "r", offset, array.shape)
