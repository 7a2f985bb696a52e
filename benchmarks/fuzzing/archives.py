"""A grammar of tar.gz archives (ustar, pax, GNU; IEEE Std 1003.1, "pax"; RFC 1952), header by header.

An archive is known to its last member. What a tar cannot show to be wrong, as a size that ends within the same block,
is left open.
"""

import gzip
import struct
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fuzzing.case import Case, Format, Random, chance, pick
from data_prep.sources.archives import ImageSelection, ReadProgress, open_archive

BLOCK = 512
EXTENSIONS = (b"x", b"g", b"L", b"K")


@dataclass
class Drawn:
    """An archive on its way into a file.

    Attributes:
        wanted: images that the label table names.
        truth: content of the images that are read, by name.
        blocks: headers with their content, each of whole blocks.
        end: what stands after the last member.
        rules: what was drawn.
        legal: it is an archive that is read to its end.
        refuse: why no reading is right, "" if one is.
        open: nobody can tell what is right.
        change: what happens to the compressed file.
    """

    wanted: list[str]
    truth: dict[str, bytes] = field(default_factory=dict)
    blocks: list[bytes] = field(default_factory=list)
    end: bytes = bytes(2 * BLOCK)
    rules: list[str] = field(default_factory=list)
    legal: bool = True
    refuse: str = ""
    open: bool = False
    change: Callable[[bytes], bytes] = bytes


def draw(random: Random) -> Case:
    """Draw an archive; six in ten are legal."""
    count = int(random.integers(1, 12))
    drawn = Drawn([f"{number:08d}_000{pick(random, ['.png', '.jpg'])}" for number in range(count)])
    for name in drawn.wanted:
        content = random.bytes(int(random.choice([0, 1, 511, 512, 513, random.integers(0, 3000)])))
        if chance(random, 0.9):
            drawn.truth[name] = content
            drawn.blocks.append(_image(name, content, random))
        if chance(random, 0.3):
            other = pick(random, OTHERS)
            drawn.rules.append(other.__name__)
            drawn.blocks.append(other(drawn, name, random))
    if chance(random, 0.3):
        drawn.end += bytes(BLOCK * int(random.integers(0, 40)))  # writers fill up to a record
    if chance(random, 0.4):
        defect = pick(random, DEFECTS)
        drawn.legal = False
        drawn.rules.append(f"defect: {defect.__name__}")
        defect(drawn, random)
    data = drawn.change(_compressed(b"".join(drawn.blocks) + drawn.end, drawn, random))
    expected = drawn.refuse or (None if drawn.open else drawn.truth)
    return Case(".tar.gz", data, tuple(drawn.rules), drawn.legal, expected, tuple(drawn.wanted))


def header(
    path: bytes, size: int, kind: bytes = b"0", *, form: str = "ustar", size_field: bytes | None = None
) -> bytes:
    """Return a header; with `size_field`, whatever its field of the size is to hold."""
    block = bytearray(BLOCK)
    prefix, _, name = path.rpartition(b"/") if len(path) > 100 else (b"", b"", path)
    block[: min(100, len(name))] = name[:100]
    block[100:136] = b"0000644\0" + b"0001000\0" * 2 + b"%011o\0" % size
    block[136:148] = b"14371573400\0"
    if size_field is not None:
        block[124:136] = size_field.ljust(12, b"\0")[:12]
    block[156:157] = kind
    block[257:265] = {"ustar": b"ustar\x0000", "gnu": b"ustar  \0", "v7": bytes(8)}[form]
    if form == "ustar":
        block[345 : 345 + min(155, len(prefix))] = prefix[:155]
    return summed(block)


def summed(block: bytearray) -> bytes:
    """Put the checksum into a header."""
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(content: bytes) -> bytes:
    """Fill up to whole blocks."""
    return content + bytes(-len(content) % BLOCK)


def pax(records: dict[str, str | bytes], kind: bytes = b"x") -> bytes:
    """Return an extension header of records, each with its own length before it."""
    content = b""
    for key, value in records.items():
        record = key.encode() + b"=" + (value if isinstance(value, bytes) else value.encode()) + b"\n"
        length = len(record) + 2
        while len(b"%d " % length) + len(record) != length:
            length = len(b"%d " % length) + len(record)
        content += b"%d " % length + record
    return header(b"PaxHeaders/0", len(content), kind) + padded(content)


def _image(name: str, content: bytes, random: Random) -> bytes:
    """Write a regular member in one of the forms."""
    path = pick(random, ["", "images/", "./images_001/", "a" * 120 + "/", "ü/", "x" * 90 + "/" + "y" * 90 + "/"]) + name
    data, size = path.encode(), len(content)
    if len(data) > 100:
        long = header(b"././@LongLink", len(data) + 1, b"L", form="gnu") + padded(data + b"\0")
        ustar = header(data, size) if len(data) - len(name) < 150 else long + header(data[:90], size, form="gnu")
        ahead = pick(
            random, [ustar, long + header(data[:90], size, form="gnu"), pax({"path": path}) + header(b"x", size)]
        )
    else:
        binary = b"\x80" + struct.pack(">3xQ", size)
        ahead = pick(random, [
            header(data, size), header(data, size, b"\0", form="v7"), header(data, size, b"7"),
            header(data, size, form="gnu", size_field=binary), pax({"mtime": "1.5", "path": path}) + header(b"y", size),
            pax({"size": str(size)}) + header(data, 0), header(data, size, size_field=b"%11o " % size),
            pax({"comment": "x" * 2000}) + header(data, size),
            pax({"SCHILY.xattr.user": b"\0\n\xff"}) + header(data, size),
        ])  # fmt: skip
    return ahead + padded(content)


def _folder(drawn: Drawn, name: str, random: Random) -> bytes:
    return header(b"images/", 0, pick(random, [b"5", b"\0"]), form=pick(random, ["ustar", "v7"]))


def _link(drawn: Drawn, name: str, random: Random) -> bytes:
    """Write a link, a device or a pipe, which has no content whatever its size."""
    size = pick(random, [0, 4096])
    return header(f"l/{name}".encode(), size, pick(random, [b"1", b"2", b"3", b"4", b"6"]))


def _unsafe(drawn: Drawn, name: str, random: Random) -> bytes:
    path = pick(random, ["/etc/", "../", "a/../../", "C:\\", "\\\\host\\", "..\\"]) + name
    return header(path.encode(), 3) + padded(b"bad")


def _stranger(drawn: Drawn, name: str, random: Random) -> bytes:
    path = pick(
        random, ["README.txt", "99999999_000.png", "\x1b[31m.png", "x.png\n", "", ".", name.upper() + "x", "💥.jpg"]
    )
    content = bytes(2**25) if chance(random, 0.01) else random.bytes(700)
    return header(path.encode(), len(content)) + padded(content)


def _sparse(drawn: Drawn, name: str, random: Random) -> bytes:
    records = pax({"GNU.sparse.major": "1", "GNU.sparse.name": name, "GNU.sparse.realsize": "99"})
    return pick(
        random, [records + header(b"s/" + name.encode(), 5), header(name.encode(), 5, b"S", form="gnu")]
    ) + padded(b"12345")


def _globals(drawn: Drawn, name: str, random: Random) -> bytes:
    return pax({"comment": "made by git", "charset": "x"}, b"g")


def _unknown(drawn: Drawn, name: str, random: Random) -> bytes:
    return header(b"volume", 4, pick(random, [b"V", b"M", b"Z", b"\xff", b"D"])) + padded(b"abcd")


def _again(drawn: Drawn, name: str, random: Random) -> bytes:
    """Write another picture under a name that was there before; the first one counts."""
    known = [each for each in drawn.truth]
    return header(b"again/" + pick(random, known).encode(), 5) + padded(b"other") if known else b""


OTHERS: tuple[Callable[[Drawn, str, Random], bytes], ...] = (
    _folder, _link, _unsafe, _stranger, _stranger, _sparse, _globals, _unknown, _again,
)  # fmt: skip


def _compressed(data: bytes, drawn: Drawn, random: Random) -> bytes:
    """Compress, at times in several members of gzip."""
    if chance(random, 0.2):
        drawn.rules.append("several gzip members")
        cut = int(random.integers(len(data) + 1))
        return gzip.compress(data[:cut], 1) + gzip.compress(data[cut:], 1)
    return gzip.compress(data, int(random.integers(0, 10)) if len(data) < 10**6 else 1)


def _insert(drawn: Drawn, block: bytes, random: Random) -> None:
    drawn.blocks.insert(int(random.integers(len(drawn.blocks) + 1)), block)


def _cut_gzip(drawn: Drawn, random: Random) -> None:
    share = float(random.random())
    drawn.change = lambda data: data[: int(share * len(data))]
    drawn.refuse = "the file is cut"


def _damaged_gzip(drawn: Drawn, random: Random) -> None:
    """Flip a bit of the compressed data, of the checksum, or of the sizes; not of what says nothing."""
    share, bit = float(random.random()), int(random.integers(8))

    def change(data: bytes) -> bytes:
        place = 10 + int(share * (len(data) - 10))
        return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]

    drawn.change = change  # which may hit the fill of a block, or the head of a second member


def _trailing(drawn: Drawn, random: Random) -> None:
    more = pick(random, [bytes(100), b"garbage", b"\x1f\x8b", b"\x1f\x8b\x08\0"])
    drawn.change = lambda data: data + more


def _no_end(drawn: Drawn, random: Random) -> None:
    drawn.end = b""


def _one_zero_block(drawn: Drawn, random: Random) -> None:
    """Put the end's mark, or half of it, among the members: what follows must not be lost in silence."""
    if len(drawn.blocks) > 1:
        drawn.blocks.insert(len(drawn.blocks) - 1, bytes(BLOCK * int(random.integers(1, 3))))


def _cut_tar(drawn: Drawn, random: Random) -> None:
    content = b"".join(drawn.blocks)
    drawn.blocks, drawn.end = [content[: int(random.integers(len(content) + 1))]], b""
    drawn.open = not content or len(drawn.blocks[0]) == len(content)
    if not drawn.open:
        drawn.refuse = "the archive is cut"


def _wrong_checksum(drawn: Drawn, random: Random) -> None:
    block = bytearray(header(b"images/x.png", 0))
    block[int(random.choice([0, 5, 100, 125, 148, 260]))] ^= 1
    _insert(drawn, bytes(block), random)
    drawn.refuse = "a header's checksum is wrong"


def _wrong_size(drawn: Drawn, random: Random) -> None:
    """Give a member a size that is no number, or far more than there is."""
    sizes = [
        b"-1",
        b"99999999999",
        b"\xff" * 12,
        b"\x80" + b"\xff" * 11,
        b"0x10",
        b"12 34",
        b"8",
        b"\xc0",
        b"1e3",
        b"\x80" + bytes(6) + b"\1" * 5,
    ]
    _insert(
        drawn, header(pick(random, [b"99_9.png", drawn.wanted[0].encode()]), 0, size_field=pick(random, sizes)), random
    )
    drawn.refuse = "a size is none"


def _lying_size(drawn: Drawn, random: Random) -> None:
    _insert(drawn, header(drawn.wanted[0].encode(), int(random.choice([1, 512, 513, 5000]))) + padded(b"abc"), random)
    drawn.open = True


def _wrong_pax(drawn: Drawn, random: Random) -> None:
    contents = [
        b"9 path=x",
        b"x",
        b"99999 path=x\n",
        b"6 path\n",
        b"0 path=x\n",
        b"-5 path=x\n",
        b"9 path=\xff\n\n",
        b"10 size=-1\n",
        b"11 size=1e3\n",
        b"27 size=9999999999999999999\n",
        b"1" * 5000 + b" a=b\n",
    ]
    content = pick(random, contents)
    _insert(drawn, header(b"p", len(content), b"x") + padded(content) + header(b"q.png", 0), random)
    drawn.open = content.startswith(b"9 path=\xff")
    drawn.refuse = "" if drawn.open else "an extension header is none"


def _huge_pax(drawn: Drawn, random: Random) -> None:
    """Write extension headers far larger than a path, or many of them, or one for nobody."""
    size = int(random.choice([2**19, 2**20 + 1, 2**24]))
    kind = pick(random, EXTENSIONS)
    content = b"%d comment=" % size + b"x" * (size - 10 - len(str(size))) + b"\n" if kind == b"x" else b"y" * size
    _insert(drawn, (header(b"p", len(content), kind) + padded(content)) * int(random.integers(1, 4)), random)
    drawn.open = kind in (b"x", b"L")  # it names what follows


def _many_headers(drawn: Drawn, random: Random) -> None:
    kind = pick(random, EXTENSIONS)
    one = header(b"p", 0, kind) if chance(random, 0.5) else pax({f"k{random.integers(9)}": "v"}, kind)
    _insert(drawn, one * 20_000, random)
    drawn.open = True


def _many_members(drawn: Drawn, random: Random) -> None:
    _insert(drawn, header(b"x.txt", 0) * 20_000, random)


def _bomb(drawn: Drawn, random: Random) -> None:
    size = 2 ** int(random.choice([24, 25, 27]))
    _insert(
        drawn, header(pick(random, [b"bomb.png", b"bomb.txt", drawn.wanted[0].encode()]), size) + bytes(size), random
    )
    drawn.open = True  # which of two images of a name is the bomb


def _no_tar(drawn: Drawn, random: Random) -> None:
    drawn.change = lambda data: pick(
        random, [b"", b"PK\3\4", gzip.compress(b""), gzip.compress(b"hello"), random.bytes(2000)]
    )
    drawn.refuse = "there is no archive"


DEFECTS: tuple[Callable[[Drawn, Random], None], ...] = (
    _cut_gzip, _damaged_gzip, _damaged_gzip, _trailing, _no_end, _one_zero_block, _cut_tar, _wrong_checksum,
    _wrong_size, _lying_size, _wrong_pax, _huge_pax, _many_headers, _many_members, _bomb, _no_tar,
)  # fmt: skip


def read(case: Case) -> dict[str, bytes]:
    """Read the images of an archive as an ingest does, and look at every reason for what is left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "images.tar.gz")
        path.write_bytes(case.data)
        with open_archive(path, ReadProgress(), md5=True) as members:
            items = list(ImageSelection(case.asked).select(members))
    for item in items:
        if item.data is None and not (item.reason.isprintable() and item.image.isprintable()):
            raise ValueError(f"{item.image!r}: {item.reason!r} cannot be printed")
    return {item.image: item.data for item in items if item.data is not None}


def difference(found: dict[str, bytes], truth: dict[str, bytes] | str) -> str:
    """Say in what the images that were read differ from those that were drawn; "" if in nothing."""
    if isinstance(truth, str):
        return f"taken, although {truth}"
    if found.keys() != truth.keys():
        return f"{len(found.keys() - truth.keys())} images invented, {len(truth.keys() - found.keys())} lost"
    return "" if found == truth else "an image has another content"


FORMAT = Format(draw, read, difference)
