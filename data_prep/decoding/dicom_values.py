"""Typed values of DICOM attributes; an error names the attribute, and never quotes its value.

A file may give an attribute another value representation than the standard does, and so text, which may be a name,
where a number belongs.
"""

import math
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from data_prep.errors import DataError


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute; None if it is absent or empty.

    Raises:
        DataError: its bytes do not fit its value representation.
    """
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom raises many types, and quotes the value
        raise DataError(f"damaged: {keyword} cannot be read") from None
    return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return the value of an attribute as text in upper case, "" if it is absent; never quote it."""
    return str(value_of(dataset, keyword) or "").strip(" \0").upper()


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return the finite number that is the value of an attribute; None if it is absent or empty.

    Raises:
        DataError: it is no number, or several.
    """
    value = value_of(dataset, keyword)
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"damaged: {keyword} is not a number")
    return float(value)


def whole_number_of(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    """Return the whole number that is the value of an attribute, or `default` if it is absent or empty.

    Raises:
        DataError: it is no whole number, or absent without a default.
    """
    number = number_of(dataset, keyword)
    if number is None:
        if default is None:
            raise DataError(f"damaged: {keyword} is missing")
        return default
    if number != int(number):
        raise DataError(f"damaged: {keyword} is not a whole number")
    return int(number)


def usable_numbers_of(dataset: Dataset, keyword: str) -> list[float]:
    """Return the numbers of an attribute; NaN stands for a value that is none; none if it cannot be read."""
    try:
        value = value_of(dataset, keyword)
    except DataError:
        return []
    values = [] if value is None else value if isinstance(value, list | MultiValue) else [value]
    return [float(each) if isinstance(each, int | float) else math.nan for each in values]


def words_of(dataset: Dataset, keyword: str, little_endian: bool) -> np.ndarray:
    """Return the 16-bit words of an attribute, be it of US, SS, OW or unknown representation: (n,) uint16.

    Raises:
        DataError: it holds something else.
    """
    value = value_of(dataset, keyword)
    if value is None:
        return np.zeros(0, dtype=np.uint16)
    if isinstance(value, bytes):
        order = "<u2" if little_endian else ">u2"
        return np.frombuffer(value + b"\0" * (len(value) % 2), order).astype(np.uint16)
    values = np.atleast_1d(np.array(value))
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise DataError(f"damaged: {keyword} does not hold whole numbers")
    return (values & 0xFFFF).astype(np.uint16)


def items_of(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, none if it is absent or empty.

    Raises:
        DataError: it is no sequence.
    """
    value = value_of(dataset, keyword)
    if value is None:
        return []
    if not isinstance(value, Sequence):
        raise DataError(f"damaged: {keyword} is not a sequence")
    return list(value)
