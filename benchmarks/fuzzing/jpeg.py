"""A grammar of JPEG (ITU-T T.81, JFIF, Exif 2.32, Adobe's marker): pictures by Pillow, rebuilt segment by segment.

The reference is what Pillow makes of the picture before it was rebuilt: what is added to a legal file changes no pixel,
save the two that say how to show it (orientation, Adobe's colour transform), which the reference then does itself.
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from benchmarks.fuzzing.case import CANARIES, Case, Random, chance, pick
from benchmarks.fuzzing.pictures import LUMINANCE, OBLONG, draw_picture, draw_shape, in_store, of_pictures, turned
from benchmarks.fuzzing.png import exif

SOI, EOI, SOS, DQT, DHT, DRI, DNL, COM = 0xD8, 0xD9, 0xDA, 0xDB, 0xC4, 0xDD, 0xDC, 0xFE
APP0, APP1, APP14 = 0xE0, 0xE1, 0xEE
FRAMES = frozenset(range(0xC0, 0xD0)) - {DHT, 0xC8, 0xCC}


@dataclass(frozen=True)
class Segment:
    """A marker with its content, and the entropy-coded data after it, restart markers included (only after SOS)."""

    marker: int
    content: bytes = b""
    scan: bytes = b""

    def joined(self) -> bytes:
        """Return the bytes in the file."""
        if self.marker in (SOI, EOI):
            return bytes([0xFF, self.marker])
        return struct.pack(">BBH", 0xFF, self.marker, len(self.content) + 2) + self.content + self.scan


@dataclass
class Picture:
    """A picture on its way into a file.

    Attributes:
        segments: of the file, from SOI to EOI.
        grey: what is shown, before it is turned: (h, w) of 0 to 255.
        orientation: of Exif, 1 if the file gives none.
        aspect: height of a pixel divided by its width.
        rules: what was drawn.
        legal: no rule of the standard is broken.
        open: the standard leaves open what a reader shows.
    """

    segments: list[Segment]
    grey: np.ndarray
    orientation: int = 1
    aspect: float = 1.0
    rules: list[str] = field(default_factory=list)
    legal: bool = True
    open: bool = False


def draw(random: Random) -> Case:
    """Draw a JPEG file; six in ten are legal."""
    picture = _draw_picture(random)
    for addition in ADDITIONS:
        if chance(random, 0.12):
            picture.rules.append(addition.__name__.strip("_"))
            addition(picture, random)
    data = joined(picture.segments)
    if chance(random, 0.4):
        defect = pick(random, DEFECTS)
        picture.legal = False
        picture.rules.append(f"defect: {defect.__name__}")
        data = defect(picture, random)
    expected = None if picture.open else turned(in_store(picture.grey, picture.aspect), picture.orientation)
    return Case(pick(random, [".jpg", ".jpeg", ".JPG"]), data, tuple(picture.rules), picture.legal, expected)


def _draw_picture(random: Random) -> Picture:
    shape, mode = draw_shape(random), pick(random, ["L", "L", "RGB", "RGB", "CMYK"])
    values = draw_picture(random, shape, {"L": 1, "RGB": 3, "CMYK": 4}[mode])
    if mode != "L":  # muted, so that no colour is clipped on its way back
        values = 0.3 + 0.4 * values
    image = Image.fromarray(np.rint(255 * values).astype(np.uint8).squeeze(), mode)
    options: dict[str, object] = {"quality": int(random.integers(40, 101)), "progressive": chance(random, 0.4)}
    options["optimize"] = chance(random, 0.3)
    if mode == "RGB":
        options["subsampling"] = int(random.integers(0, 3))
    if chance(random, 0.2):
        options["restart_marker_blocks"] = int(random.integers(1, 9))
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    rules = [mode, *(f"{name} {value}" for name, value in options.items())]
    segments = split(stream.getvalue())
    return Picture(segments, _grey(stream.getvalue(), mode), rules=rules)


def _grey(data: bytes, mode: str) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if mode == "RGB":
        return np.asarray(image, float) @ LUMINANCE
    if mode == "CMYK":  # Pillow turns Adobe's inverted inks back
        inks = np.asarray(image, float)
        return ((255 - inks[..., :3]) @ LUMINANCE) * (255 - inks[..., 3]) / 255
    return np.asarray(image, float)


def split(data: bytes) -> list[Segment]:
    """Split a file of Pillow's into its segments."""
    segments, position = [Segment(SOI)], 2
    while data[position + 1] != EOI:
        marker, length = data[position + 1], struct.unpack_from(">H", data, position + 2)[0]
        content, position = data[position + 4 : position + 2 + length], position + 2 + length
        end = position
        if marker == SOS:
            while data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7:
                end += 1
        segments.append(Segment(marker, content, data[position:end]))
        position = end
    return [*segments, Segment(EOI)]


def joined(segments: list[Segment]) -> bytes:
    """Return the file of these segments."""
    return b"".join(segment.joined() for segment in segments)


def _place(picture: Picture, *markers: int) -> int:
    """Return where the first segment with one of these markers stands."""
    return next(number for number, segment in enumerate(picture.segments) if segment.marker in markers)


def _insert(picture: Picture, place: int, *segments: Segment) -> None:
    picture.segments[place:place] = segments


def _comment(picture: Picture, random: Random) -> None:
    text = pick(
        random, [b"", pick(random, CANARIES).encode(), b"\xff\xd9\xff\xda\xff\xc0", random.bytes(300), bytes(65533)]
    )
    _insert(picture, int(random.integers(1, len(picture.segments))), Segment(COM, text))


def _application(picture: Picture, random: Random) -> None:
    kind = pick(
        random,
        [b"", b"ICC_PROFILE\0\1\1", b"http://ns.adobe.com/xap/1.0/\0", b"MPF\0", b"JFXX\0\x10", b"Photoshop 3.0\0"],
    )
    marker = int(random.choice([0xE1, 0xE2, 0xE5, 0xED, 0xEF]))
    _insert(picture, 2, Segment(marker, kind + random.bytes(int(random.integers(0, 200)))))


def _exif(picture: Picture, random: Random) -> None:
    picture.orientation = int(random.integers(1, 9))
    picture.rules.append(f"orientation {picture.orientation}")
    _insert(
        picture,
        1 if chance(random, 0.5) else 2,
        Segment(APP1, b"Exif\0\0" + exif(picture.orientation, pick(random, "<>"))),
    )


def _density(picture: Picture, random: Random) -> None:
    """State how long a pixel is and how wide, in the marker of JFIF (which Pillow writes first)."""
    across, down = pick(random, [(72, 72), *OBLONG, (0, 0)])
    picture.aspect = across / down if down else 1.0
    content = b"JFIF\0\1\1" + struct.pack(">BHHBB", int(random.integers(0, 3)), across, down, 0, 0)
    picture.segments = [segment for segment in picture.segments if segment.marker != APP0]
    _insert(picture, 1, Segment(APP0, content))


def _no_jfif(picture: Picture, random: Random) -> None:
    picture.aspect = 1.0
    picture.segments = [segment for segment in picture.segments if segment.marker != APP0]


def _thumbnail(picture: Picture, random: Random) -> None:
    """Put a whole small JPEG into an APP segment."""
    small = io.BytesIO()
    Image.new("L", (8, 8), 200).save(small, "JPEG")
    _insert(picture, 2, Segment(APP1, b"Thumb\0" + small.getvalue()))


def _tables_one_by_one(picture: Picture, random: Random) -> None:
    """Repeat every table: the later one of the same number counts."""
    segments = []
    for segment in picture.segments:
        segments += [segment] * (2 if segment.marker in (DQT, DHT) else 1)
    picture.segments = segments


ADDITIONS: tuple[Callable[[Picture, Random], None], ...] = (
    _comment, _application, _exif, _density, _no_jfif, _thumbnail, _tables_one_by_one,
)  # fmt: skip


def _filled(picture: Picture, random: Random) -> bytes:
    """Put fill bytes before the markers, which is legal (T.81, B.1.1.2)."""
    picture.legal = True
    parts = [segment.joined() for segment in picture.segments]
    return parts[0] + b"".join(b"\xff" * int(random.integers(0, 4)) + part for part in parts[1:])


def _trailing(picture: Picture, random: Random) -> bytes:
    """Put something after the end, as phones do with a second picture."""
    data = joined(picture.segments)
    return data + pick(random, [bytes(1), random.bytes(100), b"\xff\xd9", data])


def _scans(picture: Picture) -> list[int]:
    return [number for number, segment in enumerate(picture.segments) if segment.marker == SOS]


def _cut_scan(picture: Picture, random: Random) -> bytes:
    """Cut a scan short, and put the end marker, or what followed it, after the cut."""
    number = pick(random, _scans(picture))
    segment = picture.segments[number]
    cut = int(random.integers(0, max(1, len(segment.scan) - 2)))
    rest = picture.segments[number + 1 :] if chance(random, 0.5) else [Segment(EOI)]
    return joined([*picture.segments[:number], Segment(SOS, segment.content, segment.scan[:cut]), *rest])


def _lost_scan(picture: Picture, random: Random) -> bytes:
    """Leave out a scan; a progressive picture without its last ones is whole, but coarse."""
    number = pick(random, _scans(picture))
    return joined(picture.segments[:number] + picture.segments[number + 1 :])


def _lost_piece(picture: Picture, random: Random) -> bytes:
    """Take a piece out of the middle of a scan; what is left may be a legal file, as there is no checksum."""
    picture.open = True
    number = pick(random, _scans(picture))
    segment = picture.segments[number]
    start, end = sorted(random.integers(0, len(segment.scan) + 1, 2).tolist())
    scan = segment.scan[:start] + segment.scan[end:]
    return joined([*picture.segments[:number], Segment(SOS, segment.content, scan), *picture.segments[number + 1 :]])


def _repeated_scan(picture: Picture, random: Random) -> bytes:
    number = pick(random, _scans(picture))
    times = int(random.choice([1, 2, 30, 300]))
    return joined(picture.segments[: number + 1] + [picture.segments[number]] * times + picture.segments[number + 1 :])


def _empty_scans(picture: Picture, random: Random) -> bytes:
    number = pick(random, _scans(picture))
    empty = Segment(SOS, picture.segments[number].content)
    return joined(picture.segments[:number] + [empty] * int(random.choice([1, 50, 1000])) + picture.segments[number:])


def _other_size(picture: Picture, random: Random) -> bytes:
    """State other dimensions than the scans fill; nobody can tell within a block, which is cut off anyway."""
    number = _place(picture, *FRAMES)
    content = bytearray(picture.segments[number].content)
    height, width = struct.unpack_from(">HH", content, 1)
    values = [0, height + 16, height * 2, width + 32, 4096, 65535]
    if len(picture.segments[_place(picture, SOS)].scan) > 400:  # of less, a decoder may have read all ahead
        values += [1, 8, max(1, width - 16)]
    size = [height, width]
    size[int(random.integers(2))] = int(random.choice(values))
    struct.pack_into(">HH", content, 1, *size)
    grids = ({tuple(-(-side // block) for side in each) for each in (size, [height, width])} for block in (8, 16))
    picture.open = any(len(grid) == 1 for grid in grids)
    return joined(
        [
            *picture.segments[:number],
            Segment(picture.segments[number].marker, bytes(content)),
            *picture.segments[number + 1 :],
        ]
    )


def _number_of_lines(picture: Picture, random: Random) -> bytes:
    """Give the height after the first scan (DNL), which is legal (T.81, B.2.5) and rare."""
    number, scan = _place(picture, *FRAMES), _place(picture, SOS)
    content = picture.segments[number].content
    lines = Segment(DNL, content[1:3])
    frame = Segment(picture.segments[number].marker, content[:1] + b"\0\0" + content[3:])
    picture.legal = len(_scans(picture)) == 1
    segments = [*picture.segments[: scan + 1], lines, *picture.segments[scan + 1 :]]
    segments[number] = frame
    return joined(segments)


def _second_frame(picture: Picture, random: Random) -> bytes:
    number = _place(picture, *FRAMES)
    place = int(random.integers(number, len(picture.segments)))
    return joined([*picture.segments[:place], picture.segments[number], *picture.segments[place:]])


def _other_frame(picture: Picture, random: Random) -> bytes:
    """Claim another process: progressive, lossless, arithmetic coding, 12 bits."""
    number = _place(picture, *FRAMES)
    frame = picture.segments[number]
    marker = int(random.choice(sorted(FRAMES))) if chance(random, 0.7) else frame.marker
    content = bytes([12]) + frame.content[1:] if marker == frame.marker else frame.content
    picture.open = {marker, frame.marker} == {0xC0, 0xC1}  # baseline and extended sequential are the same here
    return joined([*picture.segments[:number], Segment(marker, content), *picture.segments[number + 1 :]])


def _adobe(picture: Picture, random: Random) -> bytes:
    """Say how colours are coded, rightly or wrongly; the picture is then another one, or nobody knows which."""
    picture.open = True
    content = b"Adobe\0\x64\0\0\0\0" + bytes([int(random.choice([0, 1, 2, 255]))])
    return joined([picture.segments[0], Segment(APP14, content), *picture.segments[1:]])


def _restarts(picture: Picture, random: Random) -> bytes:
    """Announce restarts that do not come, or come at other places."""
    picture.open = True  # a single interval may cover the picture
    interval = struct.pack(">H", int(random.choice([0, 1, 7, 65535])))
    place = _place(picture, SOS)
    return joined([*picture.segments[:place], Segment(DRI, interval), *picture.segments[place:]])


def _lost_segment(picture: Picture, random: Random) -> bytes:
    number = int(random.integers(1, len(picture.segments)))
    picture.open = picture.segments[number].marker >= 0xE0
    lost = picture.segments[number]
    kept = picture.segments[:number] + picture.segments[number + 1 :]
    picture.open |= lost in kept  # it stood there twice
    if lost.marker == APP1 and lost.content.startswith(b"Exif"):
        picture.orientation = 1
    return joined(kept)


def _moved_segment(picture: Picture, random: Random) -> bytes:
    picture.open = True
    rest = list(picture.segments)
    moved = rest.pop(int(random.integers(1, len(rest))))
    rest.insert(int(random.integers(1, len(rest) + 1)), moved)
    return joined(rest)


def _wrong_length(picture: Picture, random: Random) -> bytes:
    picture.open = True  # bytes that are skipped may be none that matter
    number = int(random.integers(1, len(picture.segments) - 1))
    parts = [segment.joined() for segment in picture.segments]
    length = int(random.choice([0, 1, 2, 3, len(picture.segments[number].content) + 3, 65535]))
    parts[number] = parts[number][:2] + struct.pack(">H", length) + parts[number][4:]
    return b"".join(parts)


def _wrong_table(picture: Picture, random: Random) -> bytes:
    """Change a byte of a table, a frame or a scan's head: there is no checksum, so the pixels may be any."""
    picture.open = True
    number = _place(picture, *pick(random, [(DQT,), (DHT,), (SOS,), tuple(FRAMES)]))
    segment = picture.segments[number]
    content = bytearray(segment.content)
    content[int(random.integers(len(content)))] = int(random.choice([0, 1, 0x11, 0x7F, 0xFF]))
    picture.segments[number] = Segment(segment.marker, bytes(content), segment.scan)
    return joined(picture.segments)


def _bits(picture: Picture, random: Random) -> bytes:
    """Flip bits of a scan: there is no checksum, so the pixels may be any."""
    picture.open = True
    number = pick(random, _scans(picture))
    segment = picture.segments[number]
    scan = bytearray(segment.scan)
    for place in random.integers(0, max(1, len(scan)), int(random.integers(1, 5))).tolist():
        scan[place : place + 1] = bytes([1 << place % 8])
    picture.segments[number] = Segment(SOS, segment.content, bytes(scan))
    return joined(picture.segments)


def _cut_file(picture: Picture, random: Random) -> bytes:
    data = joined(picture.segments)
    return data[: int(random.integers(len(data) - 2))]


DEFECTS: tuple[Callable[[Picture, Random], bytes], ...] = (
    _filled, _trailing, _cut_scan, _cut_scan, _lost_scan, _lost_piece, _repeated_scan, _empty_scans, _other_size,
    _number_of_lines, _second_frame, _other_frame, _adobe, _restarts, _lost_segment, _moved_segment, _wrong_length,
    _wrong_table, _bits, _cut_file,
)  # fmt: skip

FORMAT = of_pictures(draw)
