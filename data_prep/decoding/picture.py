"""PNG and JPEG decoding of pictures of anything, in colour or grey, to square images.

h, w: height and width of the image in the file; s: side of the square result; c: channels, 1 or 3.
"""

import cv2
import kornia_rs
import numpy as np

from data_prep.decoding.picture_file import PictureFile, refused_as, turn
from data_prep.decoding.png import depth_and_colour, with_stored_pixels
from data_prep.decoding.raster import read_picture, resize_to_square, square_pixels
from data_prep.errors import DataError

PICTURE_VERSION = 1  # increase it when the same file may give other pixels: older stores are then rebuilt

CHANNELS = 3  # red, green, blue
_MODES = {0: "mono", 2: "rgb", 6: "rgba"}  # by PNG colour type


def decode_picture(data: bytes, size: int, channels: int) -> np.ndarray:
    """Decode one PNG or JPEG file to (s, s) uint8 with one channel, (3, s, s) red, green, blue with three; s = `size`.

    The square in the middle is cut out of a picture that is not square, and scaled: so the shorter side fills the
    image, as is usual for natural images (Krizhevsky, Sutskever and Hinton, NeurIPS 2012, section 2). Grey is repeated
    in all channels, colour becomes luminance (ITU-R BT.601) in one; transparency is dropped; 16 bits are brought to
    eight. Orientation, shape of the pixels and scaling are as in `data_prep.decoding.raster.decode`, and so are the
    checks of the file; what it shows is not checked, but that it is not all of one value.

    Raises:
        DataError: the file has another format, or is too large, truncated or damaged, or its pixels are all alike.
    """
    return decode_read_picture(*read_picture(data), size, channels)


def decode_read_picture(file: PictureFile, is_png: bool, size: int, channels: int) -> np.ndarray:
    """Decode a file that `read_picture` has read; see `decode_picture`."""
    image = square_pixels(_decode_png(file) if is_png else _decode_jpeg(file), file.pixel_aspect)
    pixels = resize_to_square(_middle(turn(image, file.orientation) if file.orientation > 1 else image), size)
    if pixels.min() == pixels.max():
        raise DataError("empty image: all pixels have the same value")
    if channels == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _middle(image: np.ndarray) -> np.ndarray:
    """Cut the largest square out of the middle of (h, w, 3) pixels."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def _decode_png(file: PictureFile) -> np.ndarray:
    """Decode a PNG file to (h, w, 3) uint8; which decoder takes which file is as for radiographs."""
    depth, colour = depth_and_colour(file.data)
    if depth not in (8, 16) or colour not in _MODES:
        image = _decode_by_opencv(with_stored_pixels(file.data))
    else:
        read = kornia_rs.io.decode_image_png_u8 if depth == 8 else kornia_rs.io.decode_image_png_u16
        with refused_as("damaged: pixels are missing in the PNG file, or cannot be inflated"):
            image = read(file.data, (file.height, file.width), _MODES[colour])
        if image.shape[2] != CHANNELS:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.shape[2] == 1 else cv2.COLOR_RGBA2RGB)
    return image


def _decode_by_opencv(png: bytes) -> np.ndarray:
    with refused_as("damaged: the pixels of the PNG file cannot be decoded"):
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if image is None:
            raise ValueError
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_jpeg(file: PictureFile) -> np.ndarray:
    """Decode a JPEG file to (h, w, 3) uint8."""
    with refused_as("damaged: pixels are missing in the JPEG file, or do not fit its header"):
        image: np.ndarray = kornia_rs.io.decode_image_jpegturbo(file.data, "rgb")
    return image
