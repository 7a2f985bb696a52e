"""DICOM without preamble, prefix, file meta information or transfer syntax is read where it is unmistakable."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from data_prep.decoding.dicom import decode_dicom
from data_prep.decoding.dicom_head import is_bare_dataset
from data_prep.errors import DataError
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset, dicom_file, in_big_endian

STORED = np.random.default_rng(0).integers(0, 4096, (40, 40), dtype=np.uint16)
WHOLE = decode_dicom(dicom_file(STORED, BitsStored=12), 32).pixels
FIRST_ATTRIBUTES = {
    "SpecificCharacterSet": "ISO_IR 100",
    "ImageType": ["DERIVED", "PRIMARY", "POST_PROCESSED"],
    "InstanceCreationDate": "20200101",
    "InstanceCreationTime": "101112",
    "StudyDate": "20200101",
    "AccessionNumber": "1234",
    "WindowCenter": 2048,
}
PREAMBLE = bytes(128) + b"DICM"


def split(file: bytes) -> tuple[bytes, bytes]:
    """The file meta information and the data set of a file."""
    (length,) = struct.unpack_from("<I", file, 140)
    return file[132 : 144 + length], file[144 + length :]


def meta_without_syntax() -> bytes:
    element = struct.pack("<HH2sH", 2, 2, b"UI", 10) + b"1.2.3.4.5\0"
    return struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element


def in_syntax(syntax: str, attributes: dict[str, object]) -> bytes:
    dataset = dicom_dataset(STORED, BitsStored=12, **attributes)
    if syntax == "big endian":
        return in_big_endian(dataset)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if syntax == "implicit" else ExplicitVRLittleEndian
    return dicom_bytes(dataset)


@given(
    syntax=st.sampled_from(["implicit", "explicit", "big endian"]),
    head=st.sampled_from(["nothing", "only the prefix", "meta without preamble", "no syntax", "no syntax or preamble"]),
    first=st.sets(st.sampled_from(sorted(FIRST_ATTRIBUTES))),
)
def test_any_data_set_without_a_part_of_its_head_shows_the_same(syntax: str, head: str, first: set[str]) -> None:
    meta, content = split(in_syntax(syntax, {keyword: FIRST_ATTRIBUTES[keyword] for keyword in first}))
    heads = {
        "nothing": b"",
        "only the prefix": PREAMBLE,
        "meta without preamble": meta,
        "no syntax": PREAMBLE + meta_without_syntax(),
        "no syntax or preamble": meta_without_syntax(),
    }
    assert (decode_dicom(heads[head] + content, 32).pixels == WHOLE).all()


def test_the_published_files_without_a_head_are_read(shared_data: Path) -> None:
    files = sorted((shared_data / "cases" / "09-dicom-no-meta" / "in").glob("*.dcm"))
    assert len(files) == 8
    pictures = [decode_dicom(file.read_bytes(), 64).pixels for file in files]
    assert all((picture == pictures[0]).all() for picture in pictures)
    assert np.ptp(pictures[0]) == 255


def test_compressed_pixels_whose_syntax_is_missing_name_what_is_missing() -> None:
    dataset = dicom_dataset(STORED, BitsStored=12)
    dataset.compress(RLELossless)
    _, content = split(dicom_bytes(dataset))
    for head in (b"", PREAMBLE):
        with pytest.raises(DataError, match=r"^the file meta information is missing"):
            decode_dicom(head + content, 32)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_behind_a_first_group_end_in_a_data_error(noise: bytes) -> None:
    for group in (b"\2\0", b"\x08\0", b"\0\x02", b"\0\x08"):
        with pytest.raises(DataError):
            decode_dicom(group + noise, 16)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".jp2", ".webp"])
def test_pictures_are_no_data_sets(suffix: str) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    encoded, image = cv2.imencode(suffix, picture)
    assert encoded
    assert not is_bare_dataset(image.tobytes()[:132])


@given(
    st.sampled_from([b"image,patient,Mass\n", b"PK\3\4", b"\x1f\x8b", b"%PDF", bytes(2), b"{"]), st.binary(max_size=200)
)
def test_other_files_are_no_data_sets(begin: bytes, content: bytes) -> None:
    assert not is_bare_dataset(begin + content)
