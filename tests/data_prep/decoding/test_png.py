"""PNG files of every legal form give Pillow's values; those that break the rules are refused, at little cost."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_prep.decoding.picture_file import MAX_PARTS
from data_prep.decoding.png import read_png, with_stored_pixels
from data_prep.decoding.raster import decode
from data_prep.errors import DataError
from tests.data_prep.decoding.test_raster import values
from tests.data_prep.picture_files import CHANNELS, KINDS, SIGNATURE, chunk, exif, header, png, scan_lines

LUMINANCE = np.array([0.299, 0.587, 0.114])
ANCILLARY = {
    b"gAMA": struct.pack(">I", 99_999),
    b"sBIT": b"\5",
    b"tIME": bytes(7),
    b"cHRM": bytes(32),
    b"tEXt": b"Comment\0hello",
    b"zTXt": b"Comment\0\0" + zlib.compress(bytes(1000)),
    b"iCCP": b"profile\0\0" + zlib.compress(bytes(1000)),
    b"pHYs": struct.pack(">IIB", 3780, 3780, 1),
    b"quIz": b"unknown, and nobody needs it",
}


def grey_values(samples: np.ndarray, colour: int, depth: int, palette: bytes) -> np.ndarray:
    """Return the grey values that (h, w, channels) samples mean: (h, w) in [0, 255], deep ones over their own range."""
    if colour == 3:
        table = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        return table[samples[..., 0]] @ LUMINANCE
    colours = samples[..., :3] if colour in (2, 6) else samples[..., :1]
    grey = colours @ (LUMINANCE if colour in (2, 6) else np.ones(1))
    if depth == 16:
        grey = (grey - grey.min()) / max(1, np.ptp(grey)) * (2**depth - 1)
    return grey * (255 / (2**depth - 1))


@given(
    kind=st.sampled_from(KINDS),
    interlaced=st.booleans(),
    side=st.integers(8, 24),
    transparent=st.booleans(),
    others=st.lists(st.sampled_from(sorted(ANCILLARY)), unique=True, max_size=4),
    pieces=st.integers(1, 5),
    orientation=st.none() | st.integers(1, 8),
    order=st.sampled_from("<>"),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=300)
def test_every_legal_form_gives_the_values_of_the_standard_and_of_pillow(
    kind: tuple[int, int],
    interlaced: bool,
    side: int,
    transparent: bool,
    others: list[bytes],
    pieces: int,
    orientation: int | None,
    order: str,
    seed: int,
) -> None:
    """Colour type, depth, interlacing, other chunks, split pixels, orientation. The check of what is shown is off."""
    colour, depth = kind
    rng = np.random.default_rng(seed)
    samples = rng.integers(0, 2**depth, (side, side, CHANNELS[colour]))
    palette = rng.bytes(3 * 2**depth) if colour == 3 else b""
    before = chunk(b"PLTE", palette) if palette else b""
    before += b"".join(chunk(name, ANCILLARY[name]) for name in others)
    before += chunk(b"tRNS", bytes({0: 2, 2: 6, 3: 2**depth}[colour])) if transparent and colour < 4 else b""
    before += chunk(b"eXIf", exif(orientation, order, [0x010F, 0x0100])) if orientation else b""
    data = png(header(side, side, depth, colour, interlaced), scan_lines(samples, depth, interlaced), before, pieces)
    shown = values(data, side)

    expected = grey_values(samples, colour, depth, palette)
    turned = ImageOps.exif_transpose(_with_orientation(Image.fromarray(expected.astype(np.float32)), orientation))
    assert np.abs(shown - np.asarray(turned)).max() <= 1.01
    if depth <= 8:
        pillow = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        assert np.abs(shown - np.asarray(pillow) @ LUMINANCE).max() <= 1.01


def _with_orientation(picture: Image.Image, orientation: int | None) -> Image.Image:
    picture.getexif()[0x0112] = orientation or 1
    return picture


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A grey or colour PNG with right checksums that breaks one rule."""
    colour, depth = draw(st.sampled_from(KINDS))
    side = draw(st.integers(16, 24))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    samples = rng.integers(0, 2**depth, (side, side, CHANNELS[colour]))
    lines = scan_lines(samples, depth)
    palette = chunk(b"PLTE", rng.bytes(3 * 2**depth)) if colour == 3 else b""
    first = header(side, side, depth, colour)
    fault = draw(st.sampled_from(range(8)))
    if fault == 0:  # fewer pixels than the header says
        return png(first, lines[: draw(st.integers(0, len(lines) - 1))], palette)
    if fault == 1:
        return png(header(4096, 4096, depth, colour), lines, palette)
    if fault == 2:
        return png(first, lines, palette) + draw(st.binary(min_size=1, max_size=20))
    if fault == 3:  # an animation, whatever its first frame is
        control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0)
        return png(first, lines, palette + chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", control))
    if fault == 4:  # a chunk that must be understood
        return png(first, lines, palette + chunk(b"CgBI", bytes(4)))
    if fault == 5:
        return SIGNATURE + chunk(b"IDAT", zlib.compress(lines)) + first + chunk(b"IEND", b"")
    if fault == 6:
        return SIGNATURE + first + palette + chunk(b"IEND", b"")
    return png(header(side, side, draw(st.sampled_from([3, 5, 7, 9, 32])), colour), lines, palette)


@given(broken())
@settings(max_examples=300)
def test_a_file_that_breaks_a_rule_is_refused_though_its_checksums_are_right(data: bytes) -> None:
    with pytest.raises(DataError):
        values(data, 16)


@given(st.sampled_from([kind for kind in KINDS if kind[0] in (3, 4) or kind[1] < 8]), st.integers(1, 2000))
def test_more_pixels_than_the_header_says_are_not_inflated(kind: tuple[int, int], extra: int) -> None:
    colour, depth = kind
    samples = np.zeros((16, 16, CHANNELS[colour]), np.int64)
    data = png(header(16, 16, depth, colour), scan_lines(samples, depth) + bytes(extra), chunk(b"PLTE", bytes(48)))
    with pytest.raises(DataError, match="bytes of pixels; it holds more"):
        with_stored_pixels(read_png(data).data)


def test_decoders_get_no_text_no_profile_and_no_animation() -> None:
    before = b"".join(chunk(name, content) for name, content in ANCILLARY.items())
    lines = scan_lines(np.arange(256).reshape(16, 16, 1), 8)
    plain = png(header(16, 16), lines, pieces=3)
    assert read_png(png(header(16, 16), lines, before, pieces=3, between=before)).data == plain
    assert read_png(plain).data is plain, "the most frequent kind of file is not copied"


def test_many_empty_chunks_are_refused_by_their_number() -> None:
    lines = scan_lines(np.arange(256).reshape(16, 16, 1), 8)
    few, many = (chunk(b"IDAT", b"") * count for count in (100, MAX_PARTS))
    assert decode(png(header(16, 16), lines, few), 16).tolist() == np.arange(256).reshape(16, 16).tolist()
    with pytest.raises(DataError, match=f"more than {MAX_PARTS} chunks"):
        decode(png(header(16, 16), lines, many), 16)
