"""Whatever a decoder does to its process, it costs one file."""

import gc
import math
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_prep.decoding import sandbox as sandbox_module
from data_prep.decoding.radiograph import VIEWS
from data_prep.decoding.raster import MAX_PIXELS, decode
from data_prep.decoding.sandbox import Sandbox, safe_decode
from data_prep.errors import DataError
from tests.data_prep.decoding.test_dicom import deflated
from tests.data_prep.dicom_files import dicom_file

STORED = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
BEHAVIOUR = """
import os, signal, sys, time
import numpy as np
from data_prep.errors import DataError
from data_prep.decoding.radiograph import Radiograph

SEEN = []

def kills_its_worker(data, size):
    os.kill(os.getppid(), signal.SIGKILL)

def fine(data, size):
    SEEN.append(data)
    print("to nobody", flush=True)
    return Radiograph(np.full((size, size), len(SEEN), np.uint8), "AP", data.decode())

def refuses(data, size):
    raise DataError("it is raining")

def crashes(data, size):
    os.kill(os.getpid(), signal.SIGSEGV)

def leaves(data, size):
    os._exit(3)

def spins(data, size):
    while True:
        pass

def sleeps(data, size):
    time.sleep(1000)

def floods(data, size):
    return bytearray(2**33)

def recurses(data, size):
    return recurses(data, size)

def floods_its_answer(data, size):
    return Radiograph(np.zeros(2**28, np.uint8))

def reaches_for_the_worker(data, size):
    for number in range(3, 64):
        try:
            os.write(number, b"x" * 100)
        except OSError:
            continue

def says(data, size):
    raise DataError(data.decode("utf-8", "surrogatepass"))

def names(data, size):
    return Radiograph(np.zeros((size, size), np.uint8), "PA", data.decode("utf-8", "surrogatepass"))

def writes(data, size):
    with open(data.decode(), "w") as file:
        file.write("where it should not")
        file.flush()
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Half a gigabyte, one second of a processor, three on the clock."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "behaviour.py").write_text(BEHAVIOUR)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        sandbox = Sandbox(memory=2**29, cpu_seconds=1, wall_seconds=3)
        yield sandbox
        sandbox.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("refuses", "it is raining"),
        ("crashes", "the decoder crashed (SIGSEGV)"),
        ("leaves", "the decoder crashed (no response)"),
        ("recurses", "the decoder crashed (no response)"),
        ("spins", "decoding takes more than 1 seconds of processor time"),
        ("sleeps", "decoding takes more than 3 seconds"),
        ("floods", "decoding needs more memory than is allowed"),
    ],
)
def test_what_goes_wrong_costs_one_file_and_is_said(sandbox: Sandbox, name: str, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        sandbox.run(f"behaviour:{name}", b"", 4)
    assert str(refused.value) == reason
    assert sandbox.run("behaviour:fine", b"next", 4).pixels.tolist() == [[1] * 4] * 4, "a file met its predecessor"


def test_a_file_cannot_make_the_decoder_write(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="crashed"):
        sandbox.run("behaviour:writes", str(tmp_path / "trace").encode(), 4)
    assert not (tmp_path / "trace").exists() or (tmp_path / "trace").read_bytes() == b""


def test_a_worker_that_was_killed_is_replaced() -> None:
    own = Sandbox()
    own.run("data_prep.decoding.dicom:decode_dicom", dicom_file(STORED), 16)
    assert own._worker is not None
    os.kill(own._worker.pid, signal.SIGKILL)
    assert own.run("data_prep.decoding.dicom:decode_dicom", dicom_file(STORED), 16).view == "PA"
    own.close()


def test_a_file_that_ends_the_worker_itself_costs_no_more(sandbox: Sandbox) -> None:
    with pytest.raises(DataError, match="ended twice, or answered wrongly, at this file"):
        sandbox.run("behaviour:kills_its_worker", b"", 4)
    assert sandbox.run("behaviour:fine", b"next", 4).patient_id == "next"


@given(st.text(st.characters(categories=None), max_size=3000).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example("\u00e9".encode() * 6000)
@example("\ud800".encode("utf-8", "surrogatepass"))
@settings(max_examples=30)
def test_any_text_of_a_file_is_a_line_or_a_name(sandbox: Sandbox, text: bytes) -> None:
    """Lone surrogates, line ends, escape characters, letters that a limit cuts in two."""
    with pytest.raises(DataError) as refused:
        sandbox.run("behaviour:says", text, 4)
    reason = str(refused.value)
    assert reason
    assert reason.isprintable()
    assert len(reason) <= 500
    reason.encode()
    patient = sandbox.run("behaviour:names", text, 4).patient_id
    patient.encode()
    if len(decoded := text.decode("utf-8", "replace")) <= 256 and decoded.encode() == text:
        assert patient == decoded


@pytest.mark.parametrize("name", ["floods_its_answer", "reaches_for_the_worker"])
def test_a_child_reaches_nobody_but_by_its_answer(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(DataError):
        sandbox.run(f"behaviour:{name}", b"", 4)
    assert sandbox.run("behaviour:fine", b"next", 4).patient_id == "next"


FALSE_WORKER = """
import json, sys
requests, answer = sys.stdin.buffer, bytes.fromhex(sys.argv[1])
requests.read(json.loads(requests.readline())[-1])
sys.stdout.buffer.write(answer)
"""
statuses = st.one_of(st.sampled_from([b"\0", b"\1"]), st.binary(min_size=1, max_size=1))
lengths = st.one_of(st.integers(0, 3000), st.integers(0, 2**64 - 1)).map(lambda length: length.to_bytes(8, "big"))


@given(st.builds(lambda *parts: b"".join(parts), statuses, lengths, st.binary(max_size=3000)) | st.binary(max_size=20))
@settings(max_examples=40)
def test_whatever_a_worker_answers_costs_one_image(answer: bytes) -> None:
    """A radiograph that fits or a reason, never anything else; and no memory for a length that cannot be."""

    def start() -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-S", "-c", FALSE_WORKER, answer.hex()]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    own = Sandbox()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own, "_start_worker", start)
        try:
            found = own.run("any:function", b"data", 4)
        except DataError:
            return
        finally:
            own.close()
    assert found.pixels.shape == (4, 4)
    assert found.view in VIEWS
    found.patient_id.encode()


@given(st.binary(max_size=300))
@example(bytes(9 + 16))
@example(b"\3" + bytes(8 + 16) + b"\xff\xed\xa0\x80")
@example(b"\0" + b"\xff" * 8 + bytes(16))
def test_any_bytes_are_a_radiograph_or_a_reason(content: bytes) -> None:
    try:
        found = sandbox_module._radiograph(content, (4, 4))
    except DataError:
        sides = int.from_bytes(content[1:5]), int.from_bytes(content[5:9])
        assert len(content) < 9 + 16 or content[0] > 3 or math.prod(sides) > MAX_PIXELS
    else:
        assert found.pixels.shape == (4, 4)
        assert found.rows * found.columns <= MAX_PIXELS
        found.patient_id.encode()


def test_a_worker_that_falls_silent_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    own = Sandbox(wall_seconds=0)
    monkeypatch.setattr(sandbox_module, "_SPARE_SECONDS", 1)
    silent = [sys.executable, "-c", "import time; time.sleep(1000)"]
    start = partial(subprocess.Popen, silent, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    monkeypatch.setattr(own, "_start_worker", start)
    with pytest.raises(DataError, match="ended twice"):
        own.run("any:function", bytes(2**20), 4)


def test_pictures_are_the_same_inside_and_outside() -> None:
    ok, png = cv2.imencode(".png", STORED)
    assert ok
    data = png.tobytes()
    for found in (safe_decode(data, 16), safe_decode(data, 16, isolate=True)):
        assert (found.pixels == decode(data, 16)).all()
        assert (found.view, found.patient_id) == ("", "")
    for isolate in (False, True):
        with pytest.raises(DataError, match="truncated: the PNG file ends after 99 bytes"):
            safe_decode(data[:99], 16, isolate=isolate)


def test_the_content_tells_the_format_not_the_name() -> None:
    with pytest.raises(DataError, match="neither a PNG nor a JPEG file"):
        safe_decode(b"GIF89a", 16)
    assert safe_decode(dicom_file(STORED), 16).patient_id == "4711"


def test_a_bomb_of_a_gigabyte_is_refused_in_seconds() -> None:
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(raw.compress(bytes(2**20)) for _ in range(1024)) + raw.flush()
    assert len(bomb) < 2**21
    started = time.perf_counter()
    with pytest.raises(DataError, match="expands to more than 134217728 bytes"):
        safe_decode(deflated(bomb), 16)
    assert time.perf_counter() - started < 30


def test_a_whole_detector_fits_into_the_memory_that_is_allowed() -> None:
    """4096 x 4096 at 16 bits with a sigmoid window: the largest image, on the most expensive path."""
    stored = np.add.outer(np.arange(4096), 15 * np.arange(4096)).astype(np.uint16)
    data = dicom_file(
        stored, WindowCenter=32_768, WindowWidth=60_000, VOILUTFunction="SIGMOID", RescaleSlope=1, RescaleIntercept=0
    )
    assert safe_decode(data, 64).pixels.shape == (64, 64)


def test_the_worker_ends_with_its_owner() -> None:
    code = (
        "import os, signal, data_prep.decoding.sandbox as s; box = s.Sandbox(); box._worker = box._start_worker(); "
        "print(box._worker.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    worker = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout)
    for _ in range(100):
        if not Path(f"/proc/{worker}").exists() or "Z" in Path(f"/proc/{worker}/stat").read_text().split()[2]:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its owner")


def test_nothing_is_left_when_a_sandbox_is_closed() -> None:
    own = Sandbox()
    own.run("data_prep.decoding.dicom:decode_dicom", dicom_file(STORED), 16)
    worker = own._worker
    own.close()
    gc.collect()
    assert worker is not None
    assert worker.returncode == -signal.SIGKILL
