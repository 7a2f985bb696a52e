"""Chest radiographs out of DICOM files, and everything else set aside with a reason."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForProcessing,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from data_prep.decoding import dicom as dicom_module
from data_prep.decoding.body_part import VOUCH
from data_prep.decoding.dicom import decode_dicom, read_attributes, render
from data_prep.errors import DataError
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset, dicom_file, with_lut

RNG = np.random.default_rng(0)
STORED = RNG.integers(0, 4096, (40, 40), dtype=np.uint16)


def grey(data: bytes) -> np.ndarray:
    """The rendered picture, 0 to 1."""
    return render(read_attributes(data)) / 65_535


# --- The nine real files ---


def real(shared_data: Path, name: str) -> bytes:
    return (shared_data / "dicom" / f"{name}.dcm").read_bytes()


def test_the_real_chest_radiograph_has_dark_lungs_and_bright_bones(shared_data: Path) -> None:
    found = decode_dicom(real(shared_data, "RG1_J2KI"), 512)
    assert (found.view, found.patient_id) == ("PA", "9RG1")
    assert (found.pixels[:, :8] == 0).all(), "1841 x 1955 stands between bars"
    air = found.pixels[20:40, 30:60].mean()  # beside the neck
    lung = found.pixels[60:95, 295:340].mean()  # the patient's left apex
    spine = found.pixels[150:350, 225:265].mean()
    diaphragm = found.pixels[420:480, 80:180].mean()
    assert air < lung < 170 < 220 < spine
    assert diaphragm > 220


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RG3_J2KR", "not of the chest: extremity"),
        ("693_UNCI", "not a radiograph: CT Image Storage"),
        ("bad_sequence", "not a radiograph: CT Image Storage"),
        ("OBXXXX1A", "not a radiograph: Ultrasound Image Storage"),
        ("JPEG-LL", "not a radiograph: a Secondary Capture whose modality is not CR, DX or RG"),
        ("vlut_04", f"not a radiograph: a Secondary Capture whose modality is not CR, DX or RG; {VOUCH}"),
        ("mlut_18", f"not a radiograph: a Secondary Capture whose modality is not CR, DX or RG; {VOUCH}"),
        ("liver_deflate", "not a radiograph: Segmentation Storage"),
    ],
)
def test_the_other_real_files_are_set_aside_with_a_reason(shared_data: Path, name: str, reason: str) -> None:
    with pytest.raises(DataError) as refused:
        decode_dicom(real(shared_data, name), 64)
    assert str(refused.value) == reason


def test_the_voi_lut_of_vlut_04_is_applied(shared_data: Path) -> None:
    """Its table is a ramp over all sixteen bits, so the picture is its stored values stretched to the whole range."""
    dataset = pydicom.dcmread(io.BytesIO(real(shared_data, "vlut_04")))
    table = np.array(dataset.VOILUTSequence[0].LUTData)
    assert np.abs(grey(real(shared_data, "vlut_04")) - table[dataset.pixel_array] / table.max()).max() < 1e-4


def test_the_modality_lut_of_mlut_18_is_applied_to_its_signed_values(shared_data: Path) -> None:
    dataset = pydicom.dcmread(io.BytesIO(real(shared_data, "mlut_18")))
    values = np.array(dataset.ModalityLUTSequence[0].LUTData)[dataset.pixel_array.astype(int) + 2048].astype(float)
    expected = (values - values.min()) / np.ptp(values)
    assert np.abs(grey(real(shared_data, "mlut_18")) - expected).max() < 1e-4


def test_the_leg_is_decoded_losslessly_once_it_is_asked_for(shared_data: Path) -> None:
    """Reversible JPEG 2000, MONOCHROME1, 10 bits, window 550 +- 512: grey falls as the stored value rises."""
    data = real(shared_data, "RG3_J2KR")
    stored = pydicom.dcmread(io.BytesIO(data)).pixel_array.astype(float)
    expected = 1 - np.clip((stored - 549.5) / 1023 + 0.5, 0, 1)
    assert np.abs(grey(data) - expected).max() < 1e-3


# --- Grey values ---


@given(bits=st.integers(8, 16), signed=st.booleans(), inverted=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_without_a_window_the_images_own_range_is_shown(bits: int, signed: bool, inverted: bool, seed: int) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    dtype = np.int16 if signed else np.uint16
    stored = np.random.default_rng(seed).integers(low, high, (12, 9)).astype(dtype)
    data = dicom_file(stored, BitsStored=bits, PhotometricInterpretation=f"MONOCHROME{1 if inverted else 2}")
    expected = (stored.astype(float) - stored.min()) / np.ptp(stored.astype(float))
    assert np.abs(grey(data) - (1 - expected if inverted else expected)).max() < 1e-4


def test_a_window_makes_black_what_lies_below_it_and_white_what_lies_above() -> None:
    stored = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    shown = grey(dicom_file(stored, BitsStored=12, WindowCenter=[800, 1], WindowWidth=[401, 2])).ravel()
    assert (shown[:600] == 0).all()
    assert (shown[1000:] == 1).all()
    assert np.allclose(np.diff(shown[601:999]), 1 / 400, atol=1e-4)


def test_a_sigmoid_window_is_half_way_at_its_centre() -> None:
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    data = dicom_file(stored, BitsStored=12, WindowCenter=1000, WindowWidth=500, VOILUTFunction="SIGMOID")
    shown = grey(data).ravel()
    assert shown[1000] == pytest.approx(0.5, abs=1e-3)
    assert shown[1125] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-3)


@pytest.mark.parametrize("slope", [2.0, -2.0])
def test_the_window_counts_in_rescaled_units_even_where_they_fall(slope: float) -> None:
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    rescaled = stored.ravel() * slope - 100.0
    data = dicom_file(
        stored, BitsStored=12, RescaleSlope=slope, RescaleIntercept=-100, WindowCenter=slope * 1000, WindowWidth=1001
    )
    expected = np.clip((rescaled - (slope * 1000 - 0.5)) / 1000 + 0.5, 0, 1)
    assert np.abs(grey(data).ravel() - expected).max() < 1e-3


def test_a_lut_that_uses_fewer_bits_than_it_says_is_as_bright_as_one_that_does_not() -> None:
    data = dicom_file(STORED, BitsStored=12, **with_lut("VOILUTSequence", list(range(4096)), 0, 16))
    assert np.abs(grey(data).ravel() - STORED.ravel() / 4095).max() < 1e-3


def test_a_lut_is_preferred_to_a_window_and_works_on_rescaled_values() -> None:
    data = dicom_file(
        STORED, BitsStored=12, WindowCenter=10, WindowWidth=2, RescaleSlope=1, RescaleIntercept=-2048,
        **with_lut("VOILUTSequence", list(range(0, 65536, 16)), -2048, 16),
    )  # fmt: skip
    assert np.abs(grey(data) - STORED / 4095).max() < 1e-3


def test_padding_is_black_and_does_not_count_as_the_images_range() -> None:
    stored = STORED // 2 + 1000
    stored[:, :10] = 0
    stored[:, 30:] = 4095
    data = dicom_file(
        stored, BitsStored=12, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095,
    )  # fmt: skip
    shown = grey(data)
    assert (shown[:, 30:] == 0).all()
    data = dicom_file(stored[:, :30], BitsStored=12, PixelPaddingValue=0)
    assert grey(data)[:, 10:].min() == 0
    assert grey(data)[:, 10:].max() == 1


def test_overlays_are_ignored_beside_the_pixels_and_in_their_unused_bits() -> None:
    plain = dicom_file(STORED, BitsStored=12)
    dataset = dicom_dataset(STORED | 0x8000, BitsStored=12)
    dataset.add_new(0x60000010, "US", 40)
    dataset.add_new(0x60000011, "US", 40)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [1, 1])
    dataset.add_new(0x60000100, "US", 16)
    dataset.add_new(0x60000102, "US", 15)
    dataset.add_new(0x60003000, "OW", b"\xff" * 200)
    assert (grey(dicom_bytes(dataset)) == grey(plain)).all()


def test_a_compressed_image_gives_the_pixels_of_the_plain_one() -> None:
    dataset = dicom_dataset(STORED, BitsStored=12)
    dataset.compress(RLELossless)
    plain = decode_dicom(dicom_file(STORED, BitsStored=12), 32)
    assert (decode_dicom(dicom_bytes(dataset), 32).pixels == plain.pixels).all()


def test_an_image_keeps_its_proportions_between_black_bars() -> None:
    pixels = decode_dicom(dicom_file(np.pad(STORED[:, :20] + 1, ((0, 0), (0, 0))), BitsStored=13), 40).pixels
    assert pixels.shape == (40, 40)
    assert (pixels[:, :10] == 0).all()
    assert (pixels[:, 30:] == 0).all()


# --- What is a radiograph of the chest ---


@pytest.mark.parametrize(
    ("attributes", "view"),
    [
        ({"ViewPosition": "AP"}, "AP"),
        ({"ViewPosition": "LL"}, "LATERAL"),
        ({"ViewPosition": "RL"}, "LATERAL"),
        ({"ViewPosition": "LATERAL"}, "LATERAL"),
        ({"ViewPosition": "LLO"}, ""),
        ({"ViewPosition": None}, ""),
        ({"ViewPosition": "", "ViewCodeSequence": [{"CodeValue": "R-10236"}]}, "LATERAL"),
    ],
)
def test_the_view_is_told(attributes: dict[str, object], view: str) -> None:
    if codes := attributes.get("ViewCodeSequence"):
        attributes = attributes | {"ViewCodeSequence": [item(**code) for code in codes]}  # type: ignore[attr-defined]
    assert decode_dicom(dicom_file(STORED, **attributes), 32).view == view


def item(**attributes: str) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"},
        {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "CR"},
        {"BodyPartExamined": None, "StudyDescription": "Thorax p.a. im Stehen"},
        {"BodyPartExamined": "", "SeriesDescription": "Chest PA", "StudyDescription": "Chest and abdomen"},
        {"BodyPartExamined": "UNKNOWN", "ProtocolName": "CXR portable"},
        {"BodyPartExamined": None, "AnatomicRegionSequence": [item(CodeMeaning="Chest")]},
    ],
)
def test_a_radiograph_of_the_chest_is_known_by_what_is_nearest_to_it(attributes: dict[str, object]) -> None:
    assert decode_dicom(dicom_file(STORED, **attributes), 32).pixels.any()


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"BodyPartExamined": "KNEE"}, "not of the chest: knee"),
        ({"BodyPartExamined": "KNEE", "StudyDescription": "CHEST"}, "not of the chest: knee"),
        ({"BodyPartExamined": "TSPINE"}, "not of the chest: tspine"),
        ({"BodyPartExamined": None, "StudyDescription": "Thoracic spine"}, "not of the chest: spine"),
        ({"BodyPartExamined": None, "StudyDescription": "Follow-up, Mrs Chester"}, "not known to show the chest"),
        ({"BodyPartExamined": None}, "not known to show the chest"),
        ({"AnatomicRegionSequence": [item(CodeMeaning="Pelvis")]}, "not of the chest: pelvis"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}, "not a radiograph: a Secondary Capture"),
        ({"SOPClassUID": "1.2.3.4"}, "not a radiograph: an unknown kind of object"),
        ({"SOPClassUID": DigitalXRayImageStorageForProcessing}, "raw detector values"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw detector values"),
        ({"NumberOfFrames": 12}, "12 frames; a radiograph has one"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour image"),
        ({"BurnedInAnnotation": "YES"}, "text is burned into the image"),
        ({"BitsStored": 12, "HighBit": 15}, "12 bits stored in 16, high bit 15"),
        ({"Rows": 60_000, "Columns": 60_000}, "image of 60000 x 60000 pixels; the limit is 16777216"),
        ({"Rows": 0}, "image of 40 x 0 pixels"),
        ({"Rows": 41}, "damaged"),
        ({"WindowCenter": 60_000, "WindowWidth": 2}, "empty image"),
    ],
)
def test_what_is_no_readable_radiograph_of_the_chest_is_refused(attributes: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=f"^{reason}"):
        decode_dicom(dicom_file(STORED, **attributes), 32)


def test_a_constant_image_and_an_object_without_one_are_refused() -> None:
    with pytest.raises(DataError, match="empty image: all pixels have the same value"):
        decode_dicom(dicom_file(np.full((9, 9), 7, dtype=np.uint16)), 32)
    dataset = dicom_dataset(STORED)
    del dataset.PixelData
    with pytest.raises(DataError, match="contains no image"):
        decode_dicom(dicom_bytes(dataset), 32)


def test_no_reason_quotes_what_a_person_may_have_typed() -> None:
    for keyword in ("StudyDescription", "BodyPartExamined", "Modality", "PhotometricInterpretation", "ViewPosition"):
        data = dicom_file(STORED, **{"BodyPartExamined": None, keyword: "DOE^JANE"})
        with pytest.raises(DataError) as refused:
            decode_dicom(data, 32)
        assert "DOE" not in str(refused.value)
        assert refused.value.__cause__ is None


# --- What a user vouches for ---


def vouched_pixels(**attributes: object) -> np.ndarray:
    return decode_dicom(dicom_file(STORED, **attributes), 32, chest=True).pixels


@pytest.mark.parametrize("modality", [None, "", "OT", "CR", "DX", "RG", "XYZ"])
@pytest.mark.parametrize("kind", [None, "1.2.3.4", SecondaryCaptureImageStorage])
def test_a_vouch_fills_in_what_a_file_does_not_say(kind: str | None, modality: str | None) -> None:
    untold: dict[str, object] = {"BodyPartExamined": None, "StudyDescription": "Knee?", "Modality": modality}
    data = (
        without_class(dicom_dataset(STORED, **untold))
        if kind is None
        else dicom_file(STORED, **untold, SOPClassUID=kind)
    )
    assert decode_dicom(data, 32, chest=True).pixels.any()
    with pytest.raises(DataError, match=VOUCH if modality not in ("CR", "DX", "RG") else "not "):
        decode_dicom(data, 32)


def without_class(dataset: Dataset) -> bytes:
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.3"  # which the writer would take from the data set
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    del dataset.SOPClassUID
    return dicom_bytes(dataset)


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"SOPClassUID": CTImageStorage}, "not a radiograph: CT Image Storage"),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "US"}, "not a radiograph: a Secondary Capture"),
        ({"SOPClassUID": "1.2.3.4", "Modality": "MG"}, "not a radiograph: an unknown kind of object"),
        ({"BodyPartExamined": "HAND"}, "not of the chest: hand"),
        ({"PhotometricInterpretation": "RGB"}, "a colour image"),
        ({"NumberOfFrames": 12}, "12 frames"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "raw detector values"),
        ({"BurnedInAnnotation": "YES"}, "text is burned into the image"),
    ],
)
def test_a_vouch_does_not_overrule_what_a_file_says(attributes: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=f"^{reason}"):
        vouched_pixels(**attributes)


def test_the_published_files_without_kind_and_part_are_taken_only_with_a_vouch(shared_data: Path) -> None:
    files = sorted((shared_data / "cases" / "20-vindr-dicom" / "in").glob("*.dicom"))
    assert len(files) == 8
    for file in files:
        assert np.ptp(decode_dicom(file.read_bytes(), 64, chest=True).pixels) > 200
        with pytest.raises(DataError, match=f"not a radiograph: an unknown kind of object; {VOUCH}"):
            decode_dicom(file.read_bytes(), 64)


# --- Hostile files ---


def test_a_file_cut_anywhere_is_refused() -> None:
    data = dicom_file(STORED)
    for end in [*range(0, 1200, 37), *range(1200, len(data), 211), len(data) - 1]:
        with pytest.raises(DataError):
            decode_dicom(data[:end], 32)


def test_a_png_in_dicoms_clothes_is_refused() -> None:
    with pytest.raises(DataError, match="not a DICOM file"):
        decode_dicom(b"\x89PNG\r\n\x1a\n" + bytes(300), 32)
    with pytest.raises(DataError, match=r"damaged|not a radiograph"):
        decode_dicom(bytes(128) + b"DICM" + b"\x89PNG\r\n\x1a\n" + bytes(300), 32)


def deflated(content: bytes) -> bytes:
    """A file of a deflated transfer syntax, `content` behind its head."""
    syntax = b"1.2.840.10008.1.2.1.99"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    length = struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element))
    return bytes(128) + b"DICM" + length + element + content


def test_a_deflated_bomb_is_refused_before_it_expands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_module, "MAX_BYTES", 2**20)
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    with pytest.raises(DataError, match="expands to more than 1048576 bytes"):
        decode_dicom(deflated(raw.compress(bytes(2**24)) + raw.flush()), 32)


def test_sequences_nested_too_deeply_are_refused() -> None:
    opened = struct.pack("<HH2sHI", 0x0008, 0x2218, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    with pytest.raises(DataError, match="damaged: sequences are nested too deeply"):
        decode_dicom(dicom_file(STORED)[:132] + meta() + opened * 5000, 32)


def meta() -> bytes:
    syntax = b"1.2.840.10008.1.2.1\0"
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    return struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(element)) + element


@given(st.binary(max_size=400))
def test_arbitrary_bytes_end_in_a_data_error(noise: bytes) -> None:
    for head in (b"", bytes(128) + b"DICM", bytes(128) + b"DICM" + meta()):
        with pytest.raises(DataError):
            decode_dicom(head + noise, 16)


@given(st.integers(-40, 40), st.sampled_from(["Rows", "Columns"]))
def test_native_pixels_of_another_number_than_the_size_says_are_refused(change: int, side: str) -> None:
    stored = np.random.default_rng(40 + change).integers(1, 4096, (60, 60)).astype(np.uint16)
    data = dicom_file(stored, BitsStored=12, **{side: 60 + change})
    if change == 0:
        decode_dicom(data, 32)
        return
    with pytest.raises(DataError, match=r"damaged: 7200 bytes of pixels; an image of this size and depth has \d+$"):
        decode_dicom(data, 32)


def test_native_pixels_may_be_filled_up_with_zeros() -> None:
    dataset = dicom_dataset(np.random.default_rng(1).integers(1, 4096, (60, 60)).astype(np.uint16), BitsStored=12)
    dataset.PixelData += bytes(100)
    decode_dicom(dicom_bytes(dataset), 32)


def test_compressed_pixels_that_are_said_to_be_native_are_refused() -> None:
    dataset = dicom_dataset(np.random.default_rng(1).integers(1, 4096, (60, 60)).astype(np.uint16), BitsStored=12)
    dataset.compress("1.2.840.10008.1.2.5")
    data = dicom_bytes(dataset).replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0")
    with pytest.raises(DataError, match="the pixels are compressed, and the file says that they are not"):
        decode_dicom(data, 32)


@given(st.integers(1, 59))
def test_rle_pixels_of_another_number_than_the_size_says_are_refused(rows: int) -> None:
    dataset = dicom_dataset(np.random.default_rng(rows).integers(1, 4096, (60, 60)).astype(np.uint16), BitsStored=12)
    dataset.compress("1.2.840.10008.1.2.5")
    dataset.Rows = rows
    with pytest.raises(DataError, match="damaged: the DICOM file cannot be decoded"):
        decode_dicom(dicom_bytes(dataset), 32)
