"""From the bytes of a PNG or JPEG file to a square grey picture.

h, w: height and width of the picture in the file; s: side of the square that comes out. All in pixels.
"""

import struct

import cv2
import kornia_rs
import numpy as np
from isal import isal_zlib

from data_prep.errors import DataError

DECODE_VERSION = 3  # raise it whenever the same bytes may give other pixels: stores made before are built anew
MAX_PIXELS = 16 * 2**20  # 4096 x 4096; read from the header, before anything is decoded
MAX_BYTES = 128 * 2**20  # MAX_PIXELS as 16-bit RGBA, uncompressed

_PNG = b"\x89PNG\r\n\x1a\n"
_GREY_PNG = b"\x08\0\0\0\0"  # in the header: 8 bits, grey, deflate, adaptive filters, not interlaced
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length


def decode(data: bytes, size: int) -> np.ndarray:
    """Decode one PNG or JPEG file to (s, s) uint8 with s = `size`.

    Colour becomes luminance (ITU-R BT.601), transparency is dropped (ChestX-ray14's RGBA files are opaque), and
    16-bit values are scaled by 255/65535. A picture that is not square keeps its proportions and stands in the
    middle of black bars. Reduction averages over the area of each pixel (no aliasing); enlargement is bilinear.

    Raises DataError with the reason: another format, too large, truncated, damaged.
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
        raise DataError(f"picture of {width} x {height} pixels")
    return fit(
        _grey_png(data, width, height) if data.startswith(_PNG) and data.startswith(_GREY_PNG, 24) else _pixels(data),
        size,
    )


def _grey_png(data: bytes, width: int, height: int) -> np.ndarray:
    """Return (h, w) uint8 of a PNG file of plain 8-bit grey, as radiographs are.

    kornia-rs (the Rust crate `png`) undoes such a file's filters and compression in 4.3 ms at 1024 px where OpenCV,
    libspng and Pillow take 9 to 12, gives the same pixels, and cannot be made to read or write out of bounds. It
    skips the sum at the end of the compressed data (Adler-32): every byte of it is under a chunk's CRC already.
    """
    try:
        picture: np.ndarray = kornia_rs.io.decode_image_png_u8(data, (height, width), "mono")
    except Exception as error:  # its errors have no type of their own
        raise DataError(f"damaged: {error}") from error
    return picture[:, :, 0]


def _pixels(data: bytes) -> np.ndarray:
    """Return (h, w) uint8 or uint16."""
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise DataError(f"damaged: {error.err}") from error
    if picture is None:
        raise DataError("damaged: the pixel data cannot be decoded")
    return picture


def check_pixels(width: int, height: int) -> tuple[int, int]:
    """Return (w, h) if a picture of that many pixels may be decoded; DataError if it is too large."""
    if width * height > MAX_PIXELS:
        raise DataError(f"picture of {width} x {height} pixels; the limit is {MAX_PIXELS} pixels")
    return width, height


def _check_png(data: bytes) -> tuple[int, int]:
    """Return (w, h) after checking every chunk's length and CRC: decoders let a flipped bit through."""
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
            size = check_pixels(*struct.unpack_from(">II", data, position + 8))
        if kind == b"IEND":
            return size
        position = end
    raise DataError(f"truncated: the PNG file ends after {len(data)} bytes, before its last chunk")


def _check_jpeg(data: bytes) -> tuple[int, int]:
    """Return (w, h) after walking the segments to the first scan, behind which the end marker must stand."""
    size = None
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise DataError(f"damaged: no JPEG marker at byte {position}")
        marker = data[position + 1]
        if marker == 0xFF or marker in _JPEG_BARE:
            position += 1 if marker == 0xFF else 2
            continue
        if marker in _JPEG_FRAMES and position + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, position + 5)
            size = check_pixels(width, height)
        if marker == _JPEG_SCAN:
            if size is None:
                raise DataError("damaged: the JPEG file has no header")
            if data.rfind(_JPEG_END) <= position:
                break
            return size
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    raise DataError(f"truncated: the JPEG file ends after {len(data)} bytes, before its end marker")


def fit(picture: np.ndarray, size: int) -> np.ndarray:
    """Scale (h, w) uint8 or uint16 to (s, s) uint8, keeping proportions, black where the picture does not reach."""
    height, width = picture.shape
    scale = size / max(height, width)
    inner = (max(1, round(width * scale)), max(1, round(height * scale)))
    while _halves(picture, inner):  # OpenCV averages 2 x 2 pixels seven times faster than over any other area
        picture = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)
    if picture.shape != inner[::-1]:
        picture = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if picture.dtype == np.uint16:
        picture = ((picture.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if inner == (size, size):
        return picture
    square = np.zeros((size, size), dtype=np.uint8)
    left, top = (size - inner[0]) // 2, (size - inner[1]) // 2
    square[top : top + inner[1], left : left + inner[0]] = picture
    return square


def _halves(picture: np.ndarray, inner: tuple[int, int]) -> bool:
    """Whether halving keeps the average over areas: it ends at `inner`, or leaves twice that at least."""
    height, width = picture.shape
    if height % 2 or width % 2:
        return False
    return (width, height) == (2 * inner[0], 2 * inner[1]) or min(width / inner[0], height / inner[1]) >= 4
