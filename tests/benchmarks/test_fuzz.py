"""The fuzzer: a file is drawn alike every time, its reference is right, and what a bad reader does is noticed."""

import io
import signal
import time
from collections.abc import Callable

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageOps

from benchmarks.fuzzing import case, dicom, jpeg, pictures, png, runner
from benchmarks.fuzzing.case import Case, Format
from data_prep.errors import DataError

GENERATORS = pytest.mark.parametrize("seed", range(40))


@pytest.mark.parametrize("kind", list(runner.DRAW))
def test_a_file_is_drawn_alike_whatever_was_drawn_before(kind: str) -> None:
    first = [runner.make(kind, 7, number) for number in (5, 6)]
    assert runner.make(kind, 7, 6).data == first[1].data
    assert first[0].data != first[1].data


@GENERATORS
def test_the_pixels_of_a_legal_png_are_those_that_pillow_reads(seed: int) -> None:
    random = np.random.default_rng([seed, 1])
    picture = png._draw_picture(random)
    raw = b"".join(png._filtered(part, picture, random) for part in png._parts(picture))
    data = png.joined(png._chunks(picture, png._compressed(raw, picture, random), random))
    if not picture.legal or "heavy texts" in picture.rules:  # Pillow refuses them, as it may
        return
    image = Image.open(io.BytesIO(data))
    if picture.depth == 16 and picture.colour != png.GREY:  # of which Pillow keeps eight bits
        image_depth, samples = 8, picture.samples >> 8
    else:
        image_depth, samples = picture.depth, picture.samples
    if picture.palette is not None:
        assert np.array_equal(np.asarray(image.convert("RGB")), picture.palette[samples[..., 0]])
        return
    found = np.asarray(image, np.int64)
    if image.mode == "RGBA" and picture.colour == png.GREY_ALPHA:  # of 16 bits
        found = found[..., [0, 3]]
    found = found.reshape(samples.shape)
    scale = 255 // (2**image_depth - 1) if image_depth in (2, 4) else 1
    assert np.array_equal(found, samples * scale)


@GENERATORS
def test_what_is_shown_of_a_dicom_is_what_pydicom_makes_of_it(seed: int) -> None:
    random = np.random.default_rng([seed, 2])
    picture = dicom._draw_pixels(random)
    picture.padding = np.zeros(picture.stored.shape, bool)
    for step in (dicom._kind, dicom._modality, dicom._shown):
        step(picture, random)
    dataset = pydicom.dcmread(io.BytesIO(dicom._file(picture, random)))
    stored = pydicom.pixels.pixel_array(dataset)
    mask = 2 ** picture.bits[1] - 1
    assert np.array_equal(stored.astype(np.int64) & mask, picture.stored & mask)
    if "ModalityLUTSequence" in picture.elements:  # pydicom reads those of 8 and 16 bits
        return
    values = pydicom.pixels.apply_modality_lut(picture.stored, dataset)
    assert np.allclose(values, picture.modality)
    if picture.shown is not None and "VOILUTSequence" not in picture.elements:
        low, high = pydicom.pixels.apply_voi_lut(np.array([-1e9, 1e9]), dataset)
        shown = (pydicom.pixels.apply_voi_lut(values.astype(float), dataset) - low) / (high - low)
        assert np.allclose(shown, np.clip(picture.shown(picture.modality), 0, 1), atol=1e-6)


@GENERATORS
def test_a_picture_is_reduced_as_opencv_averages_areas(seed: int) -> None:
    random = np.random.default_rng([seed, 3])
    grey = 255 * random.random(pictures.draw_shape(random))
    square = pictures.in_store(grey)
    rows, columns = (np.flatnonzero(square.any(axis)) for axis in (1, 0))
    inner = square[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert np.allclose(inner, cv2.resize(grey, inner.shape[::-1], interpolation=cv2.INTER_AREA), atol=1e-3)


@GENERATORS
def test_a_picture_is_turned_as_pillow_turns_it(seed: int) -> None:
    orientation = 1 + seed % 8
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 7), np.uint8)
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "PNG", exif=image.getexif())
    assert np.array_equal(np.asarray(ImageOps.exif_transpose(Image.open(stream))), pictures.turned(pixels, orientation))


def test_a_jpeg_that_is_split_and_joined_is_the_same() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(4).integers(0, 256, (40, 50, 3), np.uint8)).save(
        stream, "JPEG", progressive=True, restart_marker_blocks=3
    )
    assert jpeg.joined(jpeg.split(stream.getvalue())) == stream.getvalue()


def reader(do: Callable[[Case], object]) -> Format:
    """A format whose one file is legal, means 7, and is read by `do`."""
    return Format(lambda random: LEGAL, do, lambda found, expected: "" if found == expected else "it is not 7")


LEGAL = Case(".x", b"", (), legal=True, expected=7)


def refuse(reason: str) -> Callable[[Case], object]:
    def do(_: Case) -> object:
        raise DataError(reason)

    return do


def busy(_: Case) -> object:
    begun = time.process_time()
    while time.process_time() - begun < 0.2:
        pass
    return 7


@pytest.mark.parametrize(
    ("do", "outcome"),
    [
        (lambda _: 7, case.RIGHT),
        (lambda _: 8, case.WRONG),
        (lambda _: 1 / 0, case.TRACEBACK),
        (refuse("too large"), case.LEGAL_REFUSED),
        (refuse("the decoder crashed (SIGSEGV)"), case.CONTAINED),
        (refuse("two\nlines"), case.UNPRINTABLE),
        (refuse("\x1b[31m"), case.UNPRINTABLE),
        (refuse(""), case.UNPRINTABLE),
        (refuse(f"unknown name {case.CANARIES[0]}"), case.IDENTITY),
    ],
)
def test_what_a_reader_does_is_told_apart(do: Callable[[Case], object], outcome: str) -> None:
    assert case.judge(reader(do), LEGAL).outcome == outcome


def test_a_reader_that_takes_too_long_or_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CPU_SECONDS", 0.1)
    assert runner.judge_under_limits(reader(busy), LEGAL).verdict.outcome == case.OVER
    monkeypatch.setattr(runner, "CPU_SECONDS", 60)
    monkeypatch.setattr(runner, "MEMORY_BYTES", 2**20)
    large = reader(lambda _: len(b"x" * 2**27) and 7)
    assert runner.judge_under_limits(large, LEGAL).verdict.outcome == case.OVER
    signal.alarm(0)
