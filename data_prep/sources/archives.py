"""Images read as a stream from a tar.gz or tar archive, one after the other; nothing is extracted to disk.

An archive is untrusted: the path, type and size that a member's header declares decide only whether its data are
read. Formats: POSIX.1-1988 (ustar), POSIX.1-2001 (pax) and GNU headers; IEEE Std 1003.1, "pax".
"""

import hashlib
import io
import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from isal import igzip, igzip_lib

from data_prep.decoding.raster import MAX_BYTES
from data_prep.errors import DataError
from data_prep.labels.safe_names import is_harmless, printable
from data_prep.regular_file import open_regular
from data_prep.sources.image_names import IMAGE_SUFFIXES, parse_name
from data_prep.sources.matching import ONE_SUFFIX, SAME_SUFFIX, NameIndex

NO_ROW = "no row in the label table"
# An archive may decompress to 20 times its size plus 1 GiB; images are compressed already and hardly grow.
MAX_EXPANSION_RATIO, FREE_EXPANSION_BYTES = 20, 2**30
MAX_HEADER_BYTES = 2**20  # of a pax or GNU extension header, which holds a path of up to 4,096 bytes and a few times

OF_PARTS = "fetch it again, or leave it out with --parts"
"""What to do about a damaged archive of several."""

_GZIP_START = b"\x1f\x8b"
_BLOCK = 512
_CHUNK_BYTES = 2**20
_REGULAR_TYPES, _FOLDER_TYPE = frozenset({b"0", b"\0", b"7"}), b"5"
_SPECIAL_TYPES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
_TYPES_WITHOUT_DATA = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})  # whatever size their headers declare


Content = TypeVar("Content")
"""The content of a member: its bytes, or what stands for them."""


class Member(NamedTuple, Generic[Content]):
    """A member of an archive: its path as in the header, and its content, or the reason why it is not read.

    A folder has neither content nor reason.
    """

    path: str
    data: Content | None
    reason: str = ""


class ArchiveItem(NamedTuple, Generic[Content]):
    """An image by its name in the label table, with its content; or a skipped member by its path, with the reason."""

    image: str
    data: Content | None
    reason: str = ""


@dataclass
class ReadProgress:
    """How much of an archive has been read: numbers of `members` (folders included) and `folders`, compressed bytes.

    `md5` is the MD5 sum of the archive, if requested, after its last byte.
    """

    members: int = 0
    folders: int = 0
    position: int = 0
    md5: str = ""


@contextmanager
def open_archive(
    path: Path, read_progress: ReadProgress, md5: bool = False, *, most_bytes: int = MAX_BYTES, remedy: str = OF_PARTS
) -> Iterator[Iterator[Member[bytes]]]:
    """Open an archive (tar.gz, or tar) and iterate over its members, reading it once from start to end.

    `read_progress` is updated while members are read; with `md5` it has the archive's MD5 sum after the last one. A
    member of more than `most_bytes` is not read. `remedy` ends the messages about a damaged archive.

    Yields:
        An iterator over the members. It raises DataError if the archive is damaged (truncated, changed, or not a
        tar archive) or decompresses to far more than images do.

    Raises:
        DataError: the archive cannot be read, or is no regular file.
    """
    with _open(path) as raw:
        zipped = os.pread(raw.fileno(), len(_GZIP_START), 0) == _GZIP_START
        counted = _CountingFile(raw, read_progress, md5)
        with igzip.IGzipFile(fileobj=counted) if zipped or path.name.endswith("gz") else counted as stream:
            limit = MAX_EXPANSION_RATIO * os.fstat(raw.fileno()).st_size + FREE_EXPANSION_BYTES
            decompressed = _DecompressedStream(path, stream, limit, remedy)
            yield _iterate_members(decompressed, read_progress, most_bytes)


def _open(path: Path) -> FileIO:
    try:
        with open_regular(path) as file:
            return FileIO(os.dup(file.fileno()))
    except OSError as error:
        raise DataError(f"{path}: the archive cannot be read ({error.strerror})") from error


class ImageSelection:
    """Selects the images that a label table names; one thread at a time may use it."""

    def __init__(self, images: Collection[str]) -> None:
        """Prepare for the names `images` of the table's rows."""
        self._rows = sorted(images)
        self._index = NameIndex(self._rows)
        self._found: dict[str, list[int]] = {}

    def select(self, members: Iterable[Member[Content]]) -> Iterator[ArchiveItem[Content]]:
        """Select the images of an archive, and give a reason for every other member except folders.

        A member matches a row if the path of one ends with the path of the other; see `data_prep.sources.matching`.

        Yields:
            Every member that is not a folder. An image is selected once; a repetition is skipped with a reason.
        """
        seen: set[int] = set()
        for number, (path, data, reason) in enumerate(members, start=1):
            if data is None and not reason:
                continue
            found = [] if reason else self._rows_of(path)
            reason = reason or _reason_against(path, found, seen, self._rows)
            if reason:
                yield ArchiveItem(printable(path) if is_harmless(path) else f"member {number}", None, reason)
            else:
                seen.update(found)
                yield ArchiveItem(self._rows[found[0]], data)

    def _rows_of(self, path: str) -> list[int]:
        """Return the rows that a member may be meant by, best those that have its suffix.

        A row with another suffix does not count: the member that has it may come later.
        """
        if path not in self._found:
            name, index = parse_name(path), self._index
            same_suffix = index.meant(index.fitting(name, SAME_SUFFIX), path)
            self._found[path] = same_suffix or index.meant(index.fitting(name, ONE_SUFFIX), path)
        return self._found[path]


def _reason_against(path: str, found: list[int], seen: Collection[int], rows: list[str]) -> str:
    """Return why a member that could be read is not used, "" if it is."""
    if not path.lower().endswith(IMAGE_SUFFIXES):
        return f"not an image ({', '.join(IMAGE_SUFFIXES)})"
    if not found:
        return NO_ROW
    if len(found) > 1:
        return "several rows in the label table may mean it"
    if found[0] in seen:
        return f"{rows[found[0]] if is_harmless(rows[found[0]]) else 'it'} was already read from this archive"
    return ""


class _CountingFile(io.RawIOBase):
    """A raw file that counts the bytes read and, if requested, computes their MD5 sum."""

    def __init__(self, file: FileIO, read_progress: ReadProgress, md5: bool) -> None:
        self._file, self._read_progress = file, read_progress
        self._hash = hashlib.md5(usedforsecurity=False) if md5 else None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into `buffer` and return the number of bytes; 0 at the end."""
        count = self._file.readinto(buffer) or 0
        self._read_progress.position += count
        if self._hash:
            self._hash.update(memoryview(buffer)[:count])
            if not count:
                self._read_progress.md5 = self._hash.hexdigest()
        return count


class _DecompressedStream:
    """The decompressed stream, which returns exactly the requested bytes or raises a DataError naming the archive."""

    def __init__(self, path: Path, stream: io.RawIOBase | igzip.IGzipFile, limit: int, remedy: str) -> None:
        self._archive, self._stream, self._bytes_left, self._remedy = path, stream, limit, remedy

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        return b"".join(self._pieces(count))

    def skip(self, count: int) -> None:
        """Read and discard the next `count` bytes."""
        for _ in self._pieces(count):
            pass

    def _pieces(self, count: int) -> Iterator[bytes]:
        while count:
            piece = self._read_up_to(min(count, _CHUNK_BYTES))
            if not piece:
                raise self.damaged("it ends in the middle of a member")
            yield piece
            count -= len(piece)

    def finish(self) -> None:
        """Read to the end, so that the gzip checksums are verified; only zeros may follow the last member."""
        while piece := self._read_up_to(_CHUNK_BYTES):
            if piece.strip(b"\0"):
                raise self.damaged("something follows its end")

    def damaged(self, what: str) -> DataError:
        """Return the error for a damaged archive."""
        return DataError(f"{self._archive}: damaged archive: {what}; {self._remedy}")

    def _read_up_to(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except (OSError, EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc]
            raise self.damaged(f"it cannot be decompressed ({error})") from error
        self._bytes_left -= len(data)
        if self._bytes_left < 0:
            raise self.damaged("it decompresses to far more than images do")
        return data


def _iterate_members(
    stream: _DecompressedStream, read_progress: ReadProgress, most_bytes: int
) -> Iterator[Member[bytes]]:
    """Iterate over the headers; `pending` holds the extension headers that apply to the next member."""
    pending: dict[str, str] = {}
    while (header := stream.read(_BLOCK)).strip(b"\0"):
        _verify_checksum(stream, header)
        member_type, size = header[156:157], _parse_number(stream, header[124:136])
        if member_type in (b"x", b"L", b"K", b"g"):
            if size > MAX_HEADER_BYTES:
                raise stream.damaged(f"a header of {size} bytes")
            content = _read_padded(stream, size)  # of 'K', a link's target, and 'g', for all members, it is not needed
            if member_type == b"x":
                pending |= _parse_pax_records(stream, content)
            elif member_type == b"L":
                pending["path"] = _decode_field(content)
            continue
        read_progress.members += 1
        member = _read_member(stream, header, size, pending, most_bytes)
        read_progress.folders += member.data is None and not member.reason
        yield member
        pending = {}
    stream.finish()


def _read_member(
    stream: _DecompressedStream, header: bytes, size: int, pending: dict[str, str], most_bytes: int
) -> Member[bytes]:
    member_type = header[156:157]
    path = pending.get("path") or _header_path(header)
    if "size" in pending:
        if not re.fullmatch("[0-9]{1,20}", pending["size"]):
            raise stream.damaged(f"a size of {pending['size'][:20]!r}")
        size = int(pending["size"])
    if member_type in _TYPES_WITHOUT_DATA:
        size = 0
    if member_type == b"\0" and path.endswith("/"):  # a folder in the format before ustar
        member_type = _FOLDER_TYPE
    reason = "a sparse file" if "sparse" in pending else _skip_reason(path, member_type, size, most_bytes)
    if reason or member_type == _FOLDER_TYPE:
        stream.skip(-(-size // _BLOCK) * _BLOCK)
        return Member(path, None, reason)
    return Member(path, _read_padded(stream, size))


def _skip_reason(path: str, member_type: bytes, size: int, most_bytes: int) -> str:
    """Return why a member is not read; "" for a folder, or a regular file with a safe path and size."""
    if member_type != _FOLDER_TYPE and member_type not in _REGULAR_TYPES:
        return _SPECIAL_TYPES.get(member_type, f"a member of unknown type {member_type!r}")
    if path.startswith(("/", "\\")) or path[1:2] == ":":
        return "an absolute path"
    if ".." in path.replace("\\", "/").split("/"):
        return "a path that leads outside its folder"
    if size > most_bytes:
        return f"a member of {size} bytes; the limit is {most_bytes}"
    return ""


def _read_padded(stream: _DecompressedStream, size: int) -> bytes:
    data = stream.read(size)
    stream.skip(-size % _BLOCK)
    return data


def _verify_checksum(stream: _DecompressedStream, header: bytes) -> None:
    """Check a header's sum of bytes, where the checksum field counts as spaces; some writers add signed bytes."""
    expected = _parse_number(stream, header[148:156])
    counted = header[:148] + b" " * 8 + header[156:]
    unsigned = sum(counted)
    if expected != unsigned and expected != unsigned - 256 * sum(byte > 127 for byte in counted):
        raise stream.damaged("the checksum of a header is wrong")


def _parse_number(stream: _DecompressedStream, digits: bytes) -> int:
    """Parse an octal number, or a GNU binary number, whose first bit is set."""
    if digits[0] & 0x80:
        number = int.from_bytes(bytes([digits[0] & 0x7F]) + digits[1:], "big")
        if digits[0] & 0x40:
            raise stream.damaged("a negative size")
        return number
    text = digits.partition(b"\0")[0].strip()
    if not text:
        return 0
    if not text.isdigit() or b"8" in text or b"9" in text:
        raise stream.damaged("an invalid number in a header")
    return int(text, 8)


def _header_path(header: bytes) -> str:
    name, prefix = _decode_field(header[:100]), _decode_field(header[345:500])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _decode_field(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", errors="backslashreplace")


def _parse_pax_records(stream: _DecompressedStream, content: bytes) -> dict[str, str]:
    """Parse a pax extended header: records of a length, a space, key=value, and a line feed.

    Only what is needed is kept ("path", "size", and "sparse"): headers may follow one another without end.
    """
    records: dict[str, str] = {}
    position = 0
    while position < len(content) and content[position]:
        digits, space, _ = content[position : position + 20].partition(b" ")
        record = content[position : position + int(digits)] if space and digits.isdigit() else b""
        key, equals, value = record[len(digits) + 1 : -1].partition(b"=")
        if not equals or not record.endswith(b"\n") or len(record) != int(digits):
            raise stream.damaged("an invalid extended header")
        name = "sparse" if key.startswith(b"GNU.sparse.") else _decode_field(key)
        if name in ("path", "size", "sparse"):
            records[name] = _decode_field(value)
        position += len(record)
    return records
