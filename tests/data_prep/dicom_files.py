"""DICOM files made up for tests."""

import io
import tempfile
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    generate_uid,
)


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


def in_big_endian(dataset: Dataset) -> bytes:
    """The bytes of `dataset` in big endian; its pixel data and tables are words of 16 bits."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    for each in dataset.iterall():
        if each.VR == "OW":
            each.value = np.frombuffer(each.value, "<u2").astype(">u2").tobytes()
    return dicom_bytes(dataset)


def compressed_by_gdcm(dataset: Dataset, syntax: int) -> bytes:
    """The bytes of `dataset`, its pixels compressed in one of the syntaxes of `gdcm.TransferSyntax`."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = (str(Path(folder, name)) for name in ("plain.dcm", "packed.dcm"))
        Path(plain).write_bytes(dicom_bytes(dataset))
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(plain)
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(packed)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        written = pydicom.dcmread(packed)
    packed_dataset = pydicom.dcmread(io.BytesIO(dicom_bytes(dataset)))  # GDCM may drop or change other attributes
    packed_dataset.file_meta.TransferSyntaxUID = written.file_meta.TransferSyntaxUID
    packed_dataset["PixelData"] = written["PixelData"]
    return dicom_bytes(packed_dataset)


def stored_by_gdcm(data: bytes) -> np.ndarray:
    """The stored values (h, w) of a DICOM file, as GDCM reads them."""
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        Path(file.name).write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(file.name)
        assert reader.Read()
        image = reader.GetImage()
        width, height = image.GetDimensions()[:2]
        pixel = image.GetPixelFormat()
        dtype = f"<{'i' if pixel.GetPixelRepresentation() else 'u'}{pixel.GetBitsAllocated() // 8}"
        content = image.GetBuffer().encode("utf-8", "surrogateescape")  # as GDCM's wrapper hands bytes over
        return np.frombuffer(content, dtype).reshape(height, width)
