"""Whatever a decoder does to its process, it costs one file."""

import gc
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.decoding.raster import decode
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
