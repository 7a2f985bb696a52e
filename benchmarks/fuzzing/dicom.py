"""A grammar of DICOM radiographs (PS3.3, PS3.5, PS3.10), and what a viewer shows of each by the standard's formulas.

Bits, sign, modality and VOI transformations, photometric interpretation, padding and transfer syntax are drawn
independently of one another. Defects leave out, empty, repeat or falsify what is needed, as real archives do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.fuzzing.case import CANARIES, Case, Random, chance, pick
from benchmarks.fuzzing.dicom_file import (
    BIG,
    BY_GDCM,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    PIXEL_DATA,
    RLE,
    Element,
    compressed,
    dataset_bytes,
    element,
    encapsulated,
    meta,
    meta_bytes,
    nested,
    run_lengths,
)
from benchmarks.fuzzing.pictures import OBLONG, draw_picture, draw_shape, in_store, of_pictures

COMPUTED, DIGITAL = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"
SECONDARY, TOMOGRAM = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.2"
NATIVE = (IMPLICIT, EXPLICIT, BIG, DEFLATED)


@dataclass
class Picture:
    """A picture on its way into a file.

    Attributes:
        stored: (h, w) of whole numbers, as they are after sign and unused bits are taken care of.
        bits: allocated and stored ones.
        signed: whether stored values are in two's complement.
        elements: of the dataset, by keyword or tag, without the pixels.
        modality: what the modality LUT or rescale makes of the stored values.
        shown: what the VOI LUT or window makes of modality values, (h, w) of 0 to 1; None: their own range.
        padding: mask of the padding, (h, w).
        aspect: height of a pixel divided by its width.
        syntax: transfer syntax.
        rules: what was drawn.
        legal: no rule of the standard is broken.
        refuse: why no picture is right, "" if one is.
        open: the standard leaves open what is shown.
        inverse: MONOCHROME1.
        shift: by how many bits the pixels stand to the left in their words.
        junk: something stands in the unused bits above them.
        share: of the pixel data that is written; 0: there is no such element.
        head: what is wrong with the start of the file.
        claim: the transfer syntax that the file states.
        shuffled: the elements are in no order.
        kept: share of the file that is kept.
    """

    stored: np.ndarray
    bits: tuple[int, int]
    signed: bool
    elements: dict[str, Element] = field(default_factory=dict)
    modality: np.ndarray = field(default_factory=lambda: np.zeros(0))
    shown: Callable[[np.ndarray], np.ndarray] | None = None
    padding: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    aspect: float = 1.0
    syntax: str = EXPLICIT
    rules: list[str] = field(default_factory=list)
    legal: bool = True
    refuse: str = ""
    open: bool = False
    inverse: bool = False
    shift: int = 0
    junk: bool = False
    share: float = 1.0
    head: str = ""
    claim: str | None = None
    shuffled: bool = False
    kept: float = 1.0

    def put(self, keyword: str, value: object, vr: str = "") -> None:
        """Set an element of the dataset."""
        self.elements[keyword] = element(keyword, value, vr)


def draw(random: Random) -> Case:
    """Draw a DICOM file; about six in ten are legal."""
    picture = _draw_pixels(random)
    for step in (_kind, _padding, _modality, _shown, _look, _identity, _structure):
        step(picture, random)
    if chance(random, 0.35):
        defect = pick(random, DEFECTS)
        picture.legal = False
        picture.rules.append(f"defect: {defect.__name__}")
        defect(picture, random)
    data = _file(picture, random)
    expected = picture.refuse or (None if picture.open else in_store(grey(picture), picture.aspect))
    return Case(pick(random, [".dcm", ".dicom", ""]), data, tuple(picture.rules), picture.legal, expected)


def grey(picture: Picture) -> np.ndarray:
    """Return what a viewer shows: (h, w) of 0 to 255 (PS3.3, C.7.6.3.1.2 and C.11)."""
    values = picture.modality
    if picture.shown is not None:
        shown = picture.shown(values)
    else:
        inside = values[~picture.padding]
        shown = (values - inside.min()) / max(inside.max() - inside.min(), 1e-9)
    if picture.inverse:
        shown = 1 - shown
    return np.where(picture.padding, 0, 255 * np.clip(shown, 0, 1))


def _draw_pixels(random: Random) -> Picture:
    stored_bits = int(random.choice([8, 8, 9, 10, 12, 12, 14, 15, 16, 16]))
    allocated = 8 if stored_bits == 8 and chance(random, 0.7) else 16
    signed, shape = chance(random, 0.35), draw_shape(random)
    used = stored_bits if chance(random, 0.6) else int(random.integers(7, stored_bits + 1))
    low = -(2 ** (stored_bits - 1)) if signed else 0
    offset = int(random.integers(0, 2**stored_bits - 2**used + 1))
    values = np.rint(draw_picture(random, shape)[..., 0] * (2**used - 1)).astype(np.int64) + low + offset
    picture = Picture(values, (allocated, stored_bits), signed)
    picture.rules += [f"{stored_bits} of {allocated} bits", "signed" if signed else "unsigned"]
    picture.put("SamplesPerPixel", [1])
    picture.inverse = chance(random, 0.5)
    picture.put("PhotometricInterpretation", "MONOCHROME1" if picture.inverse else "MONOCHROME2")
    picture.put("Rows", [shape[0]])
    picture.put("Columns", [shape[1]])
    picture.put("BitsAllocated", [allocated])
    picture.put("BitsStored", [stored_bits])
    picture.put("HighBit", [stored_bits - 1])
    picture.put("PixelRepresentation", [int(signed)])
    picture.syntax = pick(random, [*NATIVE, *NATIVE, EXPLICIT, IMPLICIT, RLE, pick(random, BY_GDCM)])
    if picture.syntax in BY_GDCM and values.size * allocated % 16:  # GDCM takes the byte of padding for a pixel
        picture.syntax = RLE
    if picture.syntax in NATIVE and stored_bits < allocated:
        picture.junk = chance(random, 0.15)  # overlays stood there
    return picture


def _kind(picture: Picture, random: Random) -> None:
    """Say what the picture shows."""
    kind, modality = pick(random, [(COMPUTED, "CR"), (DIGITAL, "DX"), (SECONDARY, "CR"), (SECONDARY, "RG")])
    picture.put("SOPClassUID", kind)
    picture.put("SOPInstanceUID", "1.2.826.0.1.3680043.8.498.1")
    picture.put("Modality", modality)
    picture.put("BodyPartExamined", pick(random, ["CHEST", "CHEST", "CHEST", "THORAX", "TORAX"]))
    picture.put("ViewPosition", pick(random, ["PA", "AP", "LL", "", "XX"]))
    if chance(random, 0.02):
        picture.put("BodyPartExamined", pick(random, ["KNEE", "SKULL", "HAND"]))
        picture.refuse = "it shows another part of the body"
    if chance(random, 0.02):
        picture.put("SOPClassUID", TOMOGRAM)
        picture.refuse = "it is no radiograph"
    if chance(random, 0.02):
        picture.put("BurnedInAnnotation", "YES")
        picture.refuse = "text is burned into it"


def _decimal(random: Random, value: float) -> str:
    """Write a number as a decimal string, in one of its forms."""
    return pick(random, [f"{value:.6g}", f"{value:+.6g}", f" {value:.6g} ", f"{value:.7E}"])[:16]


def _modality(picture: Picture, random: Random) -> None:
    stored = picture.stored.astype(float)
    picture.modality = stored
    choice = pick(random, ["", "", "rescale", "rescale", "table"])
    if choice == "rescale":
        slope, intercept = float(pick(random, [1, 1, 2, 0.5, 0.25, -1])), float(pick(random, [0, 0, -1024, 100, 0.5]))
        picture.put("RescaleSlope", _decimal(random, slope))
        picture.put("RescaleIntercept", _decimal(random, intercept))
        picture.put("RescaleType", "US")
        picture.modality = stored * slope + intercept
        picture.rules.append(f"rescale {slope} {intercept}")
    elif choice == "table":
        picture.modality = _table(picture, random, "ModalityLUTSequence", stored)(stored)


def _table(picture: Picture, random: Random, keyword: str, values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Add a look-up table (PS3.3, C.11.1.1 and C.11.2.1.1) that covers most of the values; return what it does."""
    low, high = int(np.floor(values.min())), int(np.ceil(values.max()))
    first = low + int(random.integers(0, max(1, (high - low) // 8)))
    first = max(-(2**15), min(first, 2**15 - 1)) if low < 0 else max(0, min(first, 2**16 - 1))
    entries = max(2, min(high - first + 1 - int(random.integers(0, max(1, (high - low) // 8))), 2**16))
    bits = int(random.choice([8, 10, 12, 16]))
    curve = np.linspace(0, 1, entries) ** float(random.choice([0.5, 1, 1, 2]))
    table = np.rint(curve * (2**bits - 1)).astype(np.int64)
    declared = 16 if bits > 8 and chance(random, 0.3) else bits  # some declare 16 bits and use 12
    vr = pick(random, ["US", "OW"]) if entries < 2**15 else "OW"
    descriptor = Element(
        0x00283002, "SS" if first < 0 else "US", np.array([entries % 2**16, first % 2**16, declared], np.uint16)
    )
    data = Element(0x00283006, vr, table.astype(np.uint16))
    items = [[descriptor, data]] * (2 if chance(random, 0.2) and keyword.startswith("VOI") else 1)
    if keyword.startswith("Modality"):
        items = [[descriptor, element("ModalityLUTType", "US"), data]]
    picture.elements[keyword] = replace(element(keyword, items), undefined=chance(random, 0.3))
    picture.rules.append(f"{keyword} {entries} from {first}, {bits} bits as {vr}, {declared} declared")
    white = table.max() if keyword.startswith("VOI") else 1
    return lambda of: table[np.clip(np.rint(of).astype(np.int64) - first, 0, entries - 1)] / white


def _shown(picture: Picture, random: Random) -> None:
    choice = pick(random, ["", "window", "window", "table"])
    if choice == "table":
        picture.shown = _table(picture, random, "VOILUTSequence", picture.modality)
        if chance(random, 0.3):
            picture.put("WindowCenter", "1")  # the table comes first
            picture.put("WindowWidth", "2")
            picture.rules.append("window beside the table")
    elif choice == "window":
        _window(picture, random)


def _window(picture: Picture, random: Random) -> None:
    inside = picture.modality[~picture.padding]
    low, high = float(inside.min()), float(inside.max())
    width = max(2.0, round((high - low) * float(random.uniform(0.5, 1.5))))
    center = round((low + high) / 2 + (high - low) * float(random.uniform(-0.15, 0.15)), 1)
    function = pick(random, ["LINEAR", "", "", "LINEAR_EXACT", "SIGMOID"])
    more = pick(random, ["", "", "\\5", "\\0\\7"])
    picture.put("WindowCenter", _decimal(random, center) + more)
    picture.put("WindowWidth", _decimal(random, width) + more.replace("0", "9"))
    if function:
        picture.put("VOILUTFunction", function)
    picture.rules.append(f"window {center} {width} {function}{' and more' if more else ''}")
    picture.shown = {
        "LINEAR_EXACT": lambda of: (of - center) / width + 0.5,
        "SIGMOID": lambda of: 1 / (1 + np.exp(-4 * (of - center) / width)),
    }.get(function, lambda of: (of - (center - 0.5)) / (width - 1) + 0.5)


def _padding(picture: Picture, random: Random) -> None:
    picture.padding = np.zeros(picture.stored.shape, bool)
    if not chance(random, 0.2):
        return
    value = int(pick(random, [picture.stored.min(), picture.stored.max()]))
    picture.stored[: int(random.integers(1, 1 + len(picture.stored) // 4))] = value
    picture.padding = picture.stored == value
    vr = "SS" if picture.signed else "US"
    if picture.bits[0] == 16 and chance(random, 0.2):  # as old writers have it
        vr, picture.legal = {"SS": "US", "US": "SS"}[vr], False
        picture.rules.append("padding of the other sign")
    picture.elements["PixelPaddingValue"] = Element(0x00280120, vr, np.array([value % 2**16], np.uint16))
    picture.rules.append(f"padding {value}")


def _look(picture: Picture, random: Random) -> None:
    if chance(random, 0.15):
        shape = pick(random, ["IDENTITY", "INVERSE"])
        picture.put("PresentationLUTShape", shape)
        picture.open = picture.inverse != (shape == "INVERSE")  # PS3.3, C.8.11.3.1.2 rules it out
        picture.rules.append(shape)
    if chance(random, 0.15):
        tall, wide = pick(random, OBLONG)
        picture.put("PixelAspectRatio", f"{tall}\\{wide}")
        picture.aspect = tall / wide
        picture.rules.append(f"aspect {tall}:{wide}")


def _identity(picture: Picture, random: Random) -> None:
    """Add what identifies a person, in any character set, and what is nobody's business."""
    charsets = ["", "ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 87", "\\ISO 2022 IR 6", "GB18030", "nonsense"]
    if chance(random, 0.5):
        picture.put("SpecificCharacterSet", pick(random, charsets))
    name = pick(random, CANARIES)
    identifiers = [name, f"{name}\\{name}", "", "Ä" * 40, "\ud800", "\x00\x1b$B", name * 500, "中" * 6000]
    picture.put("PatientName", name)
    picture.put("PatientID", pick(random, identifiers))
    picture.put("PatientBirthDate", CANARIES[2])
    if chance(random, 0.3):
        picture.elements["private"] = Element(0x00291010, pick(random, ["LO", "UN", "OB"]), name.encode() + b" " * 2)
        picture.elements["owner"] = Element(0x00290010, "LO", f"{name} ")
    if chance(random, 0.2):
        inner = [element("PatientName", name), element("ReferencedSOPClassUID", COMPUTED)]
        deep = [[*inner, element("ReferencedImageSequence", [inner], undefined=chance(random, 0.5))]]
        picture.elements["nested"] = element("ReferencedStudySequence", deep, undefined=chance(random, 0.5))
        picture.rules.append("nested sequences")


def _structure(picture: Picture, random: Random) -> None:
    if chance(random, 0.1):
        picture.elements["end"] = Element(0xFFFCFFFC, "OB", bytes(int(random.choice([2, 100]))))
    if chance(random, 0.1):
        picture.put("NumberOfFrames", pick(random, ["1", "1 ", "+1", ""]))


NEEDED = (
    "SOPClassUID", "Modality", "BodyPartExamined", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip
OPTIONAL = (
    "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTSequence", "ModalityLUTSequence",
    "PixelPaddingValue", "PixelAspectRatio", "VOILUTFunction", "PatientID", "SpecificCharacterSet", "NumberOfFrames",
)  # fmt: skip


def _missing(picture: Picture, random: Random) -> None:
    picture.elements.pop(_told(picture, random, NEEDED), None)


def _told(picture: Picture, random: Random, keywords: tuple[str, ...]) -> str:
    keyword: str = pick(random, [each for each in keywords if each in picture.elements])
    picture.rules.append(keyword)
    return keyword


def _empty(picture: Picture, random: Random) -> None:
    picture.put(_told(picture, random, NEEDED), b"")


def _empty_option(picture: Picture, random: Random) -> None:
    """Empty an optional attribute, or all that belong together: it is then as if it were not there."""
    picture.shown, picture.modality = None, picture.stored.astype(float)
    for keyword in OPTIONAL[:6]:
        picture.elements.pop(keyword, None)
    picture.elements.pop("VOILUTFunction", None)
    keyword = pick(random, OPTIONAL[:6])
    picture.put(keyword, [] if keyword.endswith("Sequence") else b"")
    picture.rules.append(f"empty {keyword}")
    if keyword == "VOILUTSequence" and chance(random, 0.5):
        picture.put(keyword, [[]])
    if keyword.startswith("Rescale") and chance(random, 0.5):
        other = {"RescaleSlope": "RescaleIntercept", "RescaleIntercept": "RescaleSlope"}[keyword]
        picture.put(other, "2")
        picture.modality = picture.stored * 2.0 if other == "RescaleSlope" else picture.stored + 2.0


def _half_of_a_pair(picture: Picture, random: Random) -> None:
    """Leave out the partner of an attribute: an intercept without slope, a centre without width."""
    _empty_option(picture, random)
    for keyword in OPTIONAL[:6]:
        picture.elements.pop(keyword, None)
    keyword = pick(random, ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"])
    picture.put(keyword, "3")
    picture.rules.append(f"only {keyword}")
    picture.modality = picture.stored.astype(float)
    if keyword == "RescaleSlope":
        picture.modality = picture.stored * 3.0
    elif keyword == "RescaleIntercept":
        picture.modality = picture.stored + 3.0


def _bad_window(picture: Picture, random: Random) -> None:
    """State a window that shows nothing; viewers then show the range."""
    picture.elements.pop("VOILUTSequence", None)
    picture.elements.pop("VOILUTFunction", None)
    picture.put("WindowCenter", "100")
    width = pick(random, ["0", "-5", "0\\4000", "", "NaN", "abc", "1e400"])
    picture.put("WindowWidth", width)
    picture.rules.append(f"width {width!r}")
    picture.shown = None


def _bad_table(picture: Picture, random: Random) -> None:
    """State a look-up table whose data are not what its descriptor says."""
    picture.open = True
    descriptor = Element(0x00283002, "US", [256, 0, int(random.choice([0, 1, 8, 16, 99]))])
    content = random.bytes(int(random.choice([0, 1, 2, 255, 256, 511, 512, 4096])))
    item = pick(random, [[descriptor], [descriptor, Element(0x00283006, "OW", content)], []])
    picture.elements.pop("WindowWidth", None)
    picture.elements["VOILUTSequence"] = element("VOILUTSequence", [item])


def _false_vr(picture: Picture, random: Random) -> None:
    """Write an attribute under another VR, its value as that one has it; it is refused, or read all the same."""
    keyword = _told(picture, random, (*NEEDED, *OPTIONAL))
    before = picture.elements[keyword]
    vr = pick(random, ["US", "LO", "DS", "UN", "OB", "SQ", "FD", "UT", "PN", "zz"])
    value = before.value
    if isinstance(value, list) and vr not in ("US", "SS"):
        value = str(value[0]) if value and isinstance(value[0], int) else b""
    if vr in ("OB", "UN", "SQ", "US", "FD"):
        value = pick(random, CANARIES).encode() + b"  "
    picture.elements[keyword] = Element(before.tag, vr, value)
    picture.open = keyword in OPTIONAL  # whether it counts
    picture.rules.append(vr)


def _twice(picture: Picture, random: Random) -> None:
    keyword = _told(picture, random, (*NEEDED, *OPTIONAL))
    other = picture.elements[keyword]
    if chance(random, 0.5):
        picture.open = True
        other = replace(other, value=pick(random, [b"", b"\1\0", b"0 "]))
    picture.elements[f"{keyword} again"] = other


def _other_number(picture: Picture, random: Random) -> None:
    """State another size or depth than the pixels have."""
    keyword = _told(picture, random, ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames"))
    if keyword == "NumberOfFrames":
        picture.put(keyword, pick(random, ["0", "2", "-1", "x", "1\\2", "99999999999"]))
        picture.open = True
        return
    truth = picture.elements[keyword].value[0]
    value = int(random.choice([0, 1, truth - 1, truth + 1, 2 * truth, 4096, 65535]))
    picture.put(keyword, [value])
    picture.open = value == truth


def _other_bits(picture: Picture, random: Random) -> None:
    """State other bits than are stored; what is shown is then anybody's guess, if anything."""
    picture.open = True
    keyword = _told(picture, random, ("BitsStored", "HighBit", "PixelRepresentation"))
    picture.put(keyword, [int(random.choice([0, 1, 7, 8, 11, 12, 15, 16, 17, 65535]))])


def _left_aligned(picture: Picture, random: Random) -> None:
    """Put the pixels at the upper end of their words, which the standard allowed until 2004."""
    picture.shift = picture.bits[0] - picture.bits[1]
    picture.put("HighBit", [picture.bits[0] - 1])
    picture.open |= picture.syntax not in NATIVE


def _other_photometric(picture: Picture, random: Random) -> None:
    others = ["RGB", "PALETTE COLOR", "YBR_FULL", "MONOCHROME", "MONOCHROME2\\RGB", "", CANARIES[0]]
    picture.put("PhotometricInterpretation", pick(random, others))
    picture.refuse = "it does not say how it is shown"


def _cut_pixels(picture: Picture, random: Random) -> None:
    picture.share = int(random.integers(1, 40)) / 40


def _no_pixels(picture: Picture, random: Random) -> None:
    picture.share = 0


def _more_pixels(picture: Picture, random: Random) -> None:
    picture.share = float(random.choice([1.02, 1.5, 2.0]))


def _no_meta(picture: Picture, random: Random) -> None:
    picture.head = pick(random, ["no preamble", "no meta", "no head", "no length", "no syntax"])
    picture.rules.append(picture.head)


def _other_syntax(picture: Picture, random: Random) -> None:
    """Claim another transfer syntax than the dataset has."""
    other = pick(random, [*NATIVE, RLE, *BY_GDCM, "1.2.840.10008.1.2.4.201", "1.2.3", ""])
    picture.claim = other
    picture.rules.append(f"claims {other}")


def _out_of_order(picture: Picture, random: Random) -> None:
    picture.shuffled = True


def _lying_length(picture: Picture, random: Random) -> None:
    """Give an element a length that is not its own."""
    keyword = pick(random, list(picture.elements))
    length = int(random.choice([0, 1, 3, 1000, 65534, 2**31, 2**32 - 1]))
    picture.elements[keyword] = replace(picture.elements[keyword], length=length)
    picture.open = True
    picture.rules.append(f"{keyword} of length {length}")


def _deep(picture: Picture, random: Random) -> None:
    """Nest sequences far deeper than anything is."""
    depth = int(random.choice([50, 300, 5000]))
    picture.elements["nested"] = Element(0x00081110, "SQ", nested(depth, 0x00081110, picture.syntax), undefined=True)


def _cut_file(picture: Picture, random: Random) -> None:
    picture.kept = float(random.random())


DEFECTS: tuple[Callable[[Picture, Random], None], ...] = (
    _missing, _empty, _empty_option, _empty_option, _half_of_a_pair, _half_of_a_pair, _bad_window, _bad_window,
    _bad_table, _false_vr, _false_vr, _twice, _other_number, _other_bits, _left_aligned, _other_photometric,
    _cut_pixels, _no_pixels, _more_pixels, _no_meta, _other_syntax, _out_of_order, _lying_length, _deep, _cut_file,
)  # fmt: skip


def _file(picture: Picture, random: Random) -> bytes:
    """Write the file."""
    elements = sorted(picture.elements.values(), key=lambda each: each.tag)
    if picture.share:
        elements.append(_pixel_data(picture, elements, random))
        elements.sort(key=lambda each: each.tag)
    if picture.shuffled:
        elements = [elements[place] for place in random.permutation(len(elements))]
    dataset = dataset_bytes(elements, picture.syntax if picture.syntax in NATIVE else EXPLICIT)
    stated = [each for each in meta(picture.syntax if picture.claim is None else picture.claim)]
    if picture.head == "no syntax":
        stated = [each for each in stated if each.tag != 0x00020010]
    head = meta_bytes(stated, with_length=picture.head != "no length")
    preamble = (random.bytes(128) if chance(random, 0.2) else bytes(128)) + b"DICM"
    data = {
        "no preamble": head + dataset, "no meta": preamble + dataset, "no head": dataset,
    }.get(picture.head, preamble + head + dataset)  # fmt: skip
    return data[: int(picture.kept * len(data))] if picture.kept < 1 else data


def _pixel_data(picture: Picture, elements: list[Element], random: Random) -> Element:
    """Put the stored values into words of the allocated bits, as the transfer syntax has them."""
    allocated, stored_bits = picture.bits
    words = (picture.stored % 2**stored_bits) << picture.shift
    if picture.junk and not picture.shift:
        words |= random.integers(0, 2 ** (allocated - stored_bits), words.shape) << stored_bits
    pixels = words.astype(np.uint8 if allocated == 8 else np.uint16)
    vr = "OW" if allocated == 16 or (picture.syntax in (EXPLICIT, IMPLICIT) and chance(random, 0.5)) else "OB"
    native = Element(PIXEL_DATA, vr, pixels)
    if picture.syntax in NATIVE:
        count = round(picture.share * pixels.size)
        return replace(native, value=np.resize(pixels, count))
    frame = run_lengths(pixels) if picture.syntax == RLE else _by_gdcm(picture, native)
    frame = frame[: round(picture.share * len(frame))] + bytes(max(0, round((picture.share - 1) * len(frame))))
    cuts = sorted(2 * (random.integers(0, len(frame) + 1, 3) // 2)) if chance(random, 0.2) else ()
    return Element(PIXEL_DATA, "OB", encapsulated(frame, [int(cut) for cut in cuts]), undefined=True)


def _by_gdcm(picture: Picture, native: Element) -> bytes:
    """Compress by GDCM, which is told the truth about the pixels."""
    height, width = picture.stored.shape
    truth = {
        "SOPClassUID": COMPUTED, "SOPInstanceUID": "1.2.3", "SamplesPerPixel": [1], "PhotometricInterpretation":
        "MONOCHROME2", "Rows": [height], "Columns": [width], "BitsAllocated": [picture.bits[0]],
        "BitsStored": [picture.bits[1]], "HighBit": [picture.bits[1] - 1], "PixelRepresentation": [int(picture.signed)],
    }  # fmt: skip
    elements = [element(keyword, value) for keyword, value in truth.items()]
    return compressed([*sorted(elements, key=lambda each: each.tag), native], picture.syntax)


FORMAT = of_pictures(draw)
