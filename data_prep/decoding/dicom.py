"""DICOM decoding to square chest radiographs; other files are rejected with a reason.

h, w: height and width of the image in the file; s: side of the square result. All in pixels.

Grey values are computed as in DICOM PS3.3, sections C.11.1 and C.11.2, and PS3.14: modality LUT or rescale, then VOI
LUT or window (the first of several; without one the image's own range), and MONOCHROME1 is inverted.
Only the attributes listed here are read from a file: patient names and dates of birth are never read. No error
message quotes free text of a file, which may identify the patient.

Decode untrusted files only in `sandbox`: a small file may need much memory or time.
"""

import re
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder, pixel_array
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    UID_dictionary,
)

from data_prep.decoding.radiograph import DICOM_HEAD_BYTES, Radiograph, is_dicom
from data_prep.decoding.raster import MAX_BYTES, check_image_size, resize_to_square
from data_prep.errors import DataError

_RADIOGRAPH_CLASSES = {ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation}
_RADIOGRAPH_MODALITIES = {"CR", "DX", "RG"}  # of a Secondary Capture that is a radiograph; RG: digitised film
_GREY_INTERPRETATIONS = {"MONOCHROME1", "MONOCHROME2"}

# Attributes that may name the body part: first the coded ones, then free text, from the image up to the study.
_BODY_PART_ATTRIBUTES = """
    AnatomicRegionSequence BodyPartExamined SeriesDescription ProtocolName PerformedProcedureStepDescription
    RequestedProcedureDescription StudyDescription"""


def _upper_case_words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", text.upper()))


_CHEST_WORDS = _upper_case_words("chest thorax thoracic torax torace lung lungs pulmo pulmonary cxr hemithorax")
# Body parts of PS3.16, annex L, and their common names. They exclude an image even if a word for the chest stands
# beside them: the thoracic spine and the ribs are other examinations.
_OTHER_BODY_PARTS = _upper_case_words(
    """abdomen abdominal ankle ankles arm back breast calcaneus cervical clavicle coccyx cspine elbow extremity face
    femur femora fibula finger fingers foot feet forearm hand hands head heel hip hips humerus jaw knee knees kub leg
    legs lspine lsspine lumbar mandible maxilla nasal neck orbit orbits patella pelvis pelvic radius rib ribs sacrum
    scapula scoliosis shoulder shoulders sinus sinuses skull spine spinal sternum teeth thigh thumb tibia toe toes
    tspine ulna vertebra vertebrae vertebral whole wholebody wrist wrists zygoma"""
)
# PS3.3, section C.8.1.1.1 (View Position) and PS3.16, CID 4010 (View Code Sequence: SNOMED RT, SNOMED CT).
_VIEW_CODES = {
    "PA": "PA R-10214 272479007",
    "AP": "AP R-10206 399348003",
    "LATERAL": "LL RL LAT LATERAL R-10236 399173006 R-10232 399198007 G-A117 399067008",
}
_VIEWS = {code: view for view, codes in _VIEW_CODES.items() for code in codes.split()}
_OTHER_ATTRIBUTES = """
    SOPClassUID Modality PresentationIntentType BurnedInAnnotation PatientID ViewPosition ViewCodeSequence
    NumberOfFrames SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns BitsAllocated BitsStored
    HighBit PixelRepresentation PixelPaddingValue PixelPaddingRangeLimit ModalityLUTSequence RescaleSlope
    RescaleIntercept VOILUTSequence WindowCenter WindowWidth VOILUTFunction PixelData ExtendedOffsetTable
    ExtendedOffsetTableLengths"""
_META_GROUP = 0x0002  # PS3.10, section 7.1: explicit VR, little endian
_WHITE = 65_535


def decode_dicom(data: bytes, size: int, chest: bool = False) -> Radiograph:
    """Decode one DICOM file to a radiograph of the chest, (s, s) uint8 with s = `size`.

    An image that is not square keeps its aspect ratio and is padded with black bars on both sides. Overlays are
    ignored. An image with Burned In Annotation YES is rejected, because the text in it may be a name.
    `chest`: the user vouches that a file that does not say what it shows is of the chest.

    Raises:
        DataError: the file is damaged, not a radiograph, not of the chest, in colour, or too large, or has several
            frames.
    """
    try:
        dataset = read_attributes(data)
        _check_radiograph(dataset)
        if not chest:
            _check_chest(dataset)
        _check_image(dataset)
        pixels = resize_to_square(render(dataset), size)
        if pixels.min() == pixels.max():
            raise DataError("empty image: all pixels have the same value")
        return Radiograph(pixels, _view(dataset), str(dataset.get("PatientID") or "").strip())
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("decoding needs more memory than is allowed") from error
    except RecursionError as error:
        raise DataError("damaged: sequences are nested too deeply") from error
    except Exception as error:  # on damaged files pydicom raises many types, and quotes the file's content
        raise DataError(f"damaged: the DICOM file cannot be decoded ({type(error).__name__})") from None


def read_attributes(data: bytes) -> FileDataset:
    """Parse the attributes that are needed for decoding, and no others.

    Raises:
        DataError: the file is not DICOM, or is too large, compressed or not.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    if not is_dicom(data):
        raise DataError("not a DICOM file")
    stream = BytesIO(data)
    stream.seek(DICOM_HEAD_BYTES)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(data[stream.tell() :])
    stream.seek(0)
    return pydicom.dcmread(stream, specific_tags=[*_BODY_PART_ATTRIBUTES.split(), *_OTHER_ATTRIBUTES.split()])


def _check_inflated_size(deflated: bytes) -> None:
    """Check the size of a deflated dataset: pydicom inflates without a limit, and 522 KB may become 1 GB."""
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, MAX_BYTES + 1)) > MAX_BYTES:
        raise DataError(f"expands to more than {MAX_BYTES} bytes")


def _check_radiograph(dataset: Dataset) -> None:
    kind = dataset.get("SOPClassUID")
    if kind == DigitalXRayImageStorageForProcessing or dataset.get("PresentationIntentType") == "FOR PROCESSING":
        raise DataError("raw detector values (FOR PROCESSING); export the image FOR PRESENTATION")
    if kind in _RADIOGRAPH_CLASSES:
        return
    if kind != SecondaryCaptureImageStorage:
        name = UID_dictionary[kind][0] if kind in UID_dictionary else "an unknown kind of object"
        raise DataError(f"not a radiograph: {name}")
    if dataset.get("Modality") not in _RADIOGRAPH_MODALITIES:
        raise DataError("not a radiograph: a Secondary Capture whose modality is not CR, DX or RG")


def _check_chest(dataset: Dataset) -> None:
    """Check the body part: the first attribute that names one decides; a file that names none is rejected."""
    for keyword in _BODY_PART_ATTRIBUTES.split():
        value: Any = dataset.get(keyword) or ""
        texts = [item.get("CodeMeaning", "") for item in value] if keyword.endswith("Sequence") else [value]
        words = _upper_case_words(" ".join(map(str, texts)))
        if other_parts := words & _OTHER_BODY_PARTS:
            raise DataError(f"not of the chest: {', '.join(sorted(other_parts)).lower()}")
        if words & _CHEST_WORDS:
            return
    raise DataError("not known to show the chest: neither Body Part Examined nor a description says so")


def _check_image(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        raise DataError("contains no image (Pixel Data)")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        raise DataError(f"{frames} frames; a radiograph has one")
    if dataset.get("PhotometricInterpretation") not in _GREY_INTERPRETATIONS or dataset.get("SamplesPerPixel") != 1:
        raise DataError("a colour image; a radiograph is MONOCHROME1 or MONOCHROME2")
    if dataset.get("BurnedInAnnotation") == "YES":
        raise DataError("text is burned into the image, and it may be a name; export the image without it")
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated not in (8, 16) or not 8 <= stored <= allocated or dataset.HighBit != stored - 1:
        raise DataError(
            f"{stored} bits stored in {allocated}, high bit {dataset.HighBit}; 8 to 16, right-aligned, are read"
        )
    width, height = check_image_size(dataset.Columns, dataset.Rows)
    if width < 1 or height < 1:
        raise DataError(f"image of {width} x {height} pixels")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed and syntax != DeflatedExplicitVRLittleEndian:
        _check_compression(syntax)


def _check_compression(syntax: pydicom.uid.UID) -> None:
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        name = syntax.name if syntax in UID_dictionary else "an unknown transfer syntax"
        raise DataError(f"compressed as {name}, for which there is no decoder")


def render(dataset: Dataset) -> np.ndarray:
    """Return the grey values as a viewer displays them: (h, w) uint16, 0 black and 65,535 white."""
    stored = pixel_array(dataset).astype(np.int32)
    padding = _padding_mask(dataset, stored)
    values, low, high = _apply_window(apply_modality_lut(stored, dataset), dataset, ~padding)
    if not low < high:
        raise DataError("empty image: all pixels have the same value")
    grey = np.rint((np.clip(values, low, high) - low) * (_WHITE / (high - low))).astype(np.uint16)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        np.subtract(_WHITE, grey, out=grey)
    grey[padding] = 0
    return grey


def _padding_mask(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return the mask of pixel padding: (h, w) bool (PS3.3, section C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((value, value if limit is None else limit))
    return (stored >= first) & (stored <= last)


def _apply_window(values: np.ndarray, dataset: Dataset, valid: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Apply the VOI LUT or window to `values` (h, w), after the modality LUT; `valid` (h, w) is False at padding.

    Returns:
        The windowed values (h, w), and the values to show as black and as white.
    """
    if dataset.get("VOILUTSequence"):
        # Some tables declare 16 bits and use 12, so white is the table's highest value.
        high = int(np.max(dataset.VOILUTSequence[0].LUTData))
        return apply_voi_lut(np.rint(values).astype(np.int32), dataset).astype(np.float64), 0.0, high
    if dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        # Values far below and above a window give its black and its white.
        low, high = apply_voi_lut(np.array([-1e9, 1e9]), dataset)
        windowed = apply_voi_lut(values, dataset)
        return (windowed, low, high) if low < high else (-windowed, -low, -high)
    if not valid.any():
        raise DataError("empty image: all pixels are padding")
    return values.astype(np.float64), float(values[valid].min()), float(values[valid].max())


def _view(dataset: Dataset) -> str:
    """Return the view: "PA", "AP", "LATERAL", or "" (not given, oblique, decubitus)."""
    codes = [item.get("CodeValue", "") for item in dataset.get("ViewCodeSequence") or ()]
    named = (_VIEWS.get(str(value).strip().upper()) for value in (dataset.get("ViewPosition"), *codes))
    return next((view for view in named if view), "")
