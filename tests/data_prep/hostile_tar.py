"""Archives as NIH makes them, and archives that no honest person makes."""

import gzip
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

BOMB = 300 * 2**20  # bytes of nothing, 1000:1


def member(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def write_tar(path: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:gz", compresslevel=1, format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def hostile_members(image: bytes, names: list[str]) -> list[tuple[tarfile.TarInfo, bytes]]:
    """`image` under three good names among all that is not one; see `HOSTILE` for how many of each."""
    return [
        member("images", kind=tarfile.DIRTYPE),
        member(f"images/{names[0]}", image),
        member("../../outside.png", image),
        member(f"images/../../{names[1]}", image),
        member("/tmp/absolute.png", image),
        member("C:\\Windows\\evil.png", image),
        member(f"images/{names[1]}", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member(f"images/{names[1]}", kind=tarfile.LNKTYPE, link=f"images/{names[0]}"),
        member("images/tape.png", kind=tarfile.CHRTYPE),
        member("images/disk.png", kind=tarfile.BLKTYPE),
        member("images/pipe.png", kind=tarfile.FIFOTYPE),
        member(f"images/{names[1]}", image),
        member(f"images/{names[0]}", image),
        member(f"elsewhere/{names[0]}", image),
        member("images/99999999_000.png", image),
        member("images/README.txt", b"hello"),
        member("images/new\nline\x1b[31m.png", image),
        member("images/" + "x" * 5000 + ".png", image),
        member("images/bomb.png", bytes(BOMB)),
        member(f"images/{names[2]}", b"no picture"),
        member(f"images/{names[3]}", image),
    ]  # fmt: skip


def tar_header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A ustar header with any size field."""
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:155] = f"{sum(header):06o}\0".encode()
    return bytes(header)


def gzipped(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1))
    return path
