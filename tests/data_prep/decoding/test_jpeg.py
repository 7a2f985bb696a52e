"""JPEG files give Pillow's values as viewers show them; what is missing or too much in one is refused."""

import io
import re
import struct

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_prep.decoding.jpeg import MAX_SCANS, read_jpeg
from data_prep.decoding.picture_file import MAX_PARTS
from data_prep.decoding.raster import decode
from data_prep.errors import DataError
from tests.data_prep.picture_files import exif, jpeg, jpeg_segment

SIDE = 96
SCAN = re.compile(rb"\xff\xda")


def picture(seed: int, coloured: bool) -> Image.Image:
    """Return something smooth with a little noise."""
    rng = np.random.default_rng(seed)
    planes = [cv2.resize(rng.integers(0, 256, (6, 6), np.uint8), (SIDE, SIDE), interpolation=3) for _ in range(3)]
    planes = [np.clip(plane + rng.normal(0, 3, plane.shape), 0, 255).astype(np.uint8) for plane in planes]
    return Image.fromarray(np.dstack(planes) if coloured else planes[0])


pictures = st.builds(picture, st.integers(0, 2**32 - 1), st.booleans())
colours = st.sampled_from([{"subsampling": 0, "keep_rgb": True}, *({"subsampling": kind} for kind in range(3))])
encodings = st.builds(
    dict,
    colours,
    quality=st.integers(50, 97),
    progressive=st.booleans(),
    optimize=st.booleans(),
    restart_marker_blocks=st.sampled_from([0, 1, 7]),
)


def with_notes(data: bytes, orientation: int | None, order: str, comments: int) -> bytes:
    """Return the file with an orientation among notes that no decoder needs."""
    notes = jpeg_segment(0xFE, b"a comment") * comments + jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes(100))
    if orientation:
        notes += jpeg_segment(0xE1, b"Exif\0\0" + exif(orientation, order, [0x0110]))
    return data[:2] + notes + data[2:]


@given(pictures, encodings, st.none() | st.integers(1, 8), st.sampled_from("<>"), st.integers(0, 3))
@settings(max_examples=200)
def test_every_legal_form_gives_pillows_values(
    original: Image.Image, encoding: dict[str, int], orientation: int | None, order: str, comments: int
) -> None:
    data = with_notes(jpeg(original, **encoding), orientation, order, comments)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L")
    different = np.abs(decode(data, SIDE) - np.asarray(shown, float))
    assert different.mean() < 1, "luminance by way of RGB is clipped where colours are strong"
    assert np.median(different) <= 1


@given(pictures, encodings, st.integers(0, 19))
@settings(max_examples=300)
def test_a_scan_cut_anywhere_is_refused_though_an_end_marker_was_added(
    original: Image.Image, encoding: dict[str, int], twentieth: int
) -> None:
    data = jpeg(original, **encoding)
    start = next(SCAN.finditer(data)).start() + 14
    cut = data[: start + (len(data) - start) * twentieth // 20]
    with pytest.raises(DataError):
        decode(cut + b"\xff\xd9", SIDE)


@given(pictures, st.integers(1, 20), st.booleans())
def test_a_progressive_file_cut_between_two_scans_is_refused(
    original: Image.Image, number: int, restarting: bool
) -> None:
    data = jpeg(original, progressive=True, restart_marker_rows=int(restarting))
    tables_and_scans = [found.start() for found in re.finditer(rb"\xff[\xda\xc4]", data)][1:]
    with pytest.raises(DataError, match="truncated: the last scans of the JPEG file are missing"):
        decode(data[: tables_and_scans[number % len(tables_and_scans)]] + b"\xff\xd9", SIDE)


@given(pictures, encodings, st.integers(1, 4096), st.integers(1, 4096))
@settings(max_examples=200)
def test_a_header_of_another_size_than_the_pixels_is_refused(
    original: Image.Image, encoding: dict[str, int], width: int, height: int
) -> None:
    blocks = [-(-side // 16) for side in (width, height)]
    assume(blocks != [SIDE // 16, SIDE // 16])  # within a block nothing tells them apart
    data = jpeg(original, **encoding)
    at = re.search(rb"\xff[\xc0-\xc2]\0[\x0b\x11]\x08", data).end()  # type: ignore[union-attr]
    with pytest.raises(DataError):
        decode(data[:at] + struct.pack(">HH", height, width) + data[at + 4 :], SIDE)


@pytest.mark.parametrize("end", [b"", b"\0", b"anything", b"\xff\xd9"])
def test_what_follows_the_end_marker_is_dropped(end: bytes) -> None:
    data = jpeg(picture(0, False))
    assert read_jpeg(data + end).data == data
    assert read_jpeg(data).data is data, "the most frequent kind of file is not copied"


def test_decoders_get_no_notes() -> None:
    data = jpeg(picture(0, True), keep_rgb=True)
    assert read_jpeg(with_notes(data, 6, "<", 3)).data == data
    assert b"Adobe" in data, "which says that the colours are RGB"


def test_kinds_that_would_be_shown_wrongly_are_refused() -> None:
    with pytest.raises(DataError, match="8 bits and 4 colours; 8 bits, grey or RGB, are read"):
        decode(jpeg(picture(0, True).convert("CMYK")), 16)
    data = jpeg(picture(0, False))
    at = data.index(b"\xff\xc0")
    with pytest.raises(DataError, match="12 bits and 1 colours"):
        decode(data[: at + 4] + b"\x0c" + data[at + 5 :], 16)
    for marker in (0xC3, 0xC5, 0xC9, 0xCA, 0xCC, 0xD8, 0xDC, 0xD0, 0x01):  # lossless, hierarchical, arithmetic codes
        with pytest.raises(DataError, match=f"of a kind that is not read \\(marker {marker:X}\\)"):
            decode(data[: at + 1] + bytes([marker]) + data[at + 2 :], 16)


@given(st.integers(1, 2000))
def test_scans_are_counted_before_they_are_decoded(extra: int) -> None:
    data = jpeg(picture(1, False), progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    if (scans := len(SCAN.findall(data)) + extra) > MAX_SCANS:
        with pytest.raises(DataError, match=f"a JPEG of {scans} scans; the limit is {MAX_SCANS}"):
            decode(data[:-2] + scan * extra + data[-2:], 16)
    else:
        with pytest.raises(DataError, match="damaged"):  # each bit is refined once
            decode(data[:-2] + scan * extra + data[-2:], 16)


def test_segments_are_counted() -> None:
    data = jpeg(picture(0, False))
    with pytest.raises(DataError, match=f"more than {MAX_PARTS} segments"):
        decode(data[:2] + jpeg_segment(0xFE, b"") * MAX_PARTS + data[2:], 16)
    assert read_jpeg(data[:2] + b"\xff" * 2**22 + data[2:]).data == data, "fill bytes are passed at once"
