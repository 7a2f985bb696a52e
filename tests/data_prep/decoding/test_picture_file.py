"""What a picture file says besides its pixels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data_prep.decoding.picture_file import pixel_aspect, read_orientation, turn
from tests.data_prep.picture_files import exif


@given(st.integers(1, 8), st.integers(2, 9))
def test_a_picture_is_turned_as_pillow_turns_it(orientation: int, side: int) -> None:
    stored = np.arange(side * side, dtype=np.uint8).reshape(side, side)
    picture = Image.fromarray(stored)
    picture.getexif()[0x0112] = orientation
    turned = turn(stored, orientation)
    assert np.array_equal(turned, np.asarray(ImageOps.exif_transpose(picture)))
    assert turned.flags.c_contiguous


@given(st.integers(0, 2**16 - 1), st.sampled_from("<>"), st.lists(st.integers(0, 2**16 - 1), max_size=20))
def test_an_orientation_that_does_not_exist_is_none(value: int, order: str, others: list[int]) -> None:
    found = read_orientation(exif(value, order, [tag for tag in others if tag != 0x0112]))
    assert found == (value if 1 <= value <= 8 else 1)


@given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0", b"MM\0*"]))
def test_any_bytes_give_an_orientation(content: bytes, start: bytes) -> None:
    assert 1 <= read_orientation(start + content) <= 8


def test_densities_that_are_not_given_say_nothing_of_the_shape() -> None:
    assert [pixel_aspect(*pair) for pair in ((0, 0), (0, 5), (5, 0), (72, 72), (2, 1))] == [1, 1, 1, 1, 2]
