"""A decoded radiograph, whatever its file format; s is the side of its square image in pixels."""

from dataclasses import dataclass

import numpy as np

from data_prep.decoding.dicom_head import is_bare_dataset

_PREAMBLE_BYTES, _PREFIX = 128, b"DICM"  # DICOM PS3.10, section 7.1
DICOM_HEAD_BYTES = _PREAMBLE_BYTES + len(_PREFIX)
DICOM_SUFFIXES = (".dcm", ".dicom")
VIEWS = ("", "PA", "AP", "LATERAL")


@dataclass(frozen=True)
class Radiograph:
    """One decoded image.

    Attributes:
        pixels: (s, s) uint8, bones bright; of a picture in colour (3, s, s).
        view: one of VIEWS; "" if the file does not name it.
        patient_id: the patient identifier in the file, "" if there is none. Never write it anywhere; write its
            opaque key instead.
        rows: of the image in the file, in pixels, before it is turned or scaled; 0 if it is not known.
        columns: likewise.
    """

    pixels: np.ndarray
    view: str = ""
    patient_id: str = ""
    rows: int = 0
    columns: int = 0


def is_dicom(head: bytes) -> bool:
    """Check whether a file is DICOM by its first 132 bytes; its name may have any suffix, or none."""
    return head[_PREAMBLE_BYTES:DICOM_HEAD_BYTES] == _PREFIX


def holds_dicom(head: bytes) -> bool:
    """Check whether a file is DICOM, or a data set of DICOM without the head of a file, by its first 132 bytes."""
    return is_dicom(head) or is_bare_dataset(head[:DICOM_HEAD_BYTES])
