"""DICOM decoding to square chest radiographs; other files are rejected with a reason.

h, w: height and width of the image in the file; s: side of the square result. All in pixels.

Only the attributes listed here are read from a file: patient names and dates of birth are never read. No error
message quotes a value of a file, which may identify the patient: it consists of our words, numbers, and names of the
standard.

Decode untrusted files only in `sandbox`: a small file may need much memory or time.
"""

import warnings
import zlib
from io import BytesIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.filereader import read_dataset
from pydicom.pixels import get_decoder, pixel_array
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    UID_dictionary,
)

from data_prep.decoding.body_part import CODED_ATTRIBUTES, DESCRIPTIONS, VOUCH, check_chest
from data_prep.decoding.dicom_values import items_of, text_of, value_of, whole_number_of
from data_prep.decoding.grey_values import GREY_ATTRIBUTES, grey_values
from data_prep.decoding.picture_check import check_picture
from data_prep.decoding.pixel_aspect import ASPECT_ATTRIBUTES, with_square_pixels
from data_prep.decoding.radiograph import DICOM_HEAD_BYTES, Radiograph, holds_dicom, is_dicom
from data_prep.decoding.raster import MAX_BYTES, check_image_size, resize_to_square
from data_prep.errors import DataError

_RADIOGRAPH_CLASSES = {ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation}
_RADIOGRAPH_MODALITIES = frozenset(
    {"CR", "DX", "RG"}
)  # of a Secondary Capture that is a radiograph; RG: digitised film
# PS3.3, C.7.3.1.1.1: of an object that is none, whatever a user says. OT (other) and unknown ones say nothing.
_OTHER_MODALITIES = """
    AR ASMT AU BDUS BI BMD CFM CT CTPROTOCOL DG DMS DOC DSS ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER
    KO LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS PA PLAN POS PR PT PX REG RESP RF RTDOSE RTIMAGE
    RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC"""
_GREY_INTERPRETATIONS = {"MONOCHROME1", "MONOCHROME2"}

# PS3.3, section C.8.1.1.1 (View Position) and PS3.16, CID 4010 (View Code Sequence: SNOMED RT, SNOMED CT).
_VIEW_CODES = {
    "PA": "PA R-10214 272479007",
    "AP": "AP R-10206 399348003",
    "LATERAL": "LL RL LAT LATERAL R-10236 399173006 R-10232 399198007 G-A117 399067008",
}
_VIEWS = {code: view for view, codes in _VIEW_CODES.items() for code in codes.split()}
_IMAGE_ATTRIBUTES = """
    SOPClassUID Modality PresentationIntentType BurnedInAnnotation PatientID ViewPosition ViewCodeSequence
    NumberOfFrames SamplesPerPixel PhotometricInterpretation PlanarConfiguration Rows Columns BitsAllocated BitsStored
    HighBit PixelRepresentation PixelData ExtendedOffsetTable ExtendedOffsetTableLengths"""
ATTRIBUTES = [*_IMAGE_ATTRIBUTES.split(), *CODED_ATTRIBUTES, *DESCRIPTIONS, *GREY_ATTRIBUTES, *ASPECT_ATTRIBUTES]
_META_GROUP = 0x0002  # PS3.10, section 7.1: explicit VR, little endian


def decode_dicom(data: bytes, size: int, chest: bool = False) -> Radiograph:
    """Decode one DICOM file to a radiograph of the chest, (s, s) uint8 with s = `size`.

    An image that is not square keeps its aspect ratio and is padded with black bars on both sides. Overlays are
    ignored. An image with Burned In Annotation YES is rejected, because the text in it may be a name.
    `chest`: the user vouches that it is a chest radiograph, where the file does not say what it is.

    Raises:
        DataError: the file is damaged, not a radiograph, not of the chest, in colour, or too large, or has several
            frames.
        MemoryError: there is not enough memory.
    """
    try:
        dataset = read_attributes(data)
        _check_radiograph(dataset, chest)
        check_chest(dataset, chest)
        _check_image(dataset)
        pixels = resize_to_square(render(dataset), size)
        check_picture(pixels)
        patient = str(value_of(dataset, "PatientID") or "").strip()
        rows, columns = (whole_number_of(dataset, name) for name in ("Rows", "Columns"))
        return Radiograph(pixels, _view(dataset), patient, rows, columns)
    except (DataError, MemoryError):
        raise
    except RecursionError as error:
        raise DataError("damaged: sequences are nested too deeply") from error
    except Exception as error:  # on damaged files pydicom raises many types, and quotes the file's content
        raise DataError(f"damaged: the DICOM file cannot be decoded ({type(error).__name__})") from None


def read_attributes(data: bytes) -> FileDataset:
    """Parse the attributes that are needed for decoding, and no others.

    A file without meta information is read as its first elements show: implicit or explicit, little or big endian.

    Raises:
        DataError: the file is not DICOM, or is too large, compressed or not.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"file of {len(data)} bytes; the limit is {MAX_BYTES}")
    if not holds_dicom(data):
        raise DataError("not a DICOM file")
    stream = BytesIO(data)
    stream.seek(DICOM_HEAD_BYTES if is_dicom(data) else 0)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != _META_GROUP)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated_size(data[stream.tell() :])
    stream.seek(0)
    dataset = pydicom.dcmread(stream, force=True, specific_tags=ATTRIBUTES)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        dataset.file_meta.TransferSyntaxUID = _found_syntax(dataset)
    return dataset


def _check_inflated_size(deflated: bytes) -> None:
    """Check the size of a deflated dataset: pydicom inflates without a limit, and 522 KB may become 1 GB."""
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(deflated, MAX_BYTES + 1)) > MAX_BYTES:
        raise DataError(f"expands to more than {MAX_BYTES} bytes")


def _found_syntax(dataset: FileDataset) -> UID:
    """Return the transfer syntax that a file does not name, as pydicom has found it."""
    if "PixelData" in dataset and dataset["PixelData"].is_undefined_length:
        raise DataError(
            "the file meta information is missing, which says how the pixels are compressed; export the image anew, "
            "as a DICOM file with its meta information (Part 10)"
        )
    implicit, little_endian = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian


def _check_radiograph(dataset: Dataset, vouched: bool) -> None:
    """Check the kind of object; what the user vouches for counts where the file names none that is known."""
    kind, modality = str(value_of(dataset, "SOPClassUID") or ""), text_of(dataset, "Modality")
    if kind == DigitalXRayImageStorageForProcessing or text_of(dataset, "PresentationIntentType") == "FOR PROCESSING":
        raise DataError("raw detector values (FOR PROCESSING); export the image FOR PRESENTATION")
    captured = kind == SecondaryCaptureImageStorage
    if kind in _RADIOGRAPH_CLASSES or (captured and modality in _RADIOGRAPH_MODALITIES):
        return
    if kind in UID_dictionary and not captured:
        raise DataError(f"not a radiograph: {UID_dictionary[kind][0]}")
    reason = "a Secondary Capture whose modality is not CR, DX or RG" if captured else "an unknown kind of object"
    if modality in _OTHER_MODALITIES.split():
        raise DataError(f"not a radiograph: {reason}")
    if not vouched:
        raise DataError(f"not a radiograph: {reason}; {VOUCH}")


def _check_image(dataset: FileDataset) -> None:
    if "PixelData" not in dataset:
        raise DataError("contains no image (Pixel Data)")
    if (frames := whole_number_of(dataset, "NumberOfFrames", 1)) not in (0, 1):
        raise DataError(f"{frames} frames; a radiograph has one")
    samples = whole_number_of(dataset, "SamplesPerPixel")
    if text_of(dataset, "PhotometricInterpretation") not in _GREY_INTERPRETATIONS or samples != 1:
        raise DataError("a colour image; a radiograph is MONOCHROME1 or MONOCHROME2")
    if text_of(dataset, "BurnedInAnnotation") == "YES":
        raise DataError("text is burned into the image, and it may be a name; export the image without it")
    _check_bits(dataset)
    width, height = check_image_size(whole_number_of(dataset, "Columns"), whole_number_of(dataset, "Rows"))
    if width < 1 or height < 1:
        raise DataError(f"image of {width} x {height} pixels")
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    _check_compression(syntax)
    if not syntax.is_encapsulated:
        _check_pixel_bytes(dataset, width * height * whole_number_of(dataset, "BitsAllocated") // 8)


def _check_pixel_bytes(dataset: FileDataset, expected: int) -> None:
    """Check that native pixels are as many bytes as one image of the stated size has; zeros may fill them up."""
    element = dataset["PixelData"]
    if element.is_undefined_length:
        raise DataError("damaged: the pixels are compressed, and the file says that they are not")
    if len(element.value) < expected or element.value[expected:].strip(b"\0"):
        raise DataError(
            f"damaged: {len(element.value)} bytes of pixels; an image of this size and depth has {expected}"
        )


def _check_bits(dataset: Dataset) -> None:
    allocated, stored, high = (whole_number_of(dataset, name) for name in ("BitsAllocated", "BitsStored", "HighBit"))
    if allocated not in (8, 16) or not 8 <= stored <= allocated or high != stored - 1:
        raise DataError(f"{stored} bits stored in {allocated}, high bit {high}; 8 to 16, right-aligned, are read")
    if (sign := whole_number_of(dataset, "PixelRepresentation")) not in (0, 1):
        raise DataError(f"PixelRepresentation {sign}; it is 0 or 1")


def _check_compression(syntax: UID) -> None:
    if not syntax.is_private and syntax.is_transfer_syntax and not syntax.is_encapsulated:
        return
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        name = syntax.name if syntax in UID_dictionary else "an unknown transfer syntax"
        raise DataError(f"compressed as {name}, for which there is no decoder")


def render(dataset: FileDataset) -> np.ndarray:
    """Return the grey values as a viewer displays them, in square pixels: (h, w) uint16, 0 black and 65,535 white."""
    little_endian = dataset.file_meta.TransferSyntaxUID != ExplicitVRBigEndian
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The decoded RLE segment")  # has more pixels than the image: another size
        pixels = pixel_array(dataset)
    return with_square_pixels(dataset, grey_values(dataset, pixels, little_endian))


def _view(dataset: Dataset) -> str:
    """Return the view: "PA", "AP", "LATERAL", or "" (not given, oblique, decubitus)."""
    codes = [text_of(item, "CodeValue") for item in items_of(dataset, "ViewCodeSequence")]
    named = (_VIEWS.get(value) for value in (text_of(dataset, "ViewPosition"), *codes))
    return next((view for view in named if view), "")
