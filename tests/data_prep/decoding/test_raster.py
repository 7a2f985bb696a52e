"""Pictures of every kind to square grey, and damaged ones to a reason."""

import io
import struct
import zlib
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from data_prep.decoding import raster as decode_module
from data_prep.decoding.png import read_png
from data_prep.decoding.raster import decode
from data_prep.errors import DataError

RNG = np.random.default_rng(0)
SMOOTH = cv2.resize(RNG.integers(0, 256, (12, 12), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)


def encode(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def values(data: bytes, size: int) -> np.ndarray:
    """What comes out, be it a radiograph or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_module, "check_picture", lambda pixels: None)
        return decode(data, size)


def reference(data: bytes, size: int) -> np.ndarray:
    """Pillow's own decoding and luminance of a square picture, then the area average as explicit matrices."""
    grey = np.asarray(Image.open(io.BytesIO(data)).convert("L"), dtype=float)
    edges = np.arange(size + 1) * len(grey) / size
    pixels = np.arange(len(grey))
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.maximum(overlap, 0) * size / len(grey)
    return weights @ grey @ weights.T


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def pictures() -> dict[str, bytes]:
    grey = Image.fromarray(SMOOTH)
    colour = Image.fromarray(np.stack([SMOOTH, SMOOTH[::-1], SMOOTH.T], axis=-1))
    return {
        "grey PNG": encode(grey),
        "RGB PNG": encode(colour),
        "RGBA PNG": encode(colour.convert("RGBA")),
        "grey and alpha PNG": encode(grey.convert("LA")),
        "palette PNG": encode(colour.quantize(64)),
        "one-bit PNG": encode(grey.convert("1")),
        "grey JPEG": encode(grey, "JPEG"),
        "RGB JPEG": encode(colour, "JPEG"),
        "progressive JPEG": encode(colour, "JPEG", progressive=True),
    }


@pytest.mark.parametrize("size", [96, 32, 31])
@pytest.mark.parametrize("kind", pictures())
def test_every_kind_of_file_agrees_with_pillow_within_a_grey_level(kind: str, size: int) -> None:
    data = pictures()[kind]
    picture = values(data, size)
    assert picture.shape == (size, size)
    assert picture.dtype == np.uint8
    assert difference(picture, reference(data, size)) < 1


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(range(5)), st.randoms(use_true_random=False))
def test_grey_pixels_are_those_of_opencv_to_the_bit(width: int, height: int, kind: int, random: Random) -> None:
    """Whatever filter each row of the file uses (PNG, section 9); cv2 and the decoder in use share no code."""
    lines = bytes(random.randrange(256) for _ in range(height * (width + 1)))
    rows = b"".join(
        bytes([kind if y else 0]) + lines[y * (width + 1) + 1 : (y + 1) * (width + 1)] for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(decode_module._decode_png(read_png(data)), expected)


def test_the_real_radiographs_have_opencvs_pixels_to_the_bit(shared_data: Path) -> None:
    files = [file.read_bytes() for file in sorted((shared_data / "nih" / "images_1024").glob("*.png"))[::6]]
    assert len(files) > 30
    for data in files:
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        expected = expected if expected.ndim == 2 else cv2.cvtColor(expected, cv2.COLOR_BGRA2GRAY)
        assert np.array_equal(decode_module._decode_png(read_png(data)), expected)


@given(
    st.integers(0, 65_535), st.integers(256, 65_535), st.sampled_from([cv2.COLOR_GRAY2BGR, None]), st.integers(0, 99)
)
@settings(max_examples=50)
def test_deep_pictures_are_shown_over_their_own_range(low: int, span: int, colours: int | None, seed: int) -> None:
    """Whatever bits their values use: 12 in the lower part of 16 are as bright as 16."""
    picture = cv2.resize(np.random.default_rng(seed).random((6, 6)), (40, 40), interpolation=cv2.INTER_CUBIC)
    deep = cv2.normalize(picture, None, low, min(low + span, 65_535), cv2.NORM_MINMAX).astype(np.uint16)
    ok, data = cv2.imencode(".png", deep if colours is None else cv2.cvtColor(deep, colours))
    assert ok
    shares = (deep - np.double(deep.min())) / max(1, np.ptp(deep))
    assert np.abs(values(data.tobytes(), 40) - 255 * shares).max() < 1


def test_eight_bit_values_are_kept_however_few_are_used() -> None:
    dark = SMOOTH // 3 + 7
    assert np.array_equal(decode(encode(Image.fromarray(dark)), 96), dark)


def test_few_bits_in_deep_files_come_out_with_their_contrast(shared_data: Path) -> None:
    files = sorted((shared_data / "cases" / "01-png-12-in-16" / "in").glob("*.png"))
    assert len(files) == 18
    for file in files:
        pixels = decode(file.read_bytes(), 64)
        assert pixels.min() <= 2, file.name
        assert pixels.max() >= 253, file.name


@given(st.integers(1, 8), st.integers(1, 8), st.sampled_from(["PNG", "JPEG"]), st.integers(8, 40))
def test_oblong_pixels_are_shown_as_tall_as_they_are(across: int, down: int, kind: str, size: int) -> None:
    """The file's densities are pixels per unit across and down, for both kinds of file."""
    assume(max(across / down, down / across) != 4)  # which rounding may put on either side
    data = encode(Image.fromarray(np.full((48, 48), 255, np.uint8)), kind, dpi=(72 * across, 72 * down))
    if not 1 / 4 <= across / down <= 4:
        with pytest.raises(DataError, match="times as tall as wide; the limit is 4 either way"):
            values(data, size)
        return
    shown = values(data, size) > 127
    assert abs(shown.any(axis=1).sum() - size * min(1, across / down)) <= 1
    assert abs(shown.any(axis=0).sum() - size * min(1, down / across)) <= 1


def test_transparency_is_dropped_not_composed() -> None:
    rgba = np.stack([SMOOTH] * 3 + [np.zeros_like(SMOOTH)], axis=-1)
    assert difference(decode(encode(Image.fromarray(rgba)), 96), SMOOTH) < 1


def test_reduction_averages_so_that_fine_stripes_do_not_alias() -> None:
    stripes = np.zeros((96, 96), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(values(encode(Image.fromarray(stripes)), 24)) <= 1


@given(st.integers(1, 80), st.integers(1, 80), st.integers(8, 40))
@settings(max_examples=50)
def test_a_picture_keeps_its_proportions_between_black_bars(width: int, height: int, size: int) -> None:
    white = np.full((height, width), 255, dtype=np.uint8)
    picture = values(encode(Image.fromarray(white)), size)
    rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
    assert max(len(rows), len(columns)) == size
    assert abs(len(columns) - max(1, size * width / max(width, height))) <= 0.5
    assert abs(len(rows) - max(1, size * height / max(width, height))) <= 0.5
    for filled in (rows, columns):
        assert abs(filled[0] - (size - 1 - filled[-1])) <= 1  # in the middle
    assert (picture[np.ix_(rows, columns)] == 255).all()


@pytest.mark.parametrize("kind", pictures())
def test_a_file_cut_anywhere_is_refused_with_a_reason(kind: str) -> None:
    data = pictures()[kind]
    for end in [*range(40), *range(40, len(data), 97), len(data) - 1]:
        with pytest.raises(DataError, match=r"truncated|neither|empty"):
            decode(data[:end], 32)


@given(st.data())
@settings(max_examples=200)
def test_one_flipped_bit_anywhere_in_a_png_is_noticed(data: st.DataObject) -> None:
    png = bytearray(encode(Image.fromarray(SMOOTH)))
    position = data.draw(st.integers(0, len(png) - 1))
    png[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DataError):
        decode(bytes(png), 32)


@given(st.binary(max_size=300), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0"]))
def test_arbitrary_bytes_end_in_a_data_error(noise: bytes, start: bytes) -> None:
    with pytest.raises(DataError):
        decode(start + noise, 16)


def test_arbitrary_changes_to_a_jpeg_end_in_pixels_or_a_data_error() -> None:
    jpeg = pictures()["RGB JPEG"]
    for position in range(0, len(jpeg), 5):
        damaged = bytearray(jpeg)
        damaged[position] ^= 0xA5
        try:
            assert decode(bytes(damaged), 16).shape == (16, 16)
        except DataError:
            continue


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_huge_picture_is_refused_from_its_header() -> None:
    with pytest.raises(DataError, match="60000 x 60000 pixels; the limit is 16777216"):
        decode(png(60_000, 60_000, zlib.compress(b"")), 64)


def test_the_limit_itself_is_still_read() -> None:
    side = 4096
    blank = zlib.compress(bytes(side * (side + 1)), 1)
    assert values(png(side, side, blank), 64).shape == (64, 64)
    with pytest.raises(DataError, match="4096 x 4097"):
        decode(png(side, side + 1, blank), 64)


def test_a_huge_file_an_empty_file_and_an_empty_picture_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="empty file"):
        decode(b"", 64)
    with pytest.raises(DataError, match="0 x 5 pixels"):
        decode(png(0, 5, zlib.compress(b"")), 64)
    monkeypatch.setattr(decode_module, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="file of 101 bytes; the limit is 100"):
        decode(bytes(101), 64)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "WEBP"])
def test_other_formats_are_named_as_unread_even_if_a_decoder_could(kind: str) -> None:
    with pytest.raises(DataError, match="neither a PNG nor a JPEG file"):
        decode(encode(Image.fromarray(SMOOTH), kind), 32)


def test_real_radiographs_agree_with_pillow(shared_data: Path) -> None:
    files = sorted((shared_data / "nih" / "images_1024").glob("*.png"))
    modes = {file: Image.open(file).mode for file in files}
    chosen = files[:8] + [file for file in files if modes[file] != "L"]
    assert any(modes[file] == "RGBA" for file in chosen)
    for file in chosen:
        data = file.read_bytes()
        pillow = Image.open(file).convert("L").resize((256, 256), Image.Resampling.BOX)
        assert difference(decode(data, 256), np.asarray(pillow)) < 1
