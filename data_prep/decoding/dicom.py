"""From the bytes of a DICOM file to a chest radiograph, or to the reason why it is none.

h, w: height and width of the image in the file; s: side of the square that comes out. All in pixels.

The grey values go the way of DICOM PS3.3, sections C.11.1 and C.11.2 and PS3.14: modality LUT or rescale, VOI LUT
or window (the first, where there are several; without one the image's own range), and MONOCHROME1 inverted.
Only the attributes named here are taken from a file: a name or a date of birth is never even looked at. No reason
quotes a file's free text, where identity may stand.

Run it on files from outside in `sandbox` only: a small file may ask for much memory or time.
"""

import re
import zlib
from collections.abc import Iterator
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
from data_prep.decoding.raster import MAX_BYTES, check_pixels, fit
from data_prep.errors import DataError

_RADIOGRAPHS = {ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation}
_RADIOGRAPHIC = {"CR", "DX", "RG"}  # modalities of a Secondary Capture that is a radiograph; RG: film, digitised
_GREY = {"MONOCHROME1", "MONOCHROME2"}

# Where a file may say which part of the body it shows: what is coded first, then what is nearest to the image.
_PLACES = (
    "AnatomicRegionSequence", "BodyPartExamined", "SeriesDescription", "ProtocolName",
    "PerformedProcedureStepDescription", "RequestedProcedureDescription", "StudyDescription",
)  # fmt: skip


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]+", text.upper()))


_CHEST = _words("chest thorax thoracic torax torace lung lungs pulmo pulmonary cxr hemithorax")
# Body parts of PS3.16, annex L, and their common names. They rule the chest out even beside one of its words: the
# thoracic spine and the ribs are other examinations.
_ELSEWHERE = _words(
    """abdomen abdominal ankle ankles arm back breast calcaneus cervical clavicle coccyx cspine elbow extremity face
    femur femora fibula finger fingers foot feet forearm hand hands head heel hip hips humerus jaw knee knees kub leg
    legs lspine lsspine lumbar mandible maxilla nasal neck orbit orbits patella pelvis pelvic radius rib ribs sacrum
    scapula scoliosis shoulder shoulders sinus sinuses skull spine spinal sternum teeth thigh thumb tibia toe toes
    tspine ulna vertebra vertebrae vertebral whole wholebody wrist wrists zygoma"""
)
# PS3.3, section C.8.1.1.1 (View Position) and PS3.16, CID 4010 (View Code Sequence: SNOMED RT, SNOMED CT).
_VIEWS = {
    "PA": "PA", "R-10214": "PA", "272479007": "PA",
    "AP": "AP", "R-10206": "AP", "399348003": "AP",
    "LL": "LATERAL", "RL": "LATERAL", "LAT": "LATERAL", "LATERAL": "LATERAL",
    "R-10236": "LATERAL", "399173006": "LATERAL", "R-10232": "LATERAL", "399198007": "LATERAL",
    "G-A117": "LATERAL", "399067008": "LATERAL",
}  # fmt: skip
_NEEDED = (
    *_PLACES, "SOPClassUID", "Modality", "PresentationIntentType", "BurnedInAnnotation", "PatientID",
    "ViewPosition", "ViewCodeSequence", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation",
    "PlanarConfiguration", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "PixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
)  # fmt: skip
_META_GROUP = 0x0002  # PS3.10, section 7.1: explicit VR, little endian
_WHITE = 65_535


def decode_dicom(data: bytes, size: int) -> Radiograph:
    """Decode one DICOM file to a radiograph of the chest, (s, s) uint8 with s = `size`.

    An image that is not square keeps its proportions and stands in the middle of black bars. Overlays are
    ignored; an image that says that text is burned into it is refused, for the text may be a name.

    Raises DataError with the reason: damaged, no radiograph, not of the chest, several frames, colour, too large.
    """
    try:
        dataset = read(data)
        _check_radiograph(dataset)
        _check_chest(dataset)
        _check_image(dataset)
        pixels = fit(render(dataset), size)
        if pixels.min() == pixels.max():
            raise DataError("nothing to see: all pixels have one value")
        return Radiograph(pixels, _view(dataset), str(dataset.get("PatientID") or "").strip())
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("decoding needs more memory than is allowed") from error
    except RecursionError as error:
        raise DataError("damaged: sequences are nested too deeply") from error
    except Exception as error:  # pydicom raises almost anything at a damaged file, and quotes what it found
        raise DataError(f"damaged: the DICOM file cannot be decoded ({type(error).__name__})") from None


def read(data: bytes) -> FileDataset:
    """Parse the attributes that are needed here, and leave all others."""
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    if not is_dicom(data):
        raise DataError("not a DICOM file")
    stream = BytesIO(data)
    stream.seek(DICOM_HEAD_BYTES)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated(data[stream.tell() :])
    stream.seek(0)
    return pydicom.dcmread(stream, specific_tags=list(_NEEDED))


def _check_inflated(deflated: bytes) -> None:
    """pydicom inflates without a limit: 522 KB may become 1 GB."""
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, MAX_BYTES + 1)) > MAX_BYTES:
        raise DataError(f"expands to more than {MAX_BYTES} bytes")


def _check_radiograph(dataset: Dataset) -> None:
    kind = dataset.get("SOPClassUID")
    if kind == DigitalXRayImageStorageForProcessing or dataset.get("PresentationIntentType") == "FOR PROCESSING":
        raise DataError("raw detector values, meant for processing; export the image for presentation")
    if kind in _RADIOGRAPHS:
        return
    if kind != SecondaryCaptureImageStorage:
        name = UID_dictionary[kind][0] if kind in UID_dictionary else "an unknown kind of object"
        raise DataError(f"not a radiograph: {name}")
    if dataset.get("Modality") not in _RADIOGRAPHIC:
        raise DataError("not a radiograph: a Secondary Capture whose modality is none of CR, DX and RG")


def _check_chest(dataset: Dataset) -> None:
    """The first attribute that names a part of the body decides; if none does, nobody knows what is shown."""
    for words in _body_words(dataset):
        if elsewhere := words & _ELSEWHERE:
            raise DataError(f"not of the chest: {', '.join(sorted(elsewhere)).lower()}")
        if words & _CHEST:
            return
    raise DataError("not known to show the chest: neither Body Part Examined nor a description says so")


def _body_words(dataset: Dataset) -> Iterator[set[str]]:
    for keyword in _PLACES:
        value: Any = dataset.get(keyword) or ""
        texts = [item.get("CodeMeaning", "") for item in value] if keyword.endswith("Sequence") else [value]
        yield _words(" ".join(map(str, texts)))


def _check_image(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        raise DataError("holds no image")
    if (frames := int(dataset.get("NumberOfFrames") or 1)) != 1:
        raise DataError(f"{frames} frames; a radiograph has one")
    if dataset.get("PhotometricInterpretation") not in _GREY or dataset.get("SamplesPerPixel") != 1:
        raise DataError("a colour image; a radiograph is MONOCHROME1 or MONOCHROME2")
    if dataset.get("BurnedInAnnotation") == "YES":
        raise DataError("text is burned into the image, and it may be a name; export it without")
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated not in (8, 16) or not 8 <= stored <= allocated or dataset.HighBit != stored - 1:
        raise DataError(
            f"{stored} bits in {allocated}, the highest {dataset.HighBit}; 8 to 16, right-aligned, are read"
        )
    width, height = check_pixels(dataset.Columns, dataset.Rows)
    if width < 1 or height < 1:
        raise DataError(f"picture of {width} x {height} pixels")
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
    """Return the grey values as they are meant to be seen: (h, w) uint16, 0 black and 65,535 white."""
    stored = pixel_array(dataset).astype(np.int32)
    padding = _padding(dataset, stored)
    values, low, high = _windowed(apply_modality_lut(stored, dataset), dataset, ~padding)
    if not low < high:
        raise DataError("nothing to see: all pixels have one value")
    grey = np.rint((np.clip(values, low, high) - low) * (_WHITE / (high - low))).astype(np.uint16)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        np.subtract(_WHITE, grey, out=grey)
    grey[padding] = 0
    return grey


def _padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return where the image was filled up to a rectangle: (h, w) bool (PS3.3, section C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((value, value if limit is None else limit))
    return (stored >= first) & (stored <= last)


def _windowed(values: np.ndarray, dataset: Dataset, shown: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Return the values after the VOI LUT or window, and which of them are black and white."""
    if dataset.get("VOILUTSequence"):
        # Some say 16 bits and use 12: the white of such a table is its own highest value.
        high = int(np.max(dataset.VOILUTSequence[0].LUTData))
        return apply_voi_lut(np.rint(values).astype(np.int32), dataset).astype(np.float64), 0.0, high
    if dataset.get("WindowWidth") is not None and dataset.get("WindowCenter") is not None:
        # What lies far outside a window on either side becomes its black and its white.
        low, high = apply_voi_lut(np.array([-1e9, 1e9]), dataset)
        windowed = apply_voi_lut(values, dataset)
        return (windowed, low, high) if low < high else (-windowed, -low, -high)
    if not shown.any():
        raise DataError("nothing to see: all pixels are padding")
    return values.astype(np.float64), float(values[shown].min()), float(values[shown].max())


def _view(dataset: Dataset) -> str:
    """Return "PA", "AP", "LATERAL" or "" (not said, oblique, decubitus)."""
    codes = [item.get("CodeValue", "") for item in dataset.get("ViewCodeSequence") or ()]
    named = (_VIEWS.get(str(value).strip().upper()) for value in (dataset.get("ViewPosition"), *codes))
    return next((view for view in named if view), "")
