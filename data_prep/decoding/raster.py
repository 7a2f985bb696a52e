"""PNG and JPEG decoding to square grey images.

h, w: height and width of the image in the file; s: side of the square result. All in pixels.
"""

import math

import cv2
import kornia_rs
import numpy as np

from data_prep.decoding.jpeg import JPEG_START, read_jpeg
from data_prep.decoding.picture_check import check_picture
from data_prep.decoding.picture_file import PictureFile, refused_as, turn
from data_prep.decoding.png import PNG_SIGNATURE, depth_and_colour, read_png, with_stored_pixels
from data_prep.errors import DataError

DECODE_VERSION = 4  # increase it when the same file may give other pixels: older stores are then rebuilt
MAX_PIXELS = 16 * 2**20  # 4096 x 4096; checked in the header, before decoding
MAX_BYTES = 128 * 2**20  # MAX_PIXELS as 16-bit RGBA, uncompressed

_MOST_OBLONG = 4.0  # times as tall as wide, or the other way round
_OBLONG_TOLERANCE = 0.01  # a hundredth: measured spacings differ by that
_WHITE = 65_535
_CHANNELS = {0: ("mono", None), 2: ("rgb", cv2.COLOR_RGB2GRAY), 6: ("rgba", cv2.COLOR_RGBA2GRAY)}  # by PNG colour type


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode one PNG or JPEG file to (s, s) uint8 with s = `size`, as a viewer shows it.

    Colour becomes luminance (ITU-R BT.601), transparency is dropped (ChestX-ray14's RGBA files are opaque). Eight-bit
    values are kept; deeper ones are shown over the picture's own range, as those of a DICOM file without a window are:
    12 bits in a 16-bit PNG would be black over the range of their container. The orientation that Exif gives is
    applied, and so is the shape of the pixels. An image that is not square keeps its aspect ratio and is padded with
    black bars on both sides. Downscaling averages over the area of each pixel (no aliasing); upscaling is bilinear.

    Raises:
        DataError: the file has another format, or is too large, truncated or damaged, or shows no radiograph.
    """
    return decode_read(*read_picture(data), size)


def decode_read(file: PictureFile, is_png: bool, size: int) -> np.ndarray:
    """Decode a file that `read_picture` has read; see `decode`."""
    decode_file = _decode_png if is_png else _decode_jpeg
    pixels = turn(resize_to_square(square_pixels(decode_file(file), file.pixel_aspect), size), file.orientation)
    check_picture(pixels)
    return pixels


def read_picture(data: bytes) -> tuple[PictureFile, bool]:
    """Check a PNG or JPEG file before it is decoded; return what is to be decoded, and whether it is a PNG.

    Raises:
        DataError: the file has another format, or is too large, truncated or damaged.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    is_png = data.startswith(PNG_SIGNATURE)
    if not is_png and not data.startswith(JPEG_START):
        raise DataError("empty file" if not data else "neither a PNG nor a JPEG file")
    file = read_png(data) if is_png else read_jpeg(data)
    check_image_size(file.width, file.height)
    if file.width < 1 or file.height < 1:
        raise DataError(f"image of {file.width} x {file.height} pixels")
    return file, is_png


def _decode_png(file: PictureFile) -> np.ndarray:
    """Decode a PNG file to (h, w) uint8, or uint16 over its whole range.

    kornia-rs (the Rust crate `png`) decodes a grey file in 4.3 ms at 1024 px, where OpenCV, libspng and Pillow take 9
    to 12 ms. It gives the same pixels, and is memory-safe. It does not check the Adler-32 checksum at the end of the
    compressed data, but the CRC of each chunk already covers every byte. OpenCV decodes what it does not read:
    palettes, fewer than 8 bits, and grey with transparency.
    """
    depth, colour = depth_and_colour(file.data)
    if depth not in (8, 16) or colour not in _CHANNELS:
        image = _decode_by_opencv(with_stored_pixels(file.data))
    else:
        channels, to_grey = _CHANNELS[colour]
        read = kornia_rs.io.decode_image_png_u8 if depth == 8 else kornia_rs.io.decode_image_png_u16
        with refused_as("damaged: pixels are missing in the PNG file, or cannot be inflated"):
            image = read(file.data, (file.height, file.width), channels)
        image = image[:, :, 0] if to_grey is None else cv2.cvtColor(image, to_grey)
    return image if image.dtype == np.uint8 else cv2.normalize(image, None, 0, _WHITE, cv2.NORM_MINMAX)


def _decode_by_opencv(png: bytes) -> np.ndarray:
    with refused_as("damaged: the pixels of the PNG file cannot be decoded"):
        image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
        if image is None:
            raise ValueError
    return image


def _decode_jpeg(file: PictureFile) -> np.ndarray:
    """Decode a JPEG file to (h, w) uint8.

    kornia-rs takes libjpeg-turbo's warnings for errors. OpenCV and Pillow, with the same library and the same pixels,
    fill what is missing of a picture with grey, and are not faster.
    """
    with refused_as("damaged: pixels are missing in the JPEG file, or do not fit its header"):
        image: np.ndarray = kornia_rs.io.decode_image_jpegturbo(file.data, "mono")
    return image[:, :, 0]


def check_image_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) if an image of that size may be decoded; raise DataError if it is too large."""
    if width * height > MAX_PIXELS:
        raise DataError(f"image of {width} x {height} pixels; the limit is {MAX_PIXELS} pixels")
    return width, height


def square_pixels(image: np.ndarray, ratio: float) -> np.ndarray:
    """Lengthen an image, (h, w) or (h, w, c), of pixels `ratio` times as tall as wide, along their longer side.

    Raises:
        DataError: the pixels are too oblong to be those of a radiograph.
    """
    if not 1 / _MOST_OBLONG <= ratio <= _MOST_OBLONG:
        raise DataError(f"pixels {ratio:.3g} times as tall as wide; the limit is {_MOST_OBLONG:.0f} either way")
    if abs(math.log(ratio)) < _OBLONG_TOLERANCE:
        return image
    height, width = image.shape[:2]
    size = (width, round(height * ratio)) if ratio > 1 else (round(width / ratio), height)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def resize_to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Scale (h, w) uint8 or uint16 to (s, s) uint8; keep the aspect ratio and pad with black.

    A square image may have channels: (h, h, c) becomes (s, s, c).
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    while _can_halve(image, inner):  # averaging 2 x 2 pixels is OpenCV's fastest area, by a factor of seven
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if image.shape[:2] != inner[::-1]:
        image = cv2.resize(image, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if inner == (size, size):
        return image
    square = np.zeros((size, size), dtype=np.uint8)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    square[top : top + inner[1], left : left + inner[0]] = image
    return square


def _can_halve(image: np.ndarray, inner: tuple[int, int]) -> bool:
    """Check that halving does not change the area average: it gives `inner`, or at least twice `inner`."""
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        return False
    return (width, height) == (2 * inner[0], 2 * inner[1]) or min(width / inner[0], height / inner[1]) >= 4
