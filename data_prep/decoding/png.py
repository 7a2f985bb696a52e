"""PNG files before they are decoded (PNG specification, third edition): checked and reduced to the pixels' chunks."""

import struct
import zlib
from collections.abc import Iterator

from isal import isal_zlib

from data_prep.decoding.picture_file import MAX_PARTS, PictureFile, pixel_aspect, read_orientation, refused_as
from data_prep.errors import DataError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
# Each a few bytes of fixed meaning. Decoders do nothing with them, and leaving them out would copy the file.
_HARMLESS = frozenset({b"tIME", b"pHYs", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD"})
_MAX_HARMLESS_BYTES = 32
_SIZE_AT, _DEPTH_AT = 16, 24
_FRAME_BYTES = 12  # of a chunk: length, kind and checksum
_number = struct.Struct(">I").unpack_from
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


_Chunk = tuple[bytes, int, int]  # its kind, where it starts and where it ends; a class would take longer to read


def read_png(data: bytes) -> PictureFile:
    """Check the chunks of a PNG file; keep those that hold pixels.

    Text, colour profiles and transparency are dropped. The significant bits (sBIT) are not read either: deep pictures
    are shown over their own range, whatever they declare.

    Raises:
        DataError: the file is damaged, truncated or animated, or goes on after its end.
    """
    chunks = list(_chunks(data))
    kind, start, end = chunks[0]
    if kind != b"IHDR" or end - start != _FRAME_BYTES + 13:
        raise DataError("damaged: the PNG file has no header")
    if extra := len(data) - chunks[-1][2]:
        raise DataError(f"damaged: {extra} bytes follow the end of the PNG file; save it anew")
    first: dict[bytes, bytes] = {}
    others = [chunk for chunk in chunks if chunk[0] not in _NEEDED]
    for chunk in reversed(others):
        first[chunk[0]] = _content(data, chunk)
    if b"acTL" in first:
        raise DataError("an animated PNG; a radiograph is one picture")
    if unknown := [kind for kind in first if kind[:1].isupper()]:
        raise DataError(f"damaged: the PNG file has a chunk of an unknown kind, {unknown[0].decode('latin-1')!r}")
    if not all(map(_is_harmless, others)):
        kept = [data[start:end] for kind, start, end in chunks if kind in _NEEDED]
        data = PNG_SIGNATURE + b"".join(kept)
    width, height = struct.unpack_from(">II", data, _SIZE_AT)
    densities = first.get(b"pHYs", b"")
    across, down = struct.unpack_from(">II", densities) if len(densities) == 9 else (1, 1)
    return PictureFile(data, width, height, pixel_aspect(across, down), read_orientation(first.get(b"eXIf", b"")))


def _is_harmless(chunk: _Chunk) -> bool:
    kind, start, end = chunk
    return kind in _HARMLESS and end - start <= _FRAME_BYTES + _MAX_HARMLESS_BYTES


def _content(data: bytes, chunk: _Chunk) -> bytes:
    _kind, start, end = chunk
    return data[start + 8 : end - 4]


def depth_and_colour(png: bytes) -> tuple[int, int]:
    """Return the bits of a sample and the colour type (section 11.2.1) of a PNG file that `read_png` gives."""
    return png[_DEPTH_AT], png[_DEPTH_AT + 1]


def with_stored_pixels(png: bytes) -> bytes:
    """Return a PNG file (as `read_png` gives it) with its pixels inflated, and so exactly as many as its header says.

    libpng inflates all that a file holds, however much, and warns at most.

    Raises:
        DataError: the file holds more or fewer pixels, or is damaged.
    """
    chunks = list(_chunks(png))
    needed = _scan_bytes(_content(png, chunks[0]))
    deflated = b"".join([_content(png, chunk) for chunk in chunks if chunk[0] == b"IDAT"])
    with refused_as("damaged: the pixels of the PNG file cannot be inflated"):
        scans = isal_zlib.decompressobj().decompress(deflated, needed + 1)
    if len(scans) != needed:
        amount = "more" if len(scans) > needed else f"{len(scans)}"
        raise DataError(f"damaged: the size in the PNG file asks for {needed} bytes of pixels; it holds {amount}")
    stored = zlib.compress(scans, level=0)
    tables = [png[start:end] for kind, start, end in chunks if kind in (b"IHDR", b"PLTE")]
    return PNG_SIGNATURE + b"".join([*tables, _pack(b"IDAT", stored), _pack(b"IEND", b"")])


def _pack(kind: bytes, content: bytes) -> bytes:
    checksum = isal_zlib.crc32(content, isal_zlib.crc32(kind))
    return b"".join([struct.pack(">I", len(content)), kind, content, struct.pack(">I", checksum)])


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """Yield the chunks up to IEND; check their length and CRC, as decoders may accept a flipped bit."""
    view, size = memoryview(data), len(data)
    position = len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        end = position + _FRAME_BYTES
        if end <= size:
            end += _number(data, position)[0]
        if end > size:
            raise DataError(f"truncated: the PNG file ends after {size} bytes, before its last chunk")
        kind = data[position + 4 : position + 8]
        if isal_zlib.crc32(view[position + 4 : end - 4]) != _number(data, end - 4)[0]:
            raise DataError(f"damaged: the checksum of PNG chunk {kind.decode('latin-1')!r} is wrong")
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise DataError(f"the PNG file has more than {MAX_PARTS} chunks, the limit; save it anew")


def _scan_bytes(header: bytes) -> int:
    """Return the bytes of all scan lines, each with its filter, of the picture that IHDR describes."""
    width, height, depth, colour, _deflate, _filters, interlace = struct.unpack(">IIBBBBB", header)
    if colour not in _CHANNELS:
        raise DataError(f"damaged: the PNG file has a colour type {colour}, which does not exist")
    total = 0
    for left, top, right, down in _ADAM7 if interlace else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // right), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * depth * _CHANNELS[colour] // 8))
    return total
