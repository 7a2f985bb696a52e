"""Files that break the decoder, take its memory or never end cost themselves, not the run."""

import errno
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.decoding import sandbox
from data_prep.store import decode_items
from data_prep.store.decode_items import DecodedItem

TROUBLE = """
import os, signal
import kornia_rs

decode = kornia_rs.io.decode_image_png_u8

def decode_image_png_u8(data, shape, mode):
    if b"tIMECRASHES" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"tIMEENDLESS" in data:
        while True:
            pass
    if b"tIMEHUNGRY!" in data:
        bytes(2**33)
    return decode(data, shape, mode)

kornia_rs.io.decode_image_png_u8 = decode_image_png_u8

import data_prep.decoding.sandbox as sandbox
sandbox.CPU_SECONDS = 1
"""
REASONS = {
    b"CRASHES": "the decoder crashed (SIGSEGV)",
    b"ENDLESS": "decoding takes more than 1 seconds of processor time",
    b"HUNGRY!": "decoding needs more memory than is allowed",
}


@pytest.fixture
def troubled_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every process that is started a decoder that obeys marks in files, and one second for each file."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(TROUBLE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(decode_items, "_POOL_PAYS", 0)
    own = sandbox.Sandbox(cpu_seconds=1)
    monkeypatch.setattr(sandbox, "_sandbox", lambda process: own)


def pictures(count: int, mark: bytes, every: int) -> list[tuple[str, bytes]]:
    """Return that many PNGs; `every` so manieth has the mark."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        ok, data = cv2.imencode(".png", rng.integers(0, 256, (16, 16), np.uint8))
        assert ok
        png = data.tobytes()
        files.append((f"{number}.png", marked(png, mark) if number % every == every - 1 else png))
    return files


def marked(png: bytes, mark: bytes) -> bytes:
    """Return the picture with a mark in a chunk that decoders get."""
    chunk = b"tIME" + mark
    return png[:33] + struct.pack(">I", len(mark)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


@pytest.mark.slow
@pytest.mark.parametrize(("mark", "count"), [(b"CRASHES", 400), (b"HUNGRY!", 400), (b"ENDLESS", 50)])
def test_every_tenth_file_breaks_its_worker_and_each_is_named(troubled_decoder: None, mark: bytes, count: int) -> None:
    found = list(decode_items.decode_items(pictures(count, mark, 10), 16, workers=2))
    assert [name for name, _ in found] == [f"{number}.png" for number in range(count)]
    for number, (_, item) in enumerate(found):
        assert item.reason == (REASONS[mark] if number % 10 == 9 else ""), number


def test_what_is_no_file_gets_a_reason_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    reasons = {
        "pipe.png": "cannot be read (it is a pipe, not a regular file)",
        "folder.png": "cannot be read (it is a folder, not a regular file)",
        "loop.png": f"cannot be read ({os.strerror(errno.ELOOP)})",
        "none.png": f"cannot be read ({os.strerror(errno.ENOENT)})",
    }
    for name, reason in reasons.items():
        assert decode_items.decode_item(name, tmp_path / name, 16, isolate=True) == DecodedItem(None, reason)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)
    item = decode_items.decode_item("huge.png", tmp_path / "huge.png", 16, isolate=True)
    assert item.reason == "cannot be read (larger than 134217728 bytes, the limit)"
