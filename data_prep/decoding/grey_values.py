"""From the stored values of a DICOM image to the grey values that a viewer shows (PS3.3, C.11.1 and C.11.2; PS3.14).

Each step maps one value to another, so all are applied to a table of the b-bit values that a pixel can hold, 2^b of
them, and the image is looked up in it once: modality LUT or rescale; then the first usable VOI LUT, else the first
usable window, else the image's own range; then MONOCHROME1 is inverted. Padding is black.

What is unusable is passed over, as viewers do: a VOI LUT without data, a window too narrow for its function or without
numbers, a slope of 0. What would give wrong values is refused: a slope that is no number, a LUT shorter than it says.

h, w: height and width of the image in pixels; n: entries of a LUT.
"""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from data_prep.decoding.dicom_values import (
    items_of,
    number_of,
    text_of,
    usable_numbers_of,
    whole_number_of,
    words_of,
)
from data_prep.errors import DataError

GREY_ATTRIBUTES = (
    "ModalityLUTSequence",
    "PixelPaddingRangeLimit",
    "PixelPaddingValue",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
)
WHITE = 65_535
_MOST_ENTRIES = 2**16  # a LUT Descriptor writes it as 0
_MOST_VALUE = 1e30  # of what is rescaled; differences of such numbers can still be divided
_NARROWEST = 1e-9  # what divides by the width of a window


@dataclass(frozen=True)
class _Lut:
    """A look-up table; values before its first and after its last entry get those.

    Attributes:
        first: the word that says which value has the first entry.
        entries: (n,) float64.
    """

    first: int
    entries: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map `values`; the first is read with a sign where they may be negative, whatever the file says."""
        first = _with_sign(self.first) if values.min() < 0 else self.first
        return self.entries[np.clip(np.rint(values) - first, 0, len(self.entries) - 1).astype(np.intp)]


def grey_values(dataset: Dataset, pixels: np.ndarray, little_endian: bool) -> np.ndarray:
    """Return `pixels` (h, w), as stored in 8 or 16 bits, as (h, w) uint16: 0 is black and 65,535 white.

    `little_endian`: the order of the file's bytes, in which LUTs are written.

    Raises:
        DataError: all pixels are padding or would get the same grey, or an attribute is damaged.
    """
    bits = whole_number_of(dataset, "BitsStored")
    codes = pixels.astype(f"u{pixels.itemsize}", copy=False) & ((1 << bits) - 1)  # the other bits may hold overlays
    stored = np.arange(1 << bits)
    if whole_number_of(dataset, "PixelRepresentation", 0):
        stored[len(stored) // 2 :] -= len(stored)
    padding = _is_padding(dataset, stored)
    shown = (np.bincount(codes.ravel(), minlength=len(stored)) > 0) & ~padding
    if not shown.any():
        raise DataError("empty image: all pixels are padding")
    with np.errstate(over="ignore", invalid="ignore"):
        grey = _apply_voi(_apply_modality(stored, dataset, little_endian), shown, dataset, little_endian)
    if text_of(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        grey = 1 - grey
    table = np.rint(grey * WHITE).astype(np.uint16)
    if table[shown].min() == table[shown].max():
        raise DataError("empty image: all pixels have the same value")
    table[padding] = 0
    return table[codes]


def _is_padding(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """Return which of the values `stored` (2^b,) are padding (PS3.3, C.7.5.1.1.2): bool."""
    signed = stored[-1] < 0
    ends = []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        if number_of(dataset, keyword) is not None:
            word = whole_number_of(dataset, keyword) & 0xFFFF  # files give it the sign that the pixels do not have
            ends.append(_with_sign(word) if signed else word)
        elif not ends:
            return np.zeros(stored.shape, dtype=bool)
    return (stored >= min(ends)) & (stored <= max(ends))


def _with_sign(word: int) -> int:
    return (word ^ 0x8000) - 0x8000


def _apply_modality(stored: np.ndarray, dataset: Dataset, little_endian: bool) -> np.ndarray:
    """Apply the modality LUT, or else slope and intercept: (2^b,) float64."""
    if lut := _first_lut(dataset, "ModalityLUTSequence", little_endian):
        return lut.apply(stored)
    slope, intercept = number_of(dataset, "RescaleSlope"), number_of(dataset, "RescaleIntercept")
    if slope == 0:
        return stored.astype(np.float64)
    values = stored * (1.0 if slope is None else slope) + (intercept or 0.0)
    if not np.abs(values).max() < _MOST_VALUE:
        raise DataError(f"damaged: RescaleSlope and RescaleIntercept give numbers beyond {_MOST_VALUE:.0e}")
    return values


def _apply_voi(values: np.ndarray, shown: np.ndarray, dataset: Dataset, little_endian: bool) -> np.ndarray:
    """Apply VOI LUT, window or own range to `values` (2^b,), of which the image has those `shown`: 0 to 1."""
    if lut := _first_lut(dataset, "VOILUTSequence", little_endian):
        bits = int(lut.entries.max()).bit_length()  # that are used: some tables declare 16 and use 12
        return lut.apply(values) / max(1, (1 << bits) - 1)
    function = text_of(dataset, "VOILUTFunction") or "LINEAR"
    windows = zip(usable_numbers_of(dataset, "WindowCenter"), usable_numbers_of(dataset, "WindowWidth"), strict=False)
    for centre, width in windows:
        if (windowed := _apply_window(values, function, centre, width)) is not None:
            return windowed
    low, high = values[shown].min(), values[shown].max()
    return _ramp(values, low, high - low)


def _apply_window(values: np.ndarray, function: str, centre: float, width: float) -> np.ndarray | None:
    """Apply a window (PS3.3, C.11.2.1.2 and C.11.2.1.3): 0 to 1; None if it is unusable."""
    if not np.isfinite([centre, width]).all():
        return None
    if function == "LINEAR" and width >= 1:
        return _ramp(values, centre - 0.5 - (width - 1) / 2, width - 1)
    if function == "LINEAR_EXACT" and width > 0:
        return _ramp(values, centre - width / 2, width)
    if function == "SIGMOID" and width > 0:
        return 0.5 + 0.5 * np.tanh(2 * (values - centre) / width)
    return None


def _ramp(values: np.ndarray, low: float, span: float) -> np.ndarray:
    return np.clip((values - low) / max(span, _NARROWEST), 0, 1)


def _first_lut(dataset: Dataset, keyword: str, little_endian: bool) -> _Lut | None:
    """Return the first LUT of a sequence that has data; None if none has."""
    luts = (_read_lut(item, little_endian) for item in items_of(dataset, keyword))
    return next((lut for lut in luts if lut), None)


def _read_lut(item: Dataset, little_endian: bool) -> _Lut | None:
    """Read a LUT from its item; None if the item is empty or half empty.

    Entries of 8 bits stand two in a word, or each in a word of its own, which no file says: their number tells.

    Raises:
        DataError: there are fewer entries than the descriptor says.
    """
    descriptor, words = (words_of(item, keyword, little_endian) for keyword in ("LUTDescriptor", "LUTData"))
    if not len(descriptor) or not len(words):
        return None
    if len(descriptor) != 3:
        raise DataError(f"damaged: a LUT Descriptor of {len(descriptor)} values; it has 3")
    declared, first, bits = map(int, descriptor)
    declared = declared or _MOST_ENTRIES
    if bits <= 8 and len(words) == (declared + 1) // 2:
        words = words.astype("<u2").view(np.uint8)
    if len(words) < declared:
        raise DataError(f"damaged: a LUT of {len(words)} entries; its descriptor says {declared}")
    return _Lut(first, words[:declared].astype(np.float64))
