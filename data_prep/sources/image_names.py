r"""Names of images: when a row and a file mean the same.

The same name is written in several ways: with ``/`` or ``\`` between folders; with accents as one character or as a
letter and a mark (Unicode normal forms C and D, UAX #15); with the suffix in capitals, or without a suffix.
"""

import unicodedata
from typing import NamedTuple

from data_prep.decoding.radiograph import DICOM_SUFFIXES
from data_prep.labels.safe_names import RASTER_SUFFIXES

IMAGE_SUFFIXES = (*RASTER_SUFFIXES, *DICOM_SUFFIXES)


class ImageName(NamedTuple):
    """The name of an image, as it is compared.

    Attributes:
        path: folders and file name in normal form C, with ``/`` between them and without the suffix.
        suffix: the suffix of an image in small letters, "" if the name has none.
    """

    path: str
    suffix: str


def parse_name(name: str) -> ImageName:
    """Return how the name of an image, or its path, is compared."""
    plain = name if name.isascii() else unicodedata.normalize("NFC", name)
    path = "/".join(part for part in plain.replace("\\", "/").split("/") if part not in ("", "."))
    stem, dot, end = path.rpartition(".")
    suffix = f".{end}".lower()
    return ImageName(stem, suffix) if dot and suffix in IMAGE_SUFFIXES else ImageName(path, "")
