"""A check of what came out of a decoder: it catches wrong pictures that no rule about files foresaw.

s: side of the square picture in pixels.
"""

import numpy as np

from data_prep.errors import DataError


def check_picture(pixels: np.ndarray) -> None:
    """Check that (s, s) uint8 `pixels` may be a radiograph.

    Raises:
        DataError: all pixels have the same value.
    """
    if pixels.min() == pixels.max():
        raise DataError("empty image: all pixels have the same value")
