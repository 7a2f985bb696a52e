"""Oblong pixels become square ones: what is displayed has the proportions of the body."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.decoding.dicom import read_attributes, render
from data_prep.errors import DataError
from tests.data_prep.dicom_files import dicom_file

STORED = np.random.default_rng(0).integers(0, 4096, (20, 30), dtype=np.uint16)
SPACINGS = ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"]


def shape(**attributes: object) -> tuple[int, ...]:
    return render(read_attributes(dicom_file(STORED, BitsStored=12, **attributes))).shape


@given(st.sampled_from(SPACINGS), st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_any_spacing_gives_the_proportions_of_the_body(keyword: str, down: float, across: float) -> None:
    down, across = round(down, 3), round(across, 3)
    ratio = down / across
    if max(ratio, 1 / ratio) > 4:
        with pytest.raises(DataError, match="times as tall as wide; the limit is 4 either way"):
            shape(**{keyword: [down, across]})
    else:
        height, width = shape(**{keyword: [down, across]})
        assert height / width == pytest.approx(20 * down / (30 * across), rel=0.05)
        assert height >= 20
        assert width >= 30


@given(st.integers(1, 9), st.integers(1, 9))
def test_an_aspect_ratio_counts_as_a_spacing_does(down: int, across: int) -> None:
    if max(down / across, across / down) <= 4:
        assert shape(PixelAspectRatio=[down, across]) == shape(PixelSpacing=[down, across])


@pytest.mark.parametrize(
    "attributes",
    [
        {"PixelAspectRatio": [1, 1]},
        {"PixelAspectRatio": [0, 0]},
        {"PixelAspectRatio": [2, 0]},
        {"PixelAspectRatio": "7"},
        {"PixelSpacing": ""},
        {"PixelSpacing": ["0.143", "0.1435"]},
        {"PixelSpacing": ["0.2", "0.2"], "ImagerPixelSpacing": ["0.1", "0.1"], "PixelAspectRatio": [1, 1]},
    ],
)
def test_square_pixels_and_unusable_values_leave_the_image_as_it_is(attributes: dict[str, object]) -> None:
    assert shape(**attributes) == (20, 30)


def test_decimal_commas_leave_the_image_as_it_is() -> None:
    data = dicom_file(STORED, BitsStored=12, PixelSpacing=["0.2", "0.1"])
    assert data.count(b"0.2\\0.1") == 1
    assert render(read_attributes(data.replace(b"0.2\\0.1", b"0,2\\0,1"))).shape == (20, 30)


def test_attributes_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(DataError, match="the attributes of pixel spacing and aspect ratio contradict one another"):
        shape(PixelSpacing=["0.2", "0.2"], PixelAspectRatio=[2, 1])


def test_each_pixel_of_a_tall_image_is_shown_twice_as_tall() -> None:
    tall = render(read_attributes(dicom_file(STORED, BitsStored=12, PixelAspectRatio=[2, 1]))).astype(float)
    plain = render(read_attributes(dicom_file(STORED, BitsStored=12))).astype(float)
    assert tall.shape == (40, 30)
    assert np.abs(tall.reshape(20, 2, 30).mean(axis=1) - plain).mean() < 0.25 * 65_535 / 2
    assert np.corrcoef(tall.reshape(20, 2, 30).mean(axis=1).ravel(), plain.ravel())[0, 1] > 0.95
