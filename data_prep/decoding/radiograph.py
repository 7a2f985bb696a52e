"""What comes out of a file that holds one radiograph, whatever its format. s: side of the square, in pixels."""

from dataclasses import dataclass

import numpy as np

_PREAMBLE_BYTES, _PREFIX = 128, b"DICM"  # DICOM PS3.10, section 7.1
DICOM_HEAD_BYTES = _PREAMBLE_BYTES + len(_PREFIX)
DICOM_SUFFIXES = (".dcm", ".dicom")


@dataclass(frozen=True)
class Radiograph:
    """One decoded image.

    pixels: (s, s) uint8, bones bright. view: "PA", "AP", "LATERAL", or "" where the file does not say.
    patient_id: the file's own identifier, "" where it has none: it must be keyed before it is written anywhere.
    """

    pixels: np.ndarray
    view: str = ""
    patient_id: str = ""


def is_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes whether a file is DICOM; its name may end in anything, or in nothing."""
    return head[_PREAMBLE_BYTES:DICOM_HEAD_BYTES] == _PREFIX
