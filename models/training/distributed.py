"""Data-parallel training of one network by several processes, one per device.

Each process has all examples and a copy of the network, and takes its share of every batch; gradients and losses are
summed over the processes. They are Fabric's DDP processes (gloo between CPUs, NCCL between GPUs), started here as new
processes: `spawn` runs a function in all of them and passes on the messages of the first one, so that only the calling
process writes files and talks to servers. Fabric's wrapper of the network is not used: it averages the gradients of
single forward passes, which is wrong where the shares of a batch have different numbers of known labels.

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
"""Sends a picklable value to the calling process, if called in the first process; does nothing in the others."""


@dataclass(frozen=True)
class Processes:
    """The rank of this process and the number of processes, with the collective operations between them.

    All processes must call `all_reduce`, `all_gather` and `broadcast` in the same order.
    """

    rank: int
    count: int

    def share(self, rows: Tensor) -> Tensor:
        """Select this process's part of (b, ...) rows, all if there is one process; sizes differ by at most one."""
        return rows.tensor_split(self.count)[self.rank]

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over the processes; every process gets the same bits."""
        if self.count == 1:
            return values
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    def all_gather(self, part: Tensor, rows: int) -> Tensor:
        """Concatenate the processes' `share`s to the whole (rows, ...) tensor."""
        if self.count == 1:
            return part
        longest = -(-rows // self.count)
        padded = pad(part, [0, 0] * (part.ndim - 1) + [0, longest - len(part)])
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        torch.distributed.all_gather(parts, padded)
        sizes = [len(share) for share in torch.empty(rows, 0).tensor_split(self.count)]
        return torch.cat([padded_part[:size] for padded_part, size in zip(parts, sizes, strict=True)])

    def broadcast(self, values: Tensor) -> Tensor:
        """Overwrite the values with those of the first process, and return them."""
        if self.count > 1:
            torch.distributed.broadcast(values, 0)
        return values


SINGLE_PROCESS = Processes(0, 1)


def spawn(
    work: Callable[..., Any], arguments: tuple[Any, ...], *, count: int, on_message: Callable[[Any], None]
) -> Any:
    """Run `work(processes, send, *arguments)` in `count` new processes.

    Args:
        work: a function of a module, importable by name; it starts the process group, as
            `models.training.image_step.Step` does.
        arguments: picklable. Tensors are moved to memory that all processes share, so the work must copy those that it
            changes. Memory-mapped arrays are mapped again, not copied.
        count: number of processes.
        on_message: called in this process with each message of the first process, in order. If it raises an exception,
            the processes are ended.

    Returns:
        The work's result in the first process.

    Raises:
        SettingError: the work raised it, in any process.
        RuntimeError: the work raised another exception (its traceback is in the message), or a process was killed.
    """
    context = torch.multiprocessing.get_context("spawn")
    ForkingPickler.register(np.memmap, _reduce_memmap)
    receiver, sender = context.Pipe(duplex=False)
    lock = context.Lock()
    threads = max(1, torch.get_num_threads() // count)
    with socket.socket() as free:  # another program could take this port only within the next seconds
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how = (port, threads, sender, lock, work, arguments)
    processes = [
        context.Process(target=_run_process, args=(Processes(rank, count), *how), daemon=True) for rank in range(count)
    ]
    try:
        for process in processes:
            process.start()
        sender.close()
        return _wait_for_result(receiver, processes, on_message)
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            if process.pid is not None:
                process.join()


def _wait_for_result(receiver: Connection, processes: list[Any], on_message: Callable[[Any], None]) -> Any:
    while True:
        running = {process.sentinel: process for process in processes if process.is_alive()}
        wait([receiver, *running])
        while receiver.poll():
            try:
                kind, value = pickle.loads(receiver.recv_bytes())
            except EOFError:
                raise RuntimeError("the training processes ended without a result") from None
            if kind == "message":
                on_message(value)
            elif kind == "result":
                return value
            elif kind == "setting error":
                raise value
            else:
                raise RuntimeError(f"one of {len(processes)} training processes failed:\n{value}")
        ended = [process.exitcode for process in processes if process.exitcode]
        if ended and not receiver.poll():
            raise RuntimeError(f"one of {len(processes)} training processes ended with exit code {ended[0]}")


def _run_process(
    processes: Processes,
    port: int,
    threads: int,
    sender: Connection,
    lock: Any,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; only the calling one reacts to it
    torch.set_num_threads(threads)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(processes.rank),
        "WORLD_SIZE": str(processes.count),
    }

    def put(kind: str, value: Any) -> None:
        with lock:
            # plain pickle copies tensors: in shared memory they would be gone when this process ends
            sender.send_bytes(pickle.dumps((kind, value)))

    def send(value: Any) -> None:
        if processes.rank == 0:
            put("message", value)

    try:
        result = work(processes, send, *arguments)
        if processes.rank == 0:
            put("result", result)
    except SettingError as error:
        put("setting error", error)
    except Exception:
        put("failed", traceback.format_exc())


def _reduce_memmap(array: np.memmap) -> Any:
    """Pickle a memory-mapped array as its position in the file, if it is contiguous there, else by value."""
    mapped = getattr(array, "_mmap", None)
    if mapped is None or array.filename is None or not array.flags.c_contiguous:
        return np.asarray(array).__reduce__()
    begin = np.frombuffer(mapped, np.uint8).__array_interface__["data"][0]
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping in the file
    offset = start + array.__array_interface__["data"][0] - begin
    return np.memmap, (array.filename, array.dtype, "r", offset, array.shape)
