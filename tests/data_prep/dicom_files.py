"""DICOM files made up for tests."""

import io

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def dicom_dataset(stored: np.ndarray, **attributes: object) -> Dataset:
    """A chest radiograph (DX, PA) of `stored` (h, w) uint8, uint16 or int16; an attribute of None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * stored.dtype.itemsize
    settings: dict[str, object] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(entropy_srcs=["test"]),
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientID": "4711",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": int(attributes.get("BitsStored", bits)) - 1,  # type: ignore[call-overload]
        "PixelRepresentation": int(stored.dtype.kind == "i"),
    }
    for keyword, value in (settings | attributes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    dataset.add_new("PixelData", "OW" if bits > 8 else "OB", stored.tobytes())
    return dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def dicom_file(stored: np.ndarray, **attributes: object) -> bytes:
    """The bytes of `dicom_dataset`."""
    return dicom_bytes(dicom_dataset(stored, **attributes))


def with_lut(keyword: str, table: list[int], first: int, bits: int) -> dict[str, list[Dataset]]:
    """The attribute `keyword` ("VOILUTSequence", "ModalityLUTSequence") with a look-up table from value `first` on."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table), first, bits])
    item.add_new("LUTData", "US", table)
    return {keyword: [item]}
