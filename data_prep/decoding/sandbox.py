"""Decoding of files that nobody vouches for, where a crash, a flood of memory or a hang costs one image.

A worker process imports the decoders once; for every file it forks a child, which decodes under limits and is
gone. So no file meets what an earlier one left behind: whether it is decoded does not depend on its neighbours.

Worker and child hold what comes from outside, so nothing that they print goes anywhere, they can write no file,
and their answer is bytes, never a pickle.

    request   function's name, a line; side and length, 8 bytes each; the file
    answer    status, 1 byte; length, 8 bytes; the reason (UTF-8), or a line of JSON and then (s, s) uint8
"""

import atexit
import functools
import importlib
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np

from data_prep.decoding.radiograph import Radiograph, is_dicom
from data_prep.decoding.raster import MAX_BYTES, decode
from data_prep.errors import DataError

MEMORY = 2**30  # bytes that decoding may take: 4096 x 4096 pixels pass through 64-bit numbers
CPU_SECONDS = 30  # a radiograph takes half a second
WALL_SECONDS = 120  # on a machine with other work to do; ends a child that waits for ever
_START_SECONDS = 120  # importing the decoders takes half a second, from a cold network disk many

_MAX_REASON = 2048  # bytes
_DONE, _REFUSED, _DIED = range(3)
_KILLED = b"the process that decodes untrusted files was killed twice over this one"
_NUMBERS = struct.Struct(">QQ")
_HEAD = struct.Struct(">BQ")

Decoder = Callable[[bytes, int], Radiograph]


def safe_decode(data: bytes, size: int, *, isolate: bool = False) -> Radiograph:
    """Decode a PNG, JPEG or DICOM file to a radiograph of (s, s) uint8 with s = `size`.

    DICOM is always decoded in the sandbox. PNG and JPEG are decoded here, faster, where a crash of the decoder
    takes the process along; or, with `isolate`, in the sandbox too.

    Raises DataError with the reason.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    if is_dicom(data):
        return _sandbox(os.getpid()).run("data_prep.decoding.dicom:decode_dicom", data, size)
    if isolate:
        return _sandbox(os.getpid()).run("data_prep.decoding.sandbox:decode_picture", data, size)
    return decode_picture(data, size)


def decode_picture(data: bytes, size: int) -> Radiograph:
    """Decode a PNG or JPEG file, which says nothing of view or patient."""
    return Radiograph(decode(data, size))


@functools.lru_cache(maxsize=1)
def _sandbox(process: int) -> "Sandbox":
    """One for each process: a fork must not share its parent's."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


class Sandbox:
    """A worker process that decodes one file at a time, each in a child of its own."""

    def __init__(self, memory: int = MEMORY, cpu_seconds: int = CPU_SECONDS, wall_seconds: int = WALL_SECONDS) -> None:
        """Allow each file `memory` bytes beyond what the worker has, and the two times in whole seconds."""
        self._limits = (memory, cpu_seconds, wall_seconds)
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self, function: str, data: bytes, size: int) -> Radiograph:
        """Call `function` ("module:name"; a `Decoder`) on `data` and `size` under the limits.

        Raises DataError with the function's own reason, or saying which limit was broken or how it crashed.
        RuntimeError if the worker cannot be started.
        """
        request = function.encode() + b"\n" + _NUMBERS.pack(size, len(data))
        with self._lock:
            status, content = self._ask(request, data) or self._ask(request, data) or (_DIED, _KILLED)
        if status == _DONE:
            line, _, pixels = content.partition(b"\n")
            return Radiograph(np.frombuffer(pixels, np.uint8).reshape(size, size), **json.loads(line))
        raise DataError(content.decode())

    def close(self) -> None:
        """End the worker; the next file starts another."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None

    def _ask(self, request: bytes, data: bytes) -> tuple[int, bytes] | None:
        """Return status and answer, or None if the worker itself was killed meanwhile."""
        worker = self._worker or self._start()
        self._worker = worker
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(request)
            worker.stdin.write(data)
            worker.stdin.flush()
            status, length = _HEAD.unpack(_receive(worker.stdout, _HEAD.size))
            return status, _receive(worker.stdout, length)
        except (EOFError, BrokenPipeError):
            self.close()
            return None

    def _start(self) -> "subprocess.Popen[bytes]":
        """The worker has a session of its own: Ctrl-C is for its owner, whose end closes its input."""
        limits = [str(limit) for limit in self._limits]
        worker = subprocess.Popen(
            [sys.executable, "-m", "data_prep.decoding.sandbox", *limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **_ONE_THREAD},
        )
        assert worker.stdout is not None
        ready, _, _ = select.select([worker.stdout], [], [], _START_SECONDS)
        if not ready or worker.stdout.read(1) != _READY:
            worker.kill()
            worker.communicate()
            raise RuntimeError("the process that decodes untrusted files does not start")
        return worker


_READY = b"!"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads do not survive the fork


def _receive(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content


def _serve(memory: int, cpu_seconds: int, wall_seconds: int) -> None:
    """Answer requests until the input ends."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    _load("data_prep.decoding.dicom:decode_dicom")
    answers.write(_READY)
    answers.flush()
    while name := requests.readline():
        size, length = _NUMBERS.unpack(_receive(requests, _NUMBERS.size))
        data = _receive(requests, length)
        status, content = _in_child(_load(name.decode().strip()), data, size, memory, cpu_seconds, wall_seconds)
        answers.write(_HEAD.pack(status, len(content)) + content)
        answers.flush()


@functools.cache
def _load(function: str) -> Decoder:
    module, _, name = function.partition(":")
    decoder: Decoder = getattr(importlib.import_module(module), name)
    return decoder


def _in_child(
    decoder: Decoder, data: bytes, size: int, memory: int, cpu_seconds: int, wall_seconds: int
) -> tuple[int, bytes]:
    """Return status and answer of `decoder` run in a child under limits."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _limit(memory, cpu_seconds, wall_seconds)
            status, content = _answer(decoder, data, size)
            with os.fdopen(writing, "wb") as answer:
                answer.write(bytes([status]) + content)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = answer.read(size * size + 2 * _MAX_REASON)
    _, ended = os.waitpid(child, 0)
    number = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
    if number == signal.SIGXCPU:
        return _DIED, f"decoding takes more than {cpu_seconds} seconds of a processor".encode()
    if number == signal.SIGALRM:
        return _DIED, f"decoding takes more than {wall_seconds} seconds".encode()
    if number or not content:
        how = signal.Signals(number).name if number else "no answer"
        return _DIED, f"the decoder crashed ({how})".encode()
    return content[0], content[1:]


def _limit(memory: int, cpu_seconds: int, wall_seconds: int) -> None:
    """A soft limit of time ends with its own signal, which tells it from a crash."""
    for number in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
    allowed = _address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))


def _address_space() -> int:
    """Bytes of address space that this process has; where that is not told, none counts as taken."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 2**32


def _answer(decoder: Decoder, data: bytes, size: int) -> tuple[int, bytes]:
    try:
        found = decoder(data, size)
        facts = json.dumps({"view": found.view, "patient_id": found.patient_id[:256]})
        return _DONE, facts.encode() + b"\n" + found.pixels.tobytes()
    except DataError as error:
        return _REFUSED, str(error).encode()[:_MAX_REASON]
    except MemoryError:
        return _REFUSED, b"decoding needs more memory than is allowed"


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
