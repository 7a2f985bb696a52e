"""No real radiograph is refused; what wrong decoding makes of one is."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.decoding.picture_check import check_picture
from data_prep.decoding.raster import resize_to_square
from data_prep.errors import DataError

SIZES = (8, 16, 32, 64, 224)


def radiograph(seed: int, side: int = 256) -> np.ndarray:
    """Return something with the smoothness, the noise and the values of one: (s, s) in [0, 1]."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.random((5, 5)), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(coarse + rng.normal(0, 0.02, coarse.shape), 0, 1)


def shown(picture: np.ndarray, size: int) -> np.ndarray:
    return resize_to_square((picture * 255).astype(np.uint8), size)


@pytest.mark.parametrize("folder", ["images_64", "images_256", "images_1024"])
def test_every_real_radiograph_passes_at_any_size(folder: str, shared_data: Path) -> None:
    files = sorted((shared_data / "nih" / folder).glob("*.png"))
    assert len(files) > 200
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        for size in SIZES:
            check_picture(resize_to_square(image, size))


@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.floats(0.4, 1), st.floats(0, 0.5), st.booleans())
@settings(max_examples=200)
def test_a_picture_may_be_dim_and_have_a_wide_margin(
    seed: int, size: int, contrast: float, margin: float, white: bool
) -> None:
    picture = radiograph(seed) * contrast
    picture[: int(margin * len(picture))] = white
    check_picture(shown(picture, size))


@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.integers(1, 16), st.integers(0, 239), st.floats(0, 0.6))
@settings(max_examples=300)
def test_a_range_that_is_not_the_pictures_own_is_noticed(
    seed: int, size: int, span: int, low: int, padding: float
) -> None:
    """A sixteenth of the range or less, with or without padding in black or white that has set the range."""
    picture = (radiograph(seed) * span + low).astype(np.uint8)
    picture[:, : int(padding * len(picture))] = 255 if low < 128 else 0
    with pytest.raises(DataError, match=r"grey levels, and a radiograph at least 20|same value|black or white"):
        check_picture(resize_to_square(picture, size))


@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.floats(0.3, 0.95), st.integers(8, 247))
@settings(max_examples=200)
def test_a_lower_part_that_was_never_decoded_is_noticed(seed: int, size: int, part: float, fill: int) -> None:
    picture = shown(radiograph(seed), size)
    picture[size - max(2, int(size * part)) :] = fill
    with pytest.raises(DataError, match=r"is of one grey|grey levels"):
        check_picture(picture)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_an_empty_picture_is_noticed(value: int) -> None:
    with pytest.raises(DataError, match="all pixels have the same value"):
        check_picture(np.full((64, 64), value, np.uint8))


@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.8))
def test_a_mask_is_no_radiograph(seed: int, threshold: float) -> None:
    with pytest.raises(DataError, match=r"is black or white; at most 95%|same value"):
        check_picture(shown((radiograph(seed, 64) > threshold).astype(float), 64))
