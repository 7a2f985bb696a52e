"""Images straight out of a compressed archive (tar.gz), one after the other; nothing is ever written to disk.

An archive comes from outside: what a member claims to be (its path, its kind, its size) decides only whether its
bytes are read. Formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU headers; IEEE Std 1003.1, "pax".
"""

import hashlib
import io
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from isal import igzip, igzip_lib

from data_prep.decoding.raster import MAX_BYTES
from data_prep.errors import DataError
from data_prep.sources.folder import IMAGE_SUFFIXES

NO_ROW = "no row in the label table"
MAX_EXPANSION, FREE_EXPANSION = 20, 2**30  # bytes out per byte in, beyond the first; images hardly expand at all
MAX_HEADER_BYTES = 2**20  # of a pax or GNU extension: a path of 4,096 bytes and a few times

_BLOCK = 512
_READ = 2**20  # bytes at a time
_REGULAR, _FOLDER = frozenset({b"0", b"\0", b"7"}), b"5"
_KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a character device", b"4": "a block device", b"6": "a pipe",
    b"S": "a sparse file",
}  # fmt: skip
_WITHOUT_DATA = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})  # whatever size their headers give


class Member(NamedTuple):
    """A member of an archive. data: its bytes, or None with the reason; a folder has no reason either."""

    path: str
    data: bytes | None
    reason: str = ""


class Picked(NamedTuple):
    """A member that is no folder. image: its name in the label table, else its path. data: None with a reason."""

    image: str
    data: bytes | None
    reason: str = ""


@dataclass
class Account:
    """What has come out of an archive so far. position: bytes of the archive that were read."""

    members: int = 0
    folders: int = 0
    position: int = 0
    md5: str = ""


@contextmanager
def open_archive(path: Path, account: Account, md5: bool = False) -> Iterator[Iterator[Member]]:
    """Give the members of the archive at `path` while it is read once; `account` says how far.

    md5: also compute the archive's sum, which is in `account` after the last member.

    Iterating raises DataError where the archive is damaged (cut, changed, no archive at all), and where it expands
    beyond reason.
    """
    with path.open("rb", buffering=0) as raw, igzip.IGzipFile(fileobj=_Counted(raw, account, md5)) as expanded:
        yield _members(_Expanded(path, expanded, MAX_EXPANSION * path.stat().st_size + FREE_EXPANSION), account)


def pick_images(members: Iterator[Member], images: Collection[str]) -> Iterator[Picked]:
    """Give every member that is not a folder: an image of the label table once, anything else with a reason.

    images: the names in the label table. A member is found by its file name, whatever folder it lies in.
    """
    seen: set[str] = set()
    for path, data, reason in members:
        if data is None and not reason:
            continue
        name = PurePosixPath(path).name
        if reason:
            yield Picked(_shown(path), None, reason)
        elif not name.lower().endswith(IMAGE_SUFFIXES):
            yield Picked(_shown(path), None, f"not an image ({', '.join(IMAGE_SUFFIXES)})")
        elif name not in images:
            yield Picked(_shown(path), None, NO_ROW)
        elif name in seen:
            yield Picked(_shown(path), None, f"{name} has come already")
        else:
            seen.add(name)
            yield Picked(name, data)


def _shown(path: str) -> str:
    """Make any path fit for a table and a terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in path)[:200]


class _Counted(io.RawIOBase):
    """A file that counts and, if asked, hashes what is read of it."""

    def __init__(self, file: FileIO, account: Account, md5: bool) -> None:
        self._file, self._account = file, account
        self._hash = hashlib.md5(usedforsecurity=False) if md5 else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(buffer) or 0
        self._account.position += count
        if self._hash:
            self._hash.update(memoryview(buffer)[:count])
            if not count:
                self._account.md5 = self._hash.hexdigest()
        return count


class _Expanded:
    """The expanded stream: exactly as many bytes as asked for, or a DataError that names the archive."""

    def __init__(self, path: Path, stream: igzip.IGzipFile, limit: int) -> None:
        self._path, self._stream, self._left = path, stream, limit

    def read(self, count: int) -> bytes:
        pieces = []
        while count:
            piece = self._some(count)
            if not piece:
                raise self.damaged("it ends in the middle of a member")
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def skip(self, count: int) -> None:
        while count:
            piece = self._some(min(count, _READ))
            if not piece:
                raise self.damaged("it ends in the middle of a member")
            count -= len(piece)

    def drain(self) -> None:
        """Read to the end, where the sums stand."""
        while self._some(_READ):
            pass

    def damaged(self, what: str) -> DataError:
        return DataError(f"{self._path}: damaged archive: {what}; fetch it again, or leave it out with --parts")

    def _some(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except (OSError, EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc]
            raise self.damaged(f"it cannot be expanded ({error})") from error
        self._left -= len(data)
        if self._left < 0:
            raise self.damaged("it expands far beyond what images do")
        return data


def _members(stream: _Expanded, account: Account) -> Iterator[Member]:
    """Walk the headers; `pending` holds what extension headers say about the next member."""
    pending: dict[str, str] = {}
    while (header := stream.read(_BLOCK)).strip(b"\0"):
        _check_sum(stream, header)
        kind, size = header[156:157], _number(stream, header[124:136])
        if kind in (b"x", b"L", b"K", b"g"):
            if size > MAX_HEADER_BYTES:
                raise stream.damaged(f"a header of {size} bytes")
            content = _padded(stream, size)
            if kind in (b"x", b"L"):  # 'K' is a link's target, 'g' holds for all members: neither matters here
                pending |= _pax(stream, content) if kind == b"x" else {"path": _text(content)}
            continue
        account.members += 1
        member = _member(stream, header, kind, size, pending)
        account.folders += member.data is None and not member.reason
        yield member
        pending = {}
    stream.drain()


def _member(stream: _Expanded, header: bytes, kind: bytes, size: int, pending: dict[str, str]) -> Member:
    path = pending.get("path") or _path(header)
    if "size" in pending:
        if not pending["size"].isdecimal():
            raise stream.damaged(f"a size of {pending['size'][:20]!r}")
        size = int(pending["size"])
    if kind in _WITHOUT_DATA:
        size = 0
    if kind == b"\0" and path.endswith("/"):  # how a folder was written before ustar
        kind = _FOLDER
    reason = "a sparse file" if any(key.startswith("GNU.sparse.") for key in pending) else _reason(path, kind, size)
    if reason or kind == _FOLDER:
        stream.skip(-(-size // _BLOCK) * _BLOCK)
        return Member(path, None, reason)
    return Member(path, _padded(stream, size))


def _reason(path: str, kind: bytes, size: int) -> str:
    """Return why a member is not read; nothing for a folder or a plain file of a sensible path and size."""
    if kind != _FOLDER and kind not in _REGULAR:
        return _KINDS.get(kind, f"a member of unknown kind {kind!r}")
    if path.startswith(("/", "\\")) or path[1:2] == ":":
        return "an absolute path"
    if ".." in path.replace("\\", "/").split("/"):
        return "a path that leaves its folder"
    if size > MAX_BYTES:
        return f"a member of {size} bytes; the limit is {MAX_BYTES}"
    return ""


def _padded(stream: _Expanded, size: int) -> bytes:
    data = stream.read(size)
    stream.skip(-size % _BLOCK)
    return data


def _check_sum(stream: _Expanded, header: bytes) -> None:
    """A header's bytes add up to the number in it, which itself counts as spaces; some writers added signed bytes."""
    expected = _number(stream, header[148:156])
    counted = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(counted)
    if expected != unsigned and expected != unsigned - 256 * sum(byte > 127 for byte in counted):
        raise stream.damaged("a header's sum is wrong")


def _number(stream: _Expanded, digits: bytes) -> int:
    """Read an octal number, or GNU's binary one, whose first bit is set."""
    if digits[0] & 0x80:
        number = int.from_bytes(bytes([digits[0] & 0x7F]) + digits[1:], "big")
        if digits[0] & 0x40:
            raise stream.damaged("a negative size")
        return number
    text = digits.partition(b"\0")[0].strip()
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise stream.damaged("a header that is none")
    return int(text, 8)


def _path(header: bytes) -> str:
    name, prefix = _text(header[:100]), _text(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", errors="backslashreplace")


def _pax(stream: _Expanded, content: bytes) -> dict[str, str]:
    """Read records of ``length key=value\\n``."""
    found: dict[str, str] = {}
    position = 0
    while position < len(content) and content[position]:
        digits, space, _ = content[position : position + 20].partition(b" ")
        record = content[position : position + int(digits)] if space and digits.isdigit() else b""
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or not record.endswith(b"\n") or len(record) != int(digits):
            raise stream.damaged("an extended header that is none")
        found[_text(key)] = _text(value)
        position += len(record)
    return found
