"""DICOM files written element by element (PS3.5, section 7; PS3.10, section 7), so that any element may be wrong.

pydicom would refuse, or mend, much of what a grammar has to draw.
"""

import io
import struct
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.encaps import generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

IMPLICIT, EXPLICIT, BIG = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian), str(ExplicitVRBigEndian)
DEFLATED, RLE = str(DeflatedExplicitVRLittleEndian), str(RLELossless)
BY_GDCM = {
    str(JPEGLosslessSV1): gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    str(JPEGLSLossless): gdcm.TransferSyntax.JPEGLSLossless,
    str(JPEG2000Lossless): gdcm.TransferSyntax.JPEG2000Lossless,
}

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
_LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}  # with a length of four bytes
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": "I", "OW": "H"}


@dataclass(frozen=True)
class Element:
    """A data element.

    Attributes:
        tag: group and element number.
        vr: its value representation; in implicit VR it is not written, but the value is encoded by it.
        value: bytes as they are, text, numbers, or the items of a sequence, each of elements.
        undefined: a sequence, or its items, has no length but ends with a delimiter.
        length: a false length to write.
    """

    tag: int
    vr: str
    value: Any
    undefined: bool = False
    length: int | None = None


def element(keyword: str, value: Any, vr: str = "", **options: Any) -> Element:
    """Return the element of the dictionary with a keyword; with `vr`, under another VR than the dictionary's."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return Element(tag, vr or dictionary_VR(tag)[:2], value, **options)


def dataset_bytes(elements: Sequence[Element], syntax: str) -> bytes:
    """Encode the elements of a dataset as they stand; deflated if the syntax says so."""
    explicit, order = syntax != IMPLICIT, ">" if syntax == BIG else "<"
    data = b"".join(_element(each, explicit, order) for each in elements)
    if syntax != DEFLATED:
        return data
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflated = packer.compress(data) + packer.flush()
    return deflated + bytes(len(deflated) % 2)


def meta_bytes(elements: Sequence[Element], with_length: bool = True) -> bytes:
    """Encode the file meta information, which is always explicit and little-endian."""
    data = b"".join(_element(each, True, "<") for each in elements)
    head = _element(Element(0x00020000, "UL", [len(data)]), True, "<") if with_length else b""
    return head + data


def _element(each: Element, explicit: bool, order: str) -> bytes:
    if isinstance(each.value, list) and each.vr == "SQ":
        value = b"".join(_item(item, each.undefined, explicit, order) for item in each.value)
        if each.undefined:
            value += struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
        length = UNDEFINED if each.undefined else len(value)
    else:
        value = _value(each, order)
        length = UNDEFINED if each.undefined else len(value)
    length = length if each.length is None else each.length
    tag = struct.pack(order + "HH", each.tag >> 16, each.tag & 0xFFFF)
    if not explicit:
        return tag + struct.pack(order + "I", length) + value
    if each.vr in _LONG:
        return tag + each.vr.encode() + bytes(2) + struct.pack(order + "I", length) + value
    return tag + each.vr.encode("latin-1") + struct.pack(order + "H", length & 0xFFFF) + value


def _item(elements: Sequence[Element], undefined: bool, explicit: bool, order: str) -> bytes:
    content = b"".join(_element(each, explicit, order) for each in elements)
    if undefined:
        content += struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack(order + "HHI", 0xFFFE, 0xE000, UNDEFINED if undefined else len(content)) + content


def _value(each: Element, order: str) -> bytes:
    value = each.value
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        encoded = value.encode("utf-8", "surrogatepass")
        return encoded + (b"\0" if each.vr == "UI" else b" ") * (len(encoded) % 2)
    if isinstance(value, np.ndarray):
        data = value.astype(value.dtype.newbyteorder(order)).tobytes()
        return data + bytes(len(data) % 2)
    return struct.pack(f"{order}{len(value)}{_NUMBERS[each.vr]}", *value)


def encapsulated(frame: bytes, cuts: Sequence[int] = ()) -> bytes:
    """Return pixel data of one compressed frame, in fragments that end at `cuts`, with an empty offset table."""
    edges = zip([0, *cuts], [*cuts, len(frame)], strict=True)
    fragments = [b"", *(frame[start:end] for start, end in edges)]
    items = [struct.pack("<HHI", 0xFFFE, 0xE000, len(f) + len(f) % 2) + f + bytes(len(f) % 2) for f in fragments]
    return b"".join(items) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)


def nested(depth: int, tag: int, syntax: str) -> bytes:
    """Return the items of a sequence of undefined length that holds itself `depth` times."""
    order = ">" if syntax == BIG else "<"
    begin = _item([], True, syntax != IMPLICIT, order)[:8]
    head = _element(Element(tag, "SQ", b"", undefined=True), syntax != IMPLICIT, order)
    end = struct.pack(order + "HHI", 0xFFFE, 0xE00D, 0) + struct.pack(order + "HHI", 0xFFFE, 0xE0DD, 0)
    return (begin + head) * depth + end[8:] + end * depth


def run_lengths(stored: np.ndarray) -> bytes:
    """Compress (h, w) uint8 or uint16 by RLE (PS3.5, annex G), in literal runs and, of equal bytes, in repetitions."""
    planes = [stored] if stored.dtype == np.uint8 else [(stored >> 8).astype(np.uint8), (stored & 255).astype(np.uint8)]
    segments = [b"".join(_runs(line.tobytes()) for line in plane) for plane in planes]
    segments = [segment + bytes(len(segment) % 2) for segment in segments]
    offsets = np.cumsum([64, *map(len, segments[:-1])]).tolist()
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def _runs(line: bytes) -> bytes:
    out = b""
    for start in range(0, len(line), 100):
        piece = line[start : start + 100]
        same = len(set(piece)) == 1 and len(piece) > 1
        out += bytes([257 - len(piece), piece[0]]) if same else bytes([len(piece) - 1]) + piece
    return out


def compressed(elements: Sequence[Element], syntax: str) -> bytes:
    """Return the frame of a native, explicit dataset in another transfer syntax, by GDCM."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "before.dcm"), Path(folder, "after.dcm")
        before.write_bytes(bytes(128) + b"DICM" + meta_bytes(meta(EXPLICIT)) + dataset_bytes(elements, EXPLICIT))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(before))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(BY_GDCM[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(after))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return next(generate_frames(pydicom.dcmread(io.BytesIO(after.read_bytes())).PixelData, number_of_frames=1))


def meta(syntax: str) -> list[Element]:
    """Return the elements of the file meta information."""
    return [
        Element(0x00020001, "OB", b"\0\1"),
        element("MediaStorageSOPClassUID", "1.2.840.10008.5.1.4.1.1.1"),
        element("MediaStorageSOPInstanceUID", "1.2.826.0.1.3680043.8.498.1"),
        element("TransferSyntaxUID", syntax),
        element("ImplementationClassUID", "1.2.826.0.1.3680043.8.498.2"),
    ]
