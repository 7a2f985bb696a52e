"""Sandbox for decoding untrusted image files: a crash, too much memory or a hang costs one image, not the run.

A worker process imports the decoders once. For every file it forks a child process, which decodes the file under
limits and exits. So no file can affect the decoding of a later one.

Worker and child process untrusted data. So their output is discarded, the child cannot write to files, and nothing
that they answer is trusted: an answer has a length that is checked before it is read, and no structure that could be
wrong, so that a false one costs one image too.

    request   a line of JSON: [name of the function, size, options, length]; the file
    answer    status, 1 byte; length, 8 bytes; a reason (UTF-8), or the view (1 byte, its place in VIEWS), rows and
              columns of the image in the file (4 bytes each), the pixels ((s, s) uint8, or (c, s, s) with the option
              "channels") and the patient identifier (UTF-8)
"""

import atexit
import functools
import json
import math
import os
import pkgutil
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from data_prep.decoding.picture import decode_read_picture
from data_prep.decoding.radiograph import VIEWS, Radiograph, holds_dicom
from data_prep.decoding.raster import MAX_BYTES, MAX_PIXELS, decode_read, read_picture
from data_prep.errors import DataError

MEMORY_BYTES = 2**30  # for decoding one file: 4096 x 4096 pixels are converted to 64-bit numbers
CPU_SECONDS = 30  # a radiograph takes half a second
WALL_SECONDS = 120  # generous, as other processes may be busy; ends a child that waits for ever
_START_WORKER_SECONDS = 120  # importing the decoders takes half a second, from a slow network disk much longer

_SPARE_SECONDS = 15  # beyond those of a file; then the worker itself hangs
_MAX_TEXT_BYTES = 2048  # of a reason or a patient identifier
_MAX_REASON, _MAX_PATIENT_ID = 500, 256  # characters
_DONE, _REFUSED, _STOPPED = range(3)
_LOST = b"the process that decodes untrusted files ended twice, or answered wrongly, at this file"
_RESPONSE_HEADER = struct.Struct(">BQ")
_FACTS = struct.Struct(">BII")  # of a radiograph: view, rows, columns

Decoder = Callable[[bytes], Radiograph]


class DecodingStoppedError(DataError):
    """A limit or a crash ended the decoding of a file; another try may succeed, as on a machine with less to do."""


def safe_decode(
    data: bytes, size: int, *, isolate: bool = False, chest: bool = False, picture_channels: int | None = None
) -> Radiograph:
    """Decode a PNG, JPEG or DICOM file to a radiograph of (s, s) uint8 with s = `size`.

    DICOM is always decoded in the sandbox. PNG and JPEG are decoded in this process, which is faster, but a crash of
    the decoder ends the process; with `isolate` they are decoded in the sandbox too. With `chest`, a DICOM file
    that does not say what it shows is taken for a radiograph of the chest. With `picture_channels`, the file is a PNG
    or JPEG of anything; see `data_prep.decoding.picture.decode_picture`.

    Raises:
        DataError: the file cannot be decoded; the message gives the reason.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    if picture_channels is not None:
        if isolate:
            function = "data_prep.decoding.sandbox:decode_any_picture"
            return _sandbox(os.getpid()).run(function, data, size, channels=picture_channels)
        return decode_any_picture(data, size, picture_channels)
    if holds_dicom(data):
        return _sandbox(os.getpid()).run("data_prep.decoding.dicom:decode_dicom", data, size, chest=chest)
    if isolate:
        return _sandbox(os.getpid()).run("data_prep.decoding.sandbox:decode_png_or_jpeg", data, size)
    return decode_png_or_jpeg(data, size)


def decode_png_or_jpeg(data: bytes, size: int) -> Radiograph:
    """Decode a PNG or JPEG file, which names neither view nor patient."""
    file, is_png = read_picture(data)
    return Radiograph(decode_read(file, is_png, size), rows=file.height, columns=file.width)


def decode_any_picture(data: bytes, size: int, channels: int) -> Radiograph:
    """Decode a PNG or JPEG file of anything, with one channel or three."""
    file, is_png = read_picture(data)
    pixels = decode_read_picture(file, is_png, size, channels)
    return Radiograph(pixels, rows=file.height, columns=file.width)


@functools.lru_cache(maxsize=1)
def _sandbox(process: int) -> "Sandbox":
    """Return the sandbox of this process; a forked process gets its own."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


class Sandbox:
    """A worker process that decodes one file at a time, each in its own child process."""

    def __init__(
        self, memory: int = MEMORY_BYTES, cpu_seconds: int = CPU_SECONDS, wall_seconds: int = WALL_SECONDS
    ) -> None:
        """Limit each file to `memory` bytes beyond the worker's own, and to the two times in whole seconds."""
        self._limits = (memory, cpu_seconds, wall_seconds)
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def run(self, function: str, data: bytes, size: int, **options: int) -> Radiograph:
        """Decode an image file (its content) to (s, s) with s = `size` by `function` ("module:name") under the limits.

        `options` are passed to the function.

        Raises:
            DataError: the decoder rejected the file.
            DecodingStoppedError: it exceeded a limit or crashed.
            RuntimeError: the worker does not start.
        """
        request = json.dumps([function, size, options, len(data)]).encode() + b"\n"
        shape = _answer_shape(size, options)
        limit = _answer_limit(shape)
        with self._lock:
            status, content = (
                self._request(request, data, limit) or self._request(request, data, limit) or (_STOPPED, _LOST)
            )
        if status != _DONE:
            raise (DataError if status == _REFUSED else DecodingStoppedError)(_one_line(content))
        return _radiograph(content, shape)

    def close(self) -> None:
        """Stop the worker; the next file starts a new one."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None

    def _request(self, request: bytes, data: bytes, limit: int) -> tuple[int, bytes] | None:
        """Send a request; return status and content, of `limit` bytes at most, of the answer; None if there is none."""
        self._worker = worker = self._worker or self._start_worker()
        assert worker.stdin is not None
        assert worker.stdout is not None
        patience = threading.Timer(self._limits[-1] + _SPARE_SECONDS, worker.kill)
        patience.start()
        try:
            worker.stdin.write(request)
            worker.stdin.write(data)
            worker.stdin.flush()
            status, length = _RESPONSE_HEADER.unpack(_read_exactly(worker.stdout, _RESPONSE_HEADER.size))
            if length > limit:
                raise EOFError
            return status, _read_exactly(worker.stdout, length)
        except (EOFError, BrokenPipeError):
            self.close()
            return None
        finally:
            patience.cancel()

    def _start_worker(self) -> "subprocess.Popen[bytes]":
        """Start the worker, in its own session so that Ctrl-C does not reach it; it exits when its input closes."""
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
        ready, _, _ = select.select([worker.stdout], [], [], _START_WORKER_SECONDS)
        if not ready or worker.stdout.read(1) != _READY:
            self._worker = worker
            self.close()
            raise RuntimeError("the process that decodes untrusted files does not start")
        return worker


_READY = b"!"
_MOST_OPEN = 64  # files that a worker has open
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # threads do not survive a fork


def _answer_shape(size: int, options: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape of the pixels that a decoder answers."""
    channels = options.get("channels", 1)
    return (size, size) if channels == 1 else (channels, size, size)


def _answer_limit(shape: tuple[int, ...]) -> int:
    return _FACTS.size + math.prod(shape) + _MAX_TEXT_BYTES


def _radiograph(content: bytes, shape: tuple[int, ...]) -> Radiograph:
    """Read what a decoder answered; whatever bytes these are, they give a radiograph or a DataError."""
    end = _FACTS.size + math.prod(shape)
    if len(content) < end:
        raise DecodingStoppedError(_LOST.decode())
    view, rows, columns = _FACTS.unpack_from(content)
    if view >= len(VIEWS) or rows * columns > MAX_PIXELS:
        raise DecodingStoppedError(_LOST.decode())
    pixels = np.frombuffer(content, np.uint8, math.prod(shape), offset=_FACTS.size).reshape(shape)
    return Radiograph(pixels, VIEWS[view], content[end:].decode("utf-8", "backslashreplace"), rows, columns)


def _one_line(reason: bytes) -> str:
    """Return a reason as one line that can be printed."""
    text = "".join(letter if letter.isprintable() else " " for letter in reason.decode("utf-8", "replace"))
    return " ".join(text.split())[:_MAX_REASON] or "refused without a reason"


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content


def _serve(*limits: int) -> None:
    """Respond to requests until the input ends."""
    requests = os.fdopen(os.dup(0), "rb")
    responses = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    pkgutil.resolve_name("data_prep.decoding.dicom:decode_dicom")  # imports it once, before the first fork
    responses.write(_READY)
    responses.flush()
    while line := requests.readline():
        name, size, options, length = json.loads(line)
        data = _read_exactly(requests, length)
        decoder = functools.partial(pkgutil.resolve_name(name), size=size, **options)
        status, content = _run_in_child(decoder, data, _answer_limit(_answer_shape(size, options)), *limits)
        responses.write(_RESPONSE_HEADER.pack(status, len(content)) + content)
        responses.flush()


def _run_in_child(
    decoder: Decoder, data: bytes, most_bytes: int, memory: int, cpu_seconds: int, wall_seconds: int
) -> tuple[int, bytes]:
    """Run `decoder` in a child process under limits; return the status and content, `most_bytes`, of its response."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.closerange(3, writing)  # what the worker has open is not for the child
            os.closerange(writing + 1, _MOST_OPEN)
            _set_limits(memory, cpu_seconds, wall_seconds)
            status, content = _respond(decoder, data)
            with os.fdopen(writing, "wb") as response:
                response.write(bytes([status]) + content)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as response:
        content = response.read(1 + most_bytes)
    _, ended = os.waitpid(child, 0)
    number = os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0
    if number == signal.SIGXCPU:
        return _STOPPED, f"decoding takes more than {cpu_seconds} seconds of processor time".encode()
    if number == signal.SIGALRM:
        return _STOPPED, f"decoding takes more than {wall_seconds} seconds".encode()
    if number or not content:
        how = signal.Signals(number).name if number else "no response"
        return _STOPPED, f"the decoder crashed ({how})".encode()
    return content[0], content[1:]


def _set_limits(memory: int, cpu_seconds: int, wall_seconds: int) -> None:
    """Set the limits; exceeding a time limit raises its own signal, which distinguishes it from a crash."""
    for number in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
    most = used_memory() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def used_memory() -> int:
    """Return the address space of this process in bytes; 4 GiB where the system does not report it."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except OSError:
        return 2**32
    return pages * resource.getpagesize()


def _respond(decoder: Decoder, data: bytes) -> tuple[int, bytes]:
    try:
        found = decoder(data)
        patient = found.patient_id[:_MAX_PATIENT_ID].encode("utf-8", "backslashreplace")
        facts = _FACTS.pack(VIEWS.index(found.view), found.rows, found.columns)
        return _DONE, facts + found.pixels.tobytes() + patient
    except DataError as error:
        return _REFUSED, str(error).encode("utf-8", "backslashreplace")[:_MAX_TEXT_BYTES]
    except MemoryError:
        return _STOPPED, b"decoding needs more memory than is allowed"


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
