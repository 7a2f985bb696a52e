"""PNG and JPEG files made part by part, legal and not."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
KINDS = [(colour, depth) for colour, depths in DEPTHS.items() for depth in depths]
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(kind: bytes, content: bytes) -> bytes:
    """Make a PNG chunk with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlaced: bool = False) -> bytes:
    """Make the first chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def scan_lines(values: np.ndarray, depth: int, interlaced: bool = False) -> bytes:
    """Pack (h, w, channels) values as the scan lines of a PNG, without filters."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[top::down, left::right] for left, top, right, down in passes]
    return b"".join(b"\0" + packed(row.ravel(), depth) for part in parts if part.size for row in part)


def packed(row: np.ndarray, depth: int) -> bytes:
    """Pack the samples of one line."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = row.astype(np.uint8)[:, None] >> np.arange(depth)[::-1] & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def png(first: bytes, lines: bytes, before: bytes = b"", pieces: int = 1, between: bytes = b"") -> bytes:
    """Make a PNG of its header, scan lines and other chunks; the pixels are in several `pieces`."""
    pixels = zlib.compress(lines)
    step = -(-len(pixels) // pieces)
    parts = [chunk(b"IDAT", pixels[start : start + step]) for start in range(0, len(pixels), step)]
    return SIGNATURE + first + before + between.join(parts) + chunk(b"IEND", b"")


def exif(orientation: int, order: str, entries: Iterable[int] = ()) -> bytes:
    """Make the TIFF structure of Exif with an orientation behind other `entries`."""
    tags = [*sorted(entries), 0x0112]
    table = b"".join(struct.pack(order + "HHIHH", tag, 3, 1, orientation, 0) for tag in tags)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IH", 8, len(tags)) + table + bytes(4)


def jpeg(picture: Image.Image, **options: object) -> bytes:
    """Encode a picture by Pillow."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def jpeg_segment(marker: int, content: bytes) -> bytes:
    """Make a segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
