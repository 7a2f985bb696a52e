"""Whatever stands in an attribute, in whatever value representation: no reason quotes it."""

import io
import struct

import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from data_prep.decoding.dicom import ATTRIBUTES, decode_dicom
from data_prep.errors import DataError
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset

STORED = np.random.default_rng(0).integers(0, 4096, (16, 16), dtype=np.uint16)
CANARIES = ("CNRY", "JANE", "MRN47")
VALUES = [b"CNRY^JANE MRN4711 ", b"12\\CNRY^JANE", b"CNRY^JANE\\3\\MRN47", "CNRYé JANE  MRN47".encode()]
SHORT = b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
LONG = b"OB OD OF OL OV OW SV UC UN UR UT UV".split()
META = ("TransferSyntaxUID", "MediaStorageSOPClassUID", "ImplementationVersionName")


def element(keyword: str, representation: bytes, value: bytes) -> bytes:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, representation)
    return (
        head
        + struct.pack("<H" if representation in SHORT else "<HI", *([0] * (representation in LONG)), len(value))
        + value
    )


def sequence(keyword: str, value: bytes) -> bytes:
    """A sequence of one item that says `value` for everything that is asked of an item."""
    asked = [("CodeValue", b"SH"), ("CodeMeaning", b"LO"), ("LUTDescriptor", b"LO"), ("LUTData", b"LO")]
    content = b"".join(element(name, representation, value) for name, representation in asked)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content
    return element(keyword, b"UN", item).replace(b"UN\0\0", b"SQ\0\0", 1)


def file_with(keyword: str, planted: bytes) -> bytes:
    """A radiograph in which `planted` stands for the attribute, in its place."""
    tag = tag_for_keyword(keyword)
    assert tag is not None
    dataset = dicom_dataset(STORED, BitsStored=12)
    meta, content = head_and_content(dataset)
    if tag >> 16 == 2:
        kept = b"" if keyword == "TransferSyntaxUID" else meta[12:]
        elements = kept + planted if keyword != "MediaStorageSOPClassUID" else planted + kept
        return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(elements)) + elements + content
    before, behind = Dataset(), Dataset()
    for each in dataset:
        if each.tag != tag:
            (before if each.tag < tag else behind).add(each)
    return bytes(128) + b"DICM" + meta + explicit(before) + planted + explicit(behind)


def head_and_content(dataset: Dataset) -> tuple[bytes, bytes]:
    file = dicom_bytes(dataset)
    (length,) = struct.unpack_from("<I", file, 140)
    return file[132 : 144 + length], file[144 + length :]


def explicit(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, implicit_vr=False, little_endian=True)
    return stream.getvalue()


def plantings(keyword: str) -> list[bytes]:
    """An attribute that holds each value in each representation, whole and cut."""
    return [
        planted
        for value in VALUES
        for planted in (
            sequence(keyword, value),
            *(element(keyword, representation, value) for representation in (*SHORT, *LONG)),
            *(element(keyword, representation, value[:8]) for representation in (*SHORT, *LONG)),
        )
    ]


@pytest.mark.parametrize("share", [0.05, pytest.param(1.0, marks=pytest.mark.long)], ids=["quick", "long"])
def test_no_reason_quotes_an_attribute_in_any_representation(share: float) -> None:
    rng = np.random.default_rng(0)
    refused = 0
    for keyword in (*ATTRIBUTES, *META):
        for planted in plantings(keyword):
            if rng.random() < share:
                refused += reason_is_ours(file_with(keyword, planted), chest=bool(rng.integers(2)))
    assert refused > 5000 * share


def reason_is_ours(data: bytes, chest: bool) -> bool:
    """Check the reason, if there is one."""
    try:
        assert decode_dicom(data, 16, chest).view in ("", "PA", "AP", "LATERAL")
        return False
    except DataError as error:
        reason, cause = str(error), error.__cause__
    assert not [canary for canary in CANARIES if canary.lower() in reason.lower()], reason
    assert reason.isascii()
    assert cause is None
    return True
