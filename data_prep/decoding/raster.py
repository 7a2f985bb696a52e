"""PNG and JPEG decoding to square grey images.

h, w: height and width of the image in the file; s: side of the square result. All in pixels.
"""

import struct

import cv2
import kornia_rs
import numpy as np
from isal import isal_zlib

from data_prep.errors import DataError

DECODE_VERSION = 3  # increase it when the same file may give other pixels: older stores are then rebuilt
MAX_PIXELS = 16 * 2**20  # 4096 x 4096; checked in the header, before decoding
MAX_BYTES = 128 * 2**20  # MAX_PIXELS as 16-bit RGBA, uncompressed

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_PNG_HEADER = b"\x08\0\0\0\0"  # in the header: 8 bits, grey, deflate, adaptive filters, not interlaced
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode one PNG or JPEG file to (s, s) uint8 with s = `size`.

    Colour becomes luminance (ITU-R BT.601), transparency is dropped (ChestX-ray14's RGBA files are opaque), and
    16-bit values are scaled by 255/65535. An image that is not square keeps its aspect ratio and is padded with
    black bars on both sides. Downscaling averages over the area of each pixel (no aliasing); upscaling is bilinear.

    Raises:
        DataError: the file has another format, or is too large, truncated or damaged.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    if data.startswith(_PNG):
        width, height = _check_png(data)
    elif data.startswith(_JPEG):
        width, height = _check_jpeg(data)
    else:
        raise DataError("empty file" if not data else "neither a PNG nor a JPEG file")
    if width < 1 or height < 1:
        raise DataError(f"image of {width} x {height} pixels")
    is_grey_png = data.startswith(_PNG) and data.startswith(_GREY_PNG_HEADER, 24)
    return resize_to_square(_decode_grey_png(data, width, height) if is_grey_png else _decode_any(data), size)


def _decode_grey_png(data: bytes, width: int, height: int) -> np.ndarray:
    """Decode a PNG file of plain 8-bit grey, which is what most radiographs are, to (h, w) uint8.

    kornia-rs (the Rust crate `png`) decodes such a file in 4.3 ms at 1024 px, where OpenCV, libspng and Pillow take
    9 to 12 ms. It gives the same pixels, and is memory-safe. It does not check the Adler-32 checksum at the end of the
    compressed data, but the CRC of each chunk already covers every byte.
    """
    try:
        image: np.ndarray = kornia_rs.io.decode_image_png_u8(data, (height, width), "mono")
    except Exception as error:  # the library has no error class of its own
        raise DataError(f"damaged: {error}") from error
    return image[:, :, 0]


def _decode_any(data: bytes) -> np.ndarray:
    """Decode any other PNG or JPEG file to (h, w) uint8 or uint16."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise DataError(f"damaged: {error.err}") from error
    if image is None:
        raise DataError("damaged: the pixel data cannot be decoded")
    return image


def check_image_size(width: int, height: int) -> tuple[int, int]:
    """Return (width, height) if an image of that size may be decoded; raise DataError if it is too large."""
    if width * height > MAX_PIXELS:
        raise DataError(f"image of {width} x {height} pixels; the limit is {MAX_PIXELS} pixels")
    return width, height


def _check_png(data: bytes) -> tuple[int, int]:
    """Check the length and CRC of every chunk, as decoders may accept a flipped bit, and return (w, h)."""
    size = None
    position = len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            break
        (crc,) = struct.unpack_from(">I", data, end - 4)
        if isal_zlib.crc32(memoryview(data)[position + 4 : end - 4]) != crc:
            raise DataError(f"damaged: the checksum of PNG chunk {kind.decode('latin-1')!r} is wrong")
        if size is None:
            if kind != b"IHDR" or length != 13:
                raise DataError("damaged: the PNG file has no header")
            size = check_image_size(*struct.unpack_from(">II", data, position + 8))
        if kind == b"IEND":
            return size
        position = end
    raise DataError(f"truncated: the PNG file ends after {len(data)} bytes, before its last chunk")


def _check_jpeg(data: bytes) -> tuple[int, int]:
    """Read the segments up to the first scan, check that an end marker follows it, and return (w, h)."""
    size = None
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise DataError(f"damaged: no JPEG marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF or marker in _JPEG_MARKERS_WITHOUT_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAME_MARKERS and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = check_image_size(width, height)
        if marker == _JPEG_SCAN:
            if size is None:
                raise DataError("damaged: the JPEG file has no header")
            if data.rfind(_JPEG_END) <= position:
                break
            return size
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise DataError(f"truncated: the JPEG file ends after {len(data)} bytes, before its end marker")


def resize_to_square(image: np.ndarray, size: int) -> np.ndarray:
    """Scale (h, w) uint8 or uint16 to (s, s) uint8; keep the aspect ratio and pad with black."""
    height, width = image.shape
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    while _can_halve(image, inner):  # averaging 2 x 2 pixels is OpenCV's fastest area, by a factor of seven
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if image.shape != inner[::-1]:
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
    height, width = image.shape
    if height % 2 or width % 2:
        return False
    return (width, height) == (2 * inner[0], 2 * inner[1]) or min(width / inner[0], height / inner[1]) >= 4
