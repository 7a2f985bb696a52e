"""Pictures of anything to square colour or grey, and damaged ones to a reason."""

import io
from random import Random

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_prep.decoding.picture import decode_picture
from data_prep.decoding.sandbox import safe_decode
from data_prep.errors import DataError
from tests.data_prep.dicom_files import dicom_file
from tests.data_prep.hostile_pictures import hostile_picture
from tests.data_prep.picture_files import exif, jpeg, jpeg_segment

RNG = np.random.default_rng(0)
SMOOTH = cv2.resize(RNG.integers(0, 256, (12, 12, 3), dtype=np.uint8), (96, 96), interpolation=cv2.INTER_CUBIC)


def encode(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def pictures(pixels: np.ndarray = SMOOTH) -> dict[str, bytes]:
    colour = Image.fromarray(pixels)
    grey = colour.convert("L")
    return {
        "grey PNG": encode(grey),
        "RGB PNG": encode(colour),
        "RGBA PNG": encode(colour.convert("RGBA")),
        "grey and alpha PNG": encode(grey.convert("LA")),
        "palette PNG": encode(colour.quantize(64)),
        "one-bit PNG": encode(grey.convert("1")),
        "grey JPEG": encode(grey, "JPEG"),
        "RGB JPEG": encode(colour, "JPEG"),
        "progressive JPEG": encode(colour, "JPEG", progressive=True, subsampling=0),
    }


def reference(data: bytes, size: int) -> np.ndarray:
    """Pillow's own decoding, the square in the middle, and the area average as explicit matrices."""
    colour = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
    side = min(colour.shape[:2])
    top, left = (colour.shape[0] - side) // 2, (colour.shape[1] - side) // 2
    square = colour[top : top + side, left : left + side]
    edges, at = np.arange(size + 1) * side / size, np.arange(side)
    overlap = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    weights = np.maximum(overlap, 0) * size / side
    return np.einsum("ih,hwc,jw->cij", weights, square, weights)


@pytest.mark.parametrize("size", [96, 32, 31])
@pytest.mark.parametrize("shape", [(96, 96), (70, 96), (96, 43)])
@pytest.mark.parametrize("kind", pictures())
def test_every_kind_of_file_agrees_with_pillow_within_a_level(kind: str, shape: tuple[int, int], size: int) -> None:
    data = pictures(np.ascontiguousarray(SMOOTH[: shape[0], : shape[1]]))[kind]
    if size > min(shape):
        size = min(shape)
    found = decode_picture(data, size, 3)
    assert (found.shape, found.dtype) == ((3, size, size), np.uint8)
    assert np.abs(found - reference(data, size)).mean() < 1


@given(st.integers(8, 40), st.integers(0, 2**32))
def test_a_square_png_of_the_wanted_size_is_kept_to_the_bit(side: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    found = decode_picture(encode(Image.fromarray(pixels)), side, 3)
    assert np.array_equal(found, pixels.transpose(2, 0, 1))
    grey = pixels[..., 0]
    assert np.array_equal(decode_picture(encode(Image.fromarray(grey)), side, 1), grey)
    assert np.array_equal(decode_picture(encode(Image.fromarray(grey)), side, 3), np.stack([grey] * 3))


def test_colour_in_one_channel_is_luminance() -> None:
    data = encode(Image.fromarray(SMOOTH))
    grey = np.asarray(Image.fromarray(SMOOTH).convert("L"), dtype=int)
    assert np.abs(decode_picture(data, 96, 1) - grey).max() <= 1


def test_sixteen_bits_are_brought_to_eight_over_their_whole_range() -> None:
    """A dark picture stays dark: unlike a radiograph's, its range is not stretched."""
    deep = RNG.integers(0, 9000, (20, 20), dtype=np.uint16)
    found = decode_picture(encode(Image.fromarray(deep)), 20, 1)
    assert np.abs(found - deep / 257).max() <= 0.51


def test_a_picture_that_is_not_square_is_cut_at_both_ends_not_padded() -> None:
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 30:70] = SMOOTH[:40, :40]
    for turned in (pixels, pixels.transpose(1, 0, 2)):
        found = decode_picture(encode(Image.fromarray(np.ascontiguousarray(turned))), 40, 3)
        middle = SMOOTH[:40, :40] if turned is pixels else SMOOTH[:40, :40].transpose(1, 0, 2)
        assert np.array_equal(found, middle.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_exif_is_applied_as_pillow_does(orientation: int) -> None:
    note = jpeg_segment(0xE1, b"Exif\0\0" + exif(orientation, "<"))
    data = jpeg(Image.fromarray(np.ascontiguousarray(SMOOTH[:60])), quality=95)
    data = data[:2] + note + data[2:]
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    wanted = decode_picture(encode(Image.fromarray(upright)), 30, 3)
    assert np.abs(decode_picture(data, 30, 3).astype(int) - wanted).max() <= 1


def test_pixels_twice_as_tall_as_wide_are_drawn_so() -> None:
    flat, wanted = Image.fromarray(np.ascontiguousarray(SMOOTH[::2])), reference(encode(Image.fromarray(SMOOTH)), 48)
    assert np.abs(decode_picture(encode(flat, dpi=(200, 100)), 48, 3) - wanted).mean() < 6
    assert np.abs(decode_picture(encode(flat), 48, 3) - wanted).mean() > 20


@pytest.mark.parametrize("colour", [0, 255, (10, 20, 30)])
def test_a_picture_of_a_single_value_is_refused_and_one_of_a_single_colour_is_not(colour: object) -> None:
    data = encode(Image.new("RGB" if isinstance(colour, tuple) else "L", (20, 20), colour))
    if isinstance(colour, tuple):
        assert len(np.unique(decode_picture(data, 8, 3))) == 3
        return
    with pytest.raises(DataError, match="empty image: all pixels have the same value"):
        decode_picture(data, 8, 3)


def test_a_picture_that_no_radiograph_could_be_is_decoded() -> None:
    letters = np.zeros((28, 28), np.uint8)
    letters[10:18, 4:24] = 255
    assert np.array_equal(decode_picture(encode(Image.fromarray(letters)), 28, 1), letters)


def test_what_is_neither_png_nor_jpeg_is_refused_in_the_sandbox_and_out_of_it() -> None:
    for data in (b"", b"GIF89a", dicom_file(RNG.integers(0, 4096, (40, 40), dtype=np.uint16))):
        for isolate in (False, True):
            with pytest.raises(DataError, match=r"empty file|neither a PNG nor a JPEG file"):
                safe_decode(data, 16, isolate=isolate, picture_channels=3)


def test_a_picture_decoded_in_the_sandbox_is_the_same() -> None:
    data = encode(Image.fromarray(SMOOTH), "JPEG")
    for channels in (1, 3):
        found, alone = (safe_decode(data, 16, isolate=each, picture_channels=channels) for each in (False, True))
        assert np.array_equal(found.pixels, alone.pixels)
        assert alone.pixels.shape == ((16, 16) if channels == 1 else (3, 16, 16))
        assert (alone.view, alone.patient_id) == ("", "")


@pytest.mark.parametrize("kind", pictures())
def test_a_file_cut_anywhere_is_refused(kind: str) -> None:
    data = pictures()[kind]
    for end in (*range(0, len(data), max(1, len(data) // 60)), len(data) - 1):
        with pytest.raises(DataError) as caught:
            decode_picture(data[:end], 16, 3)
        assert "\n" not in str(caught.value)


def test_hostile_pictures_are_a_picture_or_a_reason() -> None:
    random = Random(7)
    for _ in range(12):
        try:
            found = decode_picture(hostile_picture(random), 16, 3)
        except (DataError, MemoryError):
            continue
        assert found.shape == (3, 16, 16)


def test_a_picture_of_one_row_takes_no_more_memory_than_it_has() -> None:
    long = np.zeros((1, 100_000, 3), np.uint8)
    long[0, 50_000 - 1 : 50_001] = (1, 2, 3)
    assert decode_picture(encode(Image.fromarray(long)), 64, 3).shape == (3, 64, 64)
