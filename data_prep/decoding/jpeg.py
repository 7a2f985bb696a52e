"""JPEG files before they are decoded (ITU-T T.81): checked and reduced to the segments that hold pixels."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from data_prep.decoding.picture_file import MAX_PARTS, PictureFile, pixel_aspect, read_orientation
from data_prep.errors import DataError

JPEG_START = b"\xff\xd8\xff"
MAX_SCANS = 32  # a decoder passes over the whole picture for each; encoders write 10 at most, the best script known 13

_END, _SCAN = 0xD9, 0xDA
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, all with Huffman codes
_TABLES = frozenset({0xC4, 0xDB, 0xDD})  # Huffman codes, quantisation, restart interval
_NOTES = frozenset({*range(0xE0, 0xF0), 0xFE})  # of applications, and comments
_MARKER = re.compile(rb"\xff++(.)", re.DOTALL)  # any number of fill bytes may stand before a marker
_END_OF_SCAN = re.compile(rb"\xff[^\0\xff\xd0-\xd7]")  # within one, FF 00 stands for FF, and D0 to D7 restart
_COEFFICIENTS = 64
_EXIF, _JFIF, _ADOBE = 0xE1, 0xE0, 0xEE
_COLOUR_NOTES = {_JFIF: b"JFIF\0", _ADOBE: b"Adobe"}  # they say in which colours the pixels are


class _Segment(NamedTuple):
    marker: int
    content: bytes
    start: int
    end: int


def read_jpeg(data: bytes) -> PictureFile:
    """Check the segments of a JPEG file; keep those that hold pixels, and say how they are to be decoded.

    What follows the end marker is dropped: frames taken out of DICOM files end in a byte of padding.

    Raises:
        DataError: the file is damaged, truncated, of a kind that is not read, or has too many scans.
    """
    segments = list(_segments(data))
    frames = [segment for segment in segments if segment.marker in _FRAMES]
    if len(frames) != 1 or len(frames[0].content) < 6:
        raise DataError("damaged: the JPEG file has no header" if not frames else "damaged: the JPEG header is wrong")
    precision, height, width, components = struct.unpack_from(">BHHB", frames[0].content)
    if precision != 8 or components not in (1, 3):
        raise DataError(
            f"a JPEG of {precision} bits and {components} colours; 8 bits, grey or RGB, are read: save it as such"
        )
    _check_scans(segments, components)
    needed = [segment for segment in segments if _is_needed(segment)]
    if needed[0].start != 2 or needed[-1].end != len(data) or len(needed) < len(segments):
        data = b"\xff\xd8" + b"".join([data[segment.start : segment.end] for segment in needed])
    across, down = _densities(segments)
    exif = [s.content[6:] for s in segments if s.marker == _EXIF and s.content.startswith(b"Exif\0\0")]
    return PictureFile(data, width, height, pixel_aspect(across, down), read_orientation(exif[0] if exif else b""))


def _is_needed(segment: _Segment) -> bool:
    note = _COLOUR_NOTES.get(segment.marker)
    return segment.marker not in _NOTES or (note is not None and segment.content.startswith(note))


def _densities(segments: list[_Segment]) -> tuple[int, int]:
    """Return the pixels per unit across and down that JFIF gives, (1, 1) without."""
    for segment in segments:
        if segment.marker == _JFIF and segment.content.startswith(_COLOUR_NOTES[_JFIF]) and len(segment.content) >= 12:
            return struct.unpack_from(">HH", segment.content, 8)
    return 1, 1


def _check_scans(segments: list[_Segment], components: int) -> None:
    """Check that the scans are few, and bring every coefficient of all `components` to its last bit.

    A progressive file that was cut between two scans gives a whole picture, but a blurred one.
    """
    scans = [segment.content for segment in segments if segment.marker == _SCAN]
    if len(scans) > MAX_SCANS:
        raise DataError(f"a JPEG of {len(scans)} scans; the limit is {MAX_SCANS}: save it anew")
    bits_left: dict[int, bytearray] = {}
    for scan in scans:
        count = scan[0] if scan else 0
        if len(scan) != 4 + 2 * count:
            raise DataError("damaged: the header of a JPEG scan is wrong")
        first, last, bits = scan[-3:]
        if not first <= last < _COEFFICIENTS:
            raise DataError(f"damaged: a JPEG scan of coefficients {first} to {last}; there are {_COEFFICIENTS}")
        for component in scan[1:-3:2]:
            missing = bits_left.setdefault(component, bytearray(b"\xff" * _COEFFICIENTS))
            missing[first : last + 1] = bytes([bits & 0x0F]) * (last + 1 - first)
    if len(bits_left) < components or any(map(any, bits_left.values())):
        raise DataError("truncated: the last scans of the JPEG file are missing")


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield the segments after the start up to the end marker; that of a scan includes its coded pixels."""
    position = 2
    for _ in range(MAX_PARTS):
        if position + 1 >= len(data):
            break
        found = _MARKER.match(data, position)
        if not found:
            raise DataError(f"damaged: no JPEG marker at byte {position}")
        marker, position = found[1][0], found.end()
        if marker == _END:
            yield _Segment(marker, b"", position - 2, position)
            return
        if marker not in _FRAMES | _TABLES | _NOTES | {_SCAN}:
            raise DataError(
                f"a JPEG of a kind that is not read (marker {marker:X}); save it as baseline or progressive"
            )
        length = struct.unpack_from(">H", data, position)[0] if position + 2 <= len(data) else len(data)
        end = position + length
        if end > len(data):
            break
        content = data[position + 2 : end]
        if marker == _SCAN:
            after = _END_OF_SCAN.search(data, end)
            if not after:
                break
            end = after.start()
        yield _Segment(marker, content, position - 2, end)
        position = max(end, position + 2)
    else:
        raise DataError(f"the JPEG file has more than {MAX_PARTS} segments, the limit; save it anew")
    raise DataError(f"truncated: the JPEG file ends after {len(data)} bytes, before its end marker")
