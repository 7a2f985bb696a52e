"""DICOM files drawn at random, with the grey values that the standard's formulas give, one pixel at a time.

Each choice comes with its attributes and with a function of one number, written from the standard and not from the
decoder: PS3.3, C.11.1 (modality), C.11.2.1.1 (VOI LUT), C.11.2.1.2 and C.11.2.1.3 (windows), C.7.5.1.1.2 (padding).
`known_to_pydicom` tells where `pydicom.pixels` gives the same; elsewhere it stops, or gives something else: a slope
without an intercept, an unusable window or table, entries of 8 bits or as OW, a first value of the other sign.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gdcm
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.data_prep.dicom_files import compressed_by_gdcm, dicom_bytes, dicom_dataset, in_big_endian

Rng = np.random.Generator
PACKED = {
    "RLE": gdcm.TransferSyntax.RLELossless,
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
}


@dataclass(frozen=True)
class Step:
    """A step from stored value to grey: its attributes, and what it makes of one number; None: the image's range."""

    attributes: dict[str, Any]
    apply: Callable[[float], float] | None
    known_to_pydicom: bool = True


@dataclass(frozen=True)
class RandomDicom:
    """A file; its stored values, and the grey from 0 to 1 that it shows: None if it is the same for all."""

    data: bytes
    stored: np.ndarray
    padded: np.ndarray
    grey: np.ndarray | None
    known_to_pydicom: bool
    syntax: str
    dataset: Dataset


def random_dicom(rng: Rng) -> RandomDicom:
    bits = int(rng.integers(8, 17))
    signed = bool(rng.integers(2))
    least, most = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = f"{'i' if signed else 'u'}{1 if bits == 8 and rng.integers(2) else 2}"
    ends = sorted(int(end) for end in rng.integers(least, most + 1, 2))
    # From 16 pixels a side on: GDCM's encoders of RLE and JPEG 2000 fail on smaller images.
    stored = rng.integers(ends[0], ends[1] + 1, 2 * rng.integers(8, 14, 2)).astype(kind)
    modality = random_modality(rng, least, most)
    assert modality.apply is not None
    possible = sorted((modality.apply(least), modality.apply(most)))
    padded, padding = random_padding(rng, stored, ends)
    voi = random_voi(rng, *possible)
    inverted = bool(rng.integers(2))
    attributes: dict[str, Any] = {
        "BitsStored": bits,
        "PhotometricInterpretation": f"MONOCHROME{1 if inverted else 2}",
        "PresentationLUTShape": pick(rng, [None, "IDENTITY", "INVERSE"]),  # which the interpretation overrules
        **modality.attributes,
        **voi.attributes,
    }
    dataset = dicom_dataset(stored, **attributes)
    for keyword, (representation, value) in padding.items():
        dataset.add_new(keyword, representation, value)
    syntax, data = random_syntax(rng, dataset, stored)
    return RandomDicom(
        data,
        stored,
        padded,
        shown_grey(stored, padded, modality, voi, inverted),
        modality.known_to_pydicom and voi.known_to_pydicom,
        syntax,
        dataset,
    )


def pick(rng: Rng, choices: list[Any]) -> Any:
    return choices[rng.integers(len(choices))]


def shown_grey(stored: np.ndarray, padded: np.ndarray, modality: Step, voi: Step, inverted: bool) -> np.ndarray | None:
    assert modality.apply is not None
    values = [modality.apply(int(value)) for value in stored[~padded]]
    if not values or min(values) == max(values):
        return None
    low, high = min(values), max(values)
    greys = [(value - low) / (high - low) if voi.apply is None else voi.apply(value) for value in values]
    if round(65_535 * min(greys)) == round(65_535 * max(greys)):
        return None
    shown = np.zeros(stored.shape)
    shown[~padded] = [1 - grey if inverted else grey for grey in greys]
    return shown


def random_padding(rng: Rng, stored: np.ndarray, ends: list[int]) -> tuple[np.ndarray, dict[str, tuple[str, int]]]:
    """Which pixels are padding, and the attributes that say so, in the right sign or the other."""
    limits = [int(stored.flat[0]), *([pick(rng, ends)] if rng.integers(2) else [])]
    if rng.random() < 0.6:
        return np.zeros(stored.shape, dtype=bool), {}
    words = [(representation, signed_word(limit) if representation == "SS" else limit & 0xFFFF)
             for limit, representation in zip(limits, rng.choice(["US", "SS"], len(limits)), strict=True)]  # fmt: skip
    padded = (stored >= min(limits)) & (stored <= max(limits))
    return padded, dict(zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), words, strict=False))


def signed_word(value: int) -> int:
    word = value & 0xFFFF
    return word - 0x10000 if word >= 0x8000 else word


def random_modality(rng: Rng, least: int, most: int) -> Step:
    slope, intercept = pick(rng, [1.0, 2.0, -1.0, 0.5, -0.25, 1.5]), int(rng.integers(-3000, 3000))
    both = {"RescaleSlope": slope, "RescaleIntercept": intercept}
    choices = [
        Step({}, lambda x: x),
        Step({"RescaleSlope": "", "RescaleIntercept": ""}, lambda x: x, False),
        Step(both, lambda x: slope * x + intercept),
        Step({"RescaleSlope": slope}, lambda x: slope * x, False),
        Step({"RescaleIntercept": intercept}, lambda x: x + intercept, False),
        Step(both | {"RescaleSlope": ""}, lambda x: x + intercept, False),
        Step(both | {"RescaleSlope": 0}, lambda x: x, False),
        Step(both | {"ModalityLUTSequence": [Dataset()]}, lambda x: slope * x + intercept, False),
    ]
    number = int(rng.integers(len(choices) + 1))
    return choices[number] if number < len(choices) else random_lut(rng, "ModalityLUTSequence", least, most)


def random_voi(rng: Rng, low: float, high: float) -> Step:
    choice = pick(rng, ["none", "window", "window", "unusable", "lut", "lut", "empty lut"])
    if choice == "none":
        return Step({}, None)
    if choice == "lut":
        lut = random_lut(rng, "VOILUTSequence", math.floor(low), math.ceil(high))
        table = lut.attributes["VOILUTSequence"]
        if rng.integers(2):
            return lut
        extra = {"VOILUTSequence": pick(rng, [[Dataset(), *table], [*table, Dataset()]]),
                 "WindowCenter": 1, "WindowWidth": 2}  # fmt: skip
        return Step(extra, lut.apply, False)
    if choice == "unusable":
        too_narrow = {"WindowWidth": pick(rng, [0, 0.5, -1, -4096, ""]), "WindowCenter": low}
        unknown = {"WindowWidth": 100, "WindowCenter": low, "VOILUTFunction": "LOG"}
        return Step(pick(rng, [too_narrow, unknown]), None, False)
    window = random_window(rng, low, high)
    if choice == "empty lut":
        return Step(window.attributes | {"VOILUTSequence": [Dataset()]}, window.apply, False)
    return window


def random_window(rng: Rng, low: float, high: float) -> Step:
    centre, width = (round(float(number), 2) for number in (rng.uniform(low, high), rng.uniform(1, high - low + 2)))

    def linear(x: float) -> float:
        if x <= centre - 0.5 - (width - 1) / 2:
            return 0.0
        if x > centre - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (centre - 0.5)) / (width - 1) + 0.5

    def exact(x: float) -> float:
        if x <= centre - width / 2:
            return 0.0
        return 1.0 if x > centre + width / 2 else (x - centre) / width + 0.5

    def sigmoid(x: float) -> float:
        exponent = -4 * (x - centre) / width
        return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))

    function, formula = pick(rng, [(None, linear), ("LINEAR", linear), ("LINEAR_EXACT", exact), ("SIGMOID", sigmoid)])
    attributes = {"WindowCenter": centre, "WindowWidth": width, "VOILUTFunction": function}
    if rng.integers(2):
        return Step(attributes, formula)
    widths, centres = pick(rng, [([width, 1.0], [centre, 2.0]), ([0, width], [7, centre]), ([width], [centre, 3.0])])
    several = {"WindowWidth": widths, "WindowCenter": centres}
    return Step(attributes | several, formula, widths[0] != 0)


def random_lut(rng: Rng, keyword: str, least: int, most: int) -> Step:
    """A table for values from `least` to `most`; it may begin within them and end before or behind."""
    length = int(pick(rng, [16, 255, 256, 1000, 4096, 65536]))
    signed = least < 0
    first = int(rng.integers(least - 5, (least + most) // 2 + 1))
    first = min(max(first, -32768), 32767) if signed else min(max(first, 0), 65535)
    bits = int(rng.integers(8, 17))
    entries = rng.integers(0, 2**bits, length)
    if rng.integers(2):
        entries.sort()
    entries[-1] = 2**bits - 1
    item = Dataset()
    descriptor = [length & 0xFFFF, first & 0xFFFF, bits]
    representation = pick(rng, ["US", "SS"])
    item.add_new(
        "LUTDescriptor", representation, [signed_word(w) for w in descriptor] if representation == "SS" else descriptor
    )
    form = add_lut_data(rng, item, entries, bits)
    white = 2**bits - 1 if keyword == "VOILUTSequence" else 1

    def look_up(x: float) -> float:
        place = int(np.rint(x)) - first
        return float(entries[min(max(place, 0), length - 1)]) / white

    natural = "SS" if first < 0 else "US"
    plain = form == "US" and representation == natural and first < 32768 and bits > 8 and length < 32768
    return Step({keyword: [item]}, look_up, plain)


def add_lut_data(rng: Rng, item: Dataset, entries: np.ndarray, bits: int) -> str:
    """Add the entries as US, SS or OW; those of 8 bits may be packed two in a word."""
    form = pick(rng, ["US", "SS", "OW", *(["packed US", "packed OW"] if bits == 8 else [])])
    words = entries.astype("<u2")
    if form.startswith("packed"):
        packed = entries.astype(np.uint8).tobytes()
        words = np.frombuffer(packed + bytes(len(packed) % 2), "<u2")
    representation = form[-2:]
    if representation == "OW":
        item.add_new("LUTData", "OW", words.tobytes())
    else:
        item.add_new("LUTData", representation, words.view("<i2" if representation == "SS" else "<u2").tolist())
    return form


def random_syntax(rng: Rng, dataset: Dataset, stored: np.ndarray) -> tuple[str, bytes]:
    """The file in one of the syntaxes; where the pixels are not compressed, their unused bits may hold anything."""
    syntax = pick(rng, ["explicit", "implicit", "implicit", "big endian", "deflated", *PACKED])
    if syntax in PACKED:
        return syntax, compressed_by_gdcm(dataset, PACKED[syntax])
    if stored.itemsize == 2 and dataset.BitsStored < 16 and rng.integers(2):
        unused = 0xFFFF & ~((1 << dataset.BitsStored) - 1)
        noise = rng.integers(0, 2**16, stored.shape) & unused
        dataset.PixelData = ((stored.astype(np.int64) & ~unused & 0xFFFF) | noise).astype("<u2").tobytes()
        syntax += ", unused bits"
    if syntax.startswith("big endian"):
        if stored.itemsize == 1:
            dataset["PixelData"].VR = "OB"
        return syntax, in_big_endian(dataset)
    if not syntax.startswith("explicit"):
        uid = ImplicitVRLittleEndian if syntax.startswith("implicit") else DeflatedExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = uid
    return syntax, dicom_bytes(dataset)
