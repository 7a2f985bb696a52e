"""A grammar of PNG (ISO/IEC 15948), with APNG's chunks: every kind of picture, encoded here from its samples.

A legal file is known to its last sample, as nothing but this module has touched it. Defects break one rule of the
standard each, with right checksums where the checksum is not the defect, so that a reader gets as far as it goes.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from benchmarks.fuzzing.case import CANARIES, Case, Random, chance, pick
from benchmarks.fuzzing.pictures import LUMINANCE, OBLONG, draw_picture, draw_shape, in_store, of_pictures, turned

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGBA: (8, 16)}
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))  # Adam7

Chunk = tuple[bytes, bytes]


@dataclass
class Picture:
    """A picture on its way into a file.

    Attributes:
        colour: colour type of the header.
        depth: bits of a sample.
        interlace: 0, or 1 for Adam7.
        samples: (h, w, c) of whole numbers.
        palette: (entries, 3) uint8, None without one.
        orientation: of Exif, 1 if the file gives none.
        aspect: height of a pixel divided by its width.
        rules: what was drawn.
        legal: no rule of the standard is broken.
        open: the standard leaves open what a reader shows.
    """

    colour: int
    depth: int
    interlace: int
    samples: np.ndarray
    palette: np.ndarray | None = None
    orientation: int = 1
    aspect: float = 1.0
    rules: list[str] = field(default_factory=list)
    legal: bool = True
    open: bool = False

    def header(self) -> bytes:
        """Return the content of IHDR."""
        height, width = self.samples.shape[:2]
        return struct.pack(">IIBBBBB", width, height, self.depth, self.colour, 0, 0, self.interlace)


def draw(random: Random) -> Case:
    """Draw a PNG file; six in ten are legal."""
    picture = _draw_picture(random)
    raw = b"".join(_filtered(part, picture, random) for part in _parts(picture))
    chunks = _chunks(picture, _compressed(raw, picture, random), random)
    data = joined(chunks)
    if chance(random, 0.4):
        picture.legal = False
        defect = pick(random, DEFECTS)
        picture.rules.append(f"defect: {defect.__name__}")
        broken = defect(picture, raw, chunks, random)
        data = broken if isinstance(broken, bytes) else joined(broken)
    expected = None if picture.open else turned(in_store(grey(picture), picture.aspect), picture.orientation)
    return Case(".png", data, tuple(picture.rules), picture.legal, expected)


def grey(picture: Picture) -> np.ndarray:
    """Return what a viewer shows, without transparency: (h, w) of 0 to 255."""
    if picture.palette is not None:
        return picture.palette[picture.samples[..., 0]].astype(float) @ LUMINANCE
    colours = picture.samples[..., : 3 if picture.colour & 2 else 1].astype(float)
    luminance = colours @ LUMINANCE if picture.colour & 2 else colours[..., 0]
    return stretched(luminance) if picture.depth == 16 else luminance * (255 / (2**picture.depth - 1))


def stretched(values: np.ndarray) -> np.ndarray:
    """Show values over their own range: 0 to 255."""
    low, high = values.min(), values.max()
    return (values - low) * (255 / (high - low))


def _draw_picture(random: Random) -> Picture:
    colour = int(random.choice(list(CHANNELS), p=[0.4, 0.2, 0.15, 0.1, 0.15]))
    depths = DEPTHS[colour]
    depth = int(random.choice(depths if chance(random, 0.3) else depths[-2:]))  # few bits make few grey levels
    channels, shape = CHANNELS[colour], draw_shape(random)
    used = int(random.integers(8, 17)) if depth == 16 else depth
    offset = int(random.integers(0, 2**16 - 2**used + 1)) if depth == 16 else 0
    samples = np.rint(draw_picture(random, shape, channels) * (2**used - 1)).astype(np.int64) + offset
    picture = Picture(colour, depth, int(random.choice([0, 0, 0, 1])), samples)
    picture.rules += [f"colour {colour}", f"{depth} bits", *(["Adam7"] if picture.interlace else [])]
    if depth == 16:
        picture.rules.append(f"{used} bits used")
    if colour == PALETTE:
        picture.palette = np.sort(random.integers(0, 256, (2**depth, 3), dtype=np.uint8), axis=0)
        picture.palette[-1], picture.palette[0] = 255, 0
    return picture


def _parts(picture: Picture) -> list[np.ndarray]:
    """Return the pictures that are encoded one after the other: one, or seven of Adam7; empty ones are left out."""
    if not picture.interlace:
        return [picture.samples]
    parts = [picture.samples[top::down, left::right] for top, left, down, right in PASSES]
    return [part for part in parts if part.size]


def _filtered(samples: np.ndarray, picture: Picture, random: Random) -> bytes:
    """Pack samples into bytes and filter every line by a filter drawn for it."""
    lines = _packed(samples, picture.depth)
    step = max(1, samples.shape[2] * picture.depth // 8)
    before = np.zeros(lines.shape[1], np.int64)
    filters = random.integers(0, 5, len(lines)) if chance(random, 0.7) else np.full(len(lines), random.integers(0, 5))
    out = []
    for line, kind in zip(lines.astype(np.int64), filters.tolist(), strict=True):
        left, corner = (
            np.concatenate([np.zeros(step, np.int64), each[:-step]])[: len(line)] for each in (line, before)
        )
        predicted = (0, left, before, (left + before) // 2, _paeth(left, before, corner))[kind]
        out.append(bytes([kind]) + ((line - predicted) % 256).astype(np.uint8).tobytes())
        before = line
    return b"".join(out)


def _packed(samples: np.ndarray, depth: int) -> np.ndarray:
    height = len(samples)
    flat = samples.reshape(height, -1)
    if depth == 16:
        return flat.astype(">u2").view(np.uint8).reshape(height, -1)
    if depth == 8:
        return flat.astype(np.uint8)
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    estimate = left + above - corner
    by_left, by_above, by_corner = abs(estimate - left), abs(estimate - above), abs(estimate - corner)
    first = (by_left <= by_above) & (by_left <= by_corner)
    return np.where(first, left, np.where(by_above <= by_corner, above, corner))


def _compressed(raw: bytes, picture: Picture, random: Random) -> bytes:
    strategy = pick(random, [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED])
    packer = zlib.compressobj(int(random.integers(0, 10)), zlib.DEFLATED, int(random.integers(9, 16)), 8, strategy)
    if chance(random, 0.2):  # several blocks, some of them empty
        picture.rules.append("several deflate blocks")
        cut = len(raw) // 2
        flush = pick(random, [zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])
        blocks = [packer.compress(raw[:cut]), packer.flush(flush), packer.flush(flush), packer.compress(raw[cut:])]
        return b"".join(blocks) + packer.flush()
    return packer.compress(raw) + packer.flush()


def joined(chunks: list[Chunk]) -> bytes:
    """Return the file of these chunks, with right checksums."""
    return SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _chunks(picture: Picture, stream: bytes, random: Random) -> list[Chunk]:
    """Return the chunks of a legal file."""
    chosen = {name: chance(random, 0.1) for name in ANCILLARY}
    if picture.colour >= GREY_ALPHA:
        chosen["tRNS"] = False
    if picture.colour & 2 and picture.palette is None and chance(random, 0.15):
        picture.rules.append("suggested palette")
        palette = [(b"PLTE", random.bytes(3 * int(random.integers(1, 257))))]
    else:
        palette = [] if picture.palette is None else [(b"PLTE", picture.palette.tobytes())]
    places: dict[str, list[Chunk]] = {"before palette": [], "before data": [], "after data": []}
    for name, (place, content) in ANCILLARY.items():
        if chosen[name] and not (name == "sRGB" and chosen["iCCP"]):
            drawn = place if place != "anywhere" else pick(random, places)
            places[drawn].append((name.encode(), content(picture, random)))
            picture.rules.append(name)
    data = _split(stream, picture, random)
    if chance(random, 0.03):
        places["before data"] += pick(random, (_animation, _heavy_texts))(picture, random)
    ahead = [(b"IHDR", picture.header()), *places["before palette"], *palette, *places["before data"]]
    return [*ahead, *data, *places["after data"], (b"IEND", b"")]


def _split(stream: bytes, picture: Picture, random: Random) -> list[Chunk]:
    """Split the compressed data; some chunks may be empty, and at times thousands are."""
    if chance(random, 0.6):
        return [(b"IDAT", stream)]
    picture.rules.append("several IDAT")
    cuts = sorted(random.integers(0, len(stream) + 1, int(random.integers(1, 6))).tolist())
    if chance(random, 0.3):
        cuts = sorted(cuts + cuts[:1] * (20_000 if chance(random, 0.05) else 3))
    edges = zip([0, *cuts], [*cuts, len(stream)], strict=True)
    return [(b"IDAT", stream[start:end]) for start, end in edges]


def _animation(picture: Picture, random: Random) -> list[Chunk]:
    """Make the picture the first frame of an animation (APNG); that frame may claim to be smaller, against the rule."""
    height, width = picture.samples.shape[:2]
    frames = int(random.integers(1, 4))
    if whole := chance(random, 0.5):
        size = (width, height, 0, 0)
    else:
        size = tuple(int(value) for value in (random.integers(1, width), random.integers(1, height), 0, 0))
        picture.legal = False
    picture.rules.append("APNG" if whole else "APNG with a small first frame")
    control = struct.pack(">IIIIIHHBB", 0, *size, 1, 10, 0, 0)
    return [(b"acTL", struct.pack(">II", frames, 0)), (b"fcTL", control)]


def _heavy_texts(picture: Picture, random: Random) -> list[Chunk]:
    """Compressed texts that become megabytes each."""
    picture.rules.append("heavy texts")
    packed = zlib.compress(bytes(2**22), 9)
    heavy = {
        b"zTXt": b"Comment\0\0" + packed, b"iTXt": b"Title\0\1\0\0\0" + packed, b"iCCP": b"icc\0\0" + packed,
    }  # fmt: skip
    kind = pick(random, heavy)
    return [(kind, heavy[kind])] * (1 if kind == b"iCCP" else int(random.integers(1, 40)))


def _transparency(picture: Picture, random: Random) -> bytes:
    if picture.palette is not None:
        return random.bytes(int(random.integers(1, len(picture.palette) + 1)))
    return struct.pack(f">{picture.samples.shape[2]}H", *picture.samples[0, 0].tolist())


def _exif(picture: Picture, random: Random) -> bytes:
    picture.orientation = int(random.integers(1, 9))
    picture.rules.append(f"orientation {picture.orientation}")
    return exif(picture.orientation, pick(random, "<>"))


def exif(orientation: int, order: str) -> bytes:
    """Return Exif data (TIFF, byte order "<" or ">") with an orientation and a name."""
    name = CANARIES[0].encode() + b"\0"
    entries = [
        (0x010E, 2, len(name), struct.pack(order + "I", 38)),
        (0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)),
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    fields = b"".join(struct.pack(order + "HHI", tag, kind, count) + value for tag, kind, count, value in entries)
    return head + struct.pack(order + "H", len(entries)) + fields + bytes(4) + name


def _significant_bits(picture: Picture, random: Random) -> bytes:
    depth = 8 if picture.palette is not None else picture.depth
    count = (3 if picture.colour & 2 else 1) + (picture.colour >= GREY_ALPHA)
    return bytes(random.integers(1, depth + 1, count).tolist())


def _background(picture: Picture, random: Random) -> bytes:
    return bytes(1) if picture.palette is not None else bytes(6 if picture.colour & 2 else 2)


def _density(picture: Picture, random: Random) -> bytes:
    across, down = pick(random, [(3937, 3937), *OBLONG, (0, 0)])
    picture.aspect = across / down if down else 1.0
    return struct.pack(">IIB", across, down, int(random.integers(0, 2)))


def _text(_picture: Picture, random: Random) -> bytes:
    return b"Patient\0" + pick(random, CANARIES).encode()


ANCILLARY: dict[str, tuple[str, Callable[[Picture, Random], bytes]]] = {
    "gAMA": ("before palette", lambda _, random: struct.pack(">I", int(random.choice([45455, 100000, 220000])))),
    "cHRM": ("before palette", lambda *_: struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    "sRGB": ("before palette", lambda *_: b"\0"),
    "iCCP": ("before palette", lambda *_: b"icc\0\0" + zlib.compress(bytes(128))),
    "sBIT": ("before palette", _significant_bits),
    "tRNS": ("before data", _transparency),
    "bKGD": ("before data", _background),
    "pHYs": ("before data", _density),
    "sPLT": ("before data", lambda _, random: b"spal\0\x08" + random.bytes(6 * int(random.integers(0, 9)))),
    "tEXt": ("anywhere", _text),
    "zTXt": ("anywhere", lambda *of: b"Comment\0\0" + zlib.compress(_text(*of) * 20)),
    "iTXt": ("anywhere", lambda *_: b"Title\0\1\0de\0T\0" + zlib.compress("Röntgen".encode())),
    "tIME": ("anywhere", lambda *_: struct.pack(">HBBBBB", 2024, 2, 29, 23, 59, 60)),
    "prIv": ("anywhere", lambda _, random: random.bytes(int(random.integers(0, 40)))),
    "eXIf": ("anywhere", _exif),
}
"""Chunks that change no sample: the place where each is legal, and how its content is drawn."""


def _data_bytes(header: bytes) -> int:
    """Return how many bytes a header's picture has before compression, 0 if there is no such picture."""
    width, height, depth, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", header)
    if depth not in DEPTHS.get(colour, ()) or compression or filters or interlace > 1 or width * height > 2**24:
        return 0
    bits = depth * CHANNELS[colour]
    passes = PASSES if interlace else ((0, 0, 1, 1),)
    sides = ((-(-(height - top) // down), -(-(width - left) // right)) for top, left, down, right in passes)
    return sum(lines * (1 + -(-columns * bits // 8)) for lines, columns in sides if lines > 0 and columns > 0)


def _with_header(picture: Picture, raw: bytes, chunks: list[Chunk], header: bytes) -> list[Chunk]:
    """Replace the header; what fits the data as well as the true one tells nobody that it is another."""
    picture.open = _data_bytes(header) == len(raw) or header == chunks[0][1]
    return [(b"IHDR", header), *chunks[1:]]


def _with_data(chunks: list[Chunk], stream: bytes) -> list[Chunk]:
    first = next(number for number, (kind, _) in enumerate(chunks) if kind == b"IDAT")
    others = [chunk for chunk in chunks[first:] if chunk[0] != b"IDAT"]
    return [*chunks[:first], (b"IDAT", stream), *others]


def _other_size(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    height, width = picture.samples.shape[:2]
    values = [0, 1, height // 2, height + 1, 2 * width, 4096, 4097, 2**15, 2**31 - 1, 2**31, 2**32 - 1]
    size = [width, height]
    for place in random.permutation(2)[: random.integers(1, 3)]:
        size[place] = int(random.choice(values))
    # Rows below the last one that the header asks for are not looked at: to inflate them all would take too long.
    fewer_rows = size[1] < height and (size[0] == width or size[1] == 1)
    chunks = _with_header(picture, raw, chunks, struct.pack(">II", *size) + picture.header()[8:])
    picture.open |= fewer_rows
    return chunks


def _other_kind(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    header = bytearray(picture.header())
    place = int(random.integers(8, 13))
    header[place] = int(random.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]))
    return _with_header(picture, raw, chunks, bytes(header))


def _short_header(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    header = (picture.header() + bytes(4))[: int(random.choice([0, 8, 12, 14, 17]))]
    return [(b"IHDR", header), *chunks[1:]]


def _lost_chunk(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    critical = [number for number, (kind, _) in enumerate(chunks) if kind[0] & 32 == 0]
    lost = pick(random, critical)
    # nobody misses a suggestion, or a part of the data without a byte
    return chunks[:lost] + chunks[lost + 1 :]


def _repeated_chunk(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    number = int(random.integers(len(chunks) - 1))
    picture.open = chunks[number][0] == b"IDAT"  # only the checksum within the data shows it; see `_wrong_stream`
    place = int(random.integers(number, len(chunks)))
    return [*chunks[: place + 1], chunks[number], *chunks[place + 1 :]]


def _moved_chunk(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    rest = list(chunks)
    moved = rest.pop(int(random.integers(len(rest))))
    rest.insert(int(random.integers(len(rest) + 1)), moved)
    return rest


def _unknown_critical_chunk(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    place = int(random.integers(1, len(chunks)))
    kind = pick(random, [b"CRIT", b"JDAT", b"MHDR", b"I\x1bAT", b"\0\0\0\0", b"\xff\xfe\xfd\xfc", b"CgBI", b"JaNE"])
    return [*chunks[:place], (kind, random.bytes(4)), *chunks[place:]]


def _misplaced_content(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    """Give an ancillary chunk a content that is none of its kind."""
    name = pick(random, ANCILLARY)
    picture.open = any(kind == name.encode() for kind, _ in chunks)  # of two nobody knows which counts
    content = random.bytes(int(random.choice([0, 1, 3, 7, 300])))
    place = int(random.integers(1, len(chunks)))
    return [*chunks[:place], (name.encode(), content), *chunks[place:]]


def _short_data(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    return _with_data(chunks, zlib.compress(raw[: int(random.integers(len(raw)))]))


def _long_data(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    return _with_data(chunks, zlib.compress(raw + bytes(int(random.choice([1, 100, 2**20])))))


def _bomb(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    return _with_data(chunks, zlib.compress(raw) if chance(random, 0.8) else zlib.compress(raw + bytes(2**26)))


def _wrong_filter(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    samples = _parts(picture)[0]
    line = 1 + -(-samples.shape[1] * samples.shape[2] * picture.depth // 8)
    broken = bytearray(raw)
    broken[line * int(random.integers(len(samples)))] = int(random.integers(5, 256))
    return _with_data(chunks, zlib.compress(bytes(broken)))


def _short_palette(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    length = int(random.choice([0, 1, 2, 3, 6, 767, 771]))
    return [(kind, content[:length].ljust(length, b"x") if kind == b"PLTE" else content) for kind, content in chunks]


def _cut_stream(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    stream = zlib.compress(raw)
    return _with_data(chunks, stream[: int(random.integers(len(stream)))])


def _wrong_stream(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> list[Chunk]:
    """Flip a bit of the compressed data, or add to them.

    In their middle nobody need see it: the chunk's checksum covers every byte, and is right here, so that decoders
    leave out the weaker one within.
    """
    stream = bytearray(zlib.compress(raw))
    place = int(random.choice([0, 1, 2, -1, -2, len(stream) // 2]))
    picture.open = place > 2
    stream[place] ^= 1 << int(random.integers(8))
    return _with_data(chunks, bytes(stream) + (random.bytes(9) if chance(random, 0.2) else b""))


def _wrong_checksum(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> bytes:
    parts = [_chunk(*chunk) for chunk in chunks]
    number = int(random.integers(len(parts)))
    parts[number] = parts[number][:-1] + bytes([parts[number][-1] ^ 1])
    return SIGNATURE + b"".join(parts)


def _wrong_length(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> bytes:
    parts = [_chunk(*chunk) for chunk in chunks]
    number = int(random.integers(len(parts)))
    length = int(random.choice([0, 1, len(parts[number]), 2**31 - 1, 2**31, 2**32 - 1]))
    parts[number] = struct.pack(">I", length) + parts[number][4:]
    return SIGNATURE + b"".join(parts)


def _cut_file(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> bytes:
    data = joined(chunks)
    return data[: int(random.integers(len(data)))]


def _trailing_bytes(picture: Picture, raw: bytes, chunks: list[Chunk], random: Random) -> bytes:
    return joined(chunks) + pick(random, [b"\0", random.bytes(50), joined(chunks)])


DEFECTS: tuple[Callable[[Picture, bytes, list[Chunk], Random], list[Chunk] | bytes], ...] = (
    _other_size, _other_kind, _short_header, _lost_chunk, _repeated_chunk, _moved_chunk, _unknown_critical_chunk,
    _misplaced_content, _short_data, _long_data, _bomb, _wrong_filter, _short_palette, _cut_stream, _wrong_stream,
    _wrong_checksum, _wrong_length, _cut_file, _trailing_bytes,
)  # fmt: skip

FORMAT = of_pictures(draw)
