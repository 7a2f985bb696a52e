"""A picture file as a decoder gets it: without what is not needed to decode it, and with what the file says besides.

Decoders read every part of a file, some of them without limits. So they get only the parts that hold pixels.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cv2
import numpy as np

from data_prep.errors import DataError

MAX_PARTS = 2**16  # chunks of a PNG, segments of a JPEG; at libpng's 8 KiB a chunk they hold four times MAX_BYTES
_ORIENTATION_TAG = 0x0112


class PictureFile(NamedTuple):
    """What is known of a picture before it is decoded.

    Attributes:
        data: the file, reduced to the parts that hold pixels.
        width: of the image in the file, in pixels.
        height: of the image in the file, in pixels.
        pixel_aspect: height of a pixel divided by its width.
        orientation: 1 to 8, as in Exif; see `turn`.
    """

    data: bytes
    width: int
    height: int
    pixel_aspect: float
    orientation: int


def pixel_aspect(across: int, down: int) -> float:
    """Return the height of a pixel divided by its width, from pixels per unit `across` and `down`; 0 is not given."""
    return across / down if across and down else 1.0


def read_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from the TIFF structure in which Exif stands; 1 if there is none.

    Only this tag is read: a parser of all of Exif is more than is needed, and a target.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4], ">")
    try:
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, start)
        for position in range(start + 2, start + 2 + 12 * entries, 12):
            tag, _kind, _count, value = struct.unpack_from(order + "HHIH", exif, position)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # shorter than it says
        pass
    return 1


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn (h, w) or (h, w, c) pixels as viewers do: from how they are stored to how they are seen (Exif, 4.6.4)."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


@contextmanager
def refused_as(reason: str) -> Iterator[None]:
    """Raise DataError with `reason` for any error of a decoder but want of memory; some have no error class."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if getattr(error, "code", None) == cv2.Error.STS_NO_MEM:
            raise MemoryError from error
        raise DataError(reason) from error
