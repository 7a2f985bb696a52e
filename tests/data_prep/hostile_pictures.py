"""Small picture files that ask for much memory or time, drawn by grammar."""

import io
import struct
import zlib
from random import Random

import numpy as np
from PIL import Image

from tests.data_prep.picture_files import chunk, header, jpeg_segment, png

SIDES = (64, 1024, 4096)


def hostile_picture(random: Random) -> bytes:
    """Draw a PNG or JPEG that is legal in most respects, and far too much in one or several."""
    return random.choice([_png, _jpeg])(random)


def _zeros(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()


def _png(random: Random) -> bytes:
    side = random.choice(SIDES)
    colour, depth = random.choice([(0, 8), (2, 8), (3, 8), (4, 16), (6, 16), (0, 1)])
    lines = random.choice([b"", bytes(side), bytes(2**24), bytes(2**26)])
    before = b"".join(random.choice(_PNG_PARTS)(random) for _ in range(random.randint(0, 3)))
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    return png(header(side, side, depth, colour, random.random() < 0.2), lines, palette + before, random.randint(1, 9))


def _texts(random: Random) -> bytes:
    """Compressed texts, as many as a message takes, each of many megabytes."""
    text = _zeros(2 ** random.randint(20, 25))
    kinds = {
        b"zTXt": b"Comment\0\0" + text,
        b"iTXt": b"Comment\0\1\0\0\0" + text,
        b"iCCP": b"profile\0\0" + text,
    }
    kind = random.choice(list(kinds))
    return chunk(kind, kinds[kind]) * random.choice([1, 30, 300])


def _empty_chunks(random: Random) -> bytes:
    return chunk(random.choice([b"IDAT", b"tEXt", b"tIME", b"fdAT", b"IHDR"]), b"") * random.choice([10, 10**4, 10**6])


def _frames(random: Random) -> bytes:
    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0)
    return chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)) + chunk(b"fcTL", control) * random.randint(1, 1000)


def _exif(random: Random) -> bytes:
    return chunk(b"eXIf", b"II*\0" + struct.pack("<IH", 8, 2**16 - 1) + random.randbytes(12 * 2**16))


_PNG_PARTS = (_texts, _empty_chunks, _frames, _exif)


def _jpeg(random: Random) -> bytes:
    """Scans repeated, segments repeated, sizes that are not those of the pixels."""
    stream = io.BytesIO()
    small = np.random.default_rng(random.randrange(99)).integers(0, 256, (64, 64), np.uint8)
    picture = Image.fromarray(small if random.random() < 0.5 else np.dstack([small] * 3))
    picture.save(stream, "JPEG", progressive=random.random() < 0.8, restart_marker_blocks=random.choice([0, 1]))
    data = stream.getvalue()
    frame = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    side = random.choice(SIDES)
    data = data[: frame + 5] + struct.pack(">HH", side, side) + data[frame + 9 :]
    last = data[data.rindex(b"\xff\xda") : -2]
    scan = random.choice([last, last[:20], last[:10]])
    data = data[:-2] + scan * random.choice([0, 1, 20, 1000, 10**5]) + data[-2:]
    notes = jpeg_segment(random.choice([0xFE, 0xE1, 0xE2, 0xDB, 0xC4, 0xDD]), random.randbytes(random.choice([0, 9])))
    data = data[:2] + notes * random.choice([0, 1, 1000, 10**6]) + data[2:]
    return data[:2] + b"\xff" * random.choice([0, 1, 10**7]) + data[2:]
