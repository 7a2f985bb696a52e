"""Untrusted CSV tables, whatever program wrote them: header and rows, within limits of memory and time.

RFC 4180, and what spreadsheets and data frames make of it: commas, semicolons or tabs; LF, CR LF or CR; UTF-8 or
UTF-16 with a byte order mark; a first line ``sep=;``; gzip. What could be read in two ways is refused. Sizes are
checked before memory is taken for them.
"""

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.safe_names import printable, row_name
from data_prep.regular_file import read_regular

MAX_TABLE_BYTES = 256 * 2**20  # decompressed; ChestX-ray14's table of 112,120 rows has 9 MB
MAX_EXPANSION_RATIO, FREE_EXPANSION_BYTES = 100, 2**20  # of gzip; tables shrink to a tenth or a twentieth
MAX_CELLS = 2**25  # 1,000,000 rows of 33 columns; in memory a cell takes 60 bytes
MAX_COLUMNS = 4096
MAX_NAME_LENGTH = 1024  # characters of the name of an image, a patient or a column
MAX_ARRAY_BYTES = 2**30  # an array of names takes 4 bytes a character of the longest for every row

_DELIMITERS = (",", ";", "\t")  # of several that divide a header equally the first is taken
_MARKED_ENCODINGS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_DELIMITER_LINE = re.compile(r'"?sep=([,;\t])"?[\r\n]+', re.IGNORECASE)  # Excel's
_LINE = re.compile(r"[^\r\n]*")


@dataclass(frozen=True)
class CsvTable:
    """A table of text.

    Attributes:
        path: of its file.
        header: names of the columns, with single spaces between words; "" for a column without a name.
        rows: cells without surrounding spaces, as many as the header has names; rows that are empty are left out.
        sha256: hexadecimal digest of the file's bytes on disk, compressed if the file is.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    sha256: str

    def column(self, index: int) -> list[str]:
        """Return the cells of a column."""
        return [row[index] for row in self.rows]

    def names(self, index: int, unique: bool = False) -> np.ndarray:
        """Return a column that names images or patients: (n,) str, none empty, and each once if `unique`.

        Raises:
            DataError: a name is missing, too long, not printable, or repeated; the message gives the row's number.
        """
        cells, column = self.column(index), f"column {shown(self.header[index])}"
        if "" in cells:
            raise DataError(f"{self.path}: row {cells.index('') + 1} is empty in {column}; fill in or delete the row")
        if not "".join(cells).isprintable():
            row = next(row for row, cell in enumerate(cells, start=1) if not cell.isprintable())
            raise DataError(f"{self.path}: row {row} has a control character in {column}; remove it")
        longest = max(map(len, cells))
        limit = min(MAX_NAME_LENGTH, MAX_ARRAY_BYTES // 4 // len(cells))
        if longest > limit:
            row = next(row for row, cell in enumerate(cells, start=1) if len(cell) > limit)
            raise DataError(
                f"{self.path}: row {row} has {len(cells[row - 1])} characters in {column}; the limit for "
                f"{len(cells)} rows is {limit}: shorten it, or check that it is the right table"
            )
        if unique and len(set(cells)) < len(cells):
            name = Counter(cells).most_common(1)[0][0]
            first, second = [row for row, cell in enumerate(cells, start=1) if cell == name][:2]
            raise DataError(
                f"{self.path}: {row_name(first, name)} and row {second} are of the same image, {cells.count(name)} "
                "rows in all; keep one row per image"
            )
        return np.array(cells, dtype=np.str_)


def read_csv(path: Path, delimiter: str | None = None) -> CsvTable:
    """Read the table at `path`, a regular file; a name ending in .gz says that it is compressed.

    Without `delimiter` (a comma, a semicolon or a tab) it is the one that divides the header into most columns.

    Raises:
        DataError: the file cannot be read, is not a table, or is larger than a table may be.
    """
    raw = _read_bytes(path)
    text, delimiter = _text_and_delimiter(path, _decompress(path, raw), delimiter)
    _check_size(path, text, delimiter)
    try:
        lines = [[cell.strip() for cell in line] for line in _reader(text, delimiter)]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table ({printable(str(error))})") from error
    header = _header(path, lines[0] if lines else [])
    rows = [line for line in lines[1:] if any(line)]
    if not rows:
        raise DataError(f"{path}: the table has no rows below the {len(header)} names of its columns")
    return CsvTable(path, header, _with_equal_cells(path, header, rows), hashlib.sha256(raw).hexdigest())


def read_header(path: Path) -> list[str]:
    """Return the column names of a table as `read_csv` does, without a look at its rows.

    Raises:
        DataError: the file cannot be read, or its first line is not one of a table.
    """
    text, delimiter = _text_and_delimiter(path, _decompress(path, _read_bytes(path)), None)
    try:
        return _header(path, next(_reader(text, delimiter), []))
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table ({printable(str(error))})") from error


def quoted(names: Sequence[str]) -> str:
    """Return the first names of columns for a message, each in quotation marks; "none" if there are none."""
    named = [name for name in names if name]
    more = f" and {len(named) - 40} more" if len(named) > 40 else ""
    return ", ".join(map(shown, named[:40])) + more or "none"


def shown(name: str) -> str:
    """Return the name of a column for a message: in quotation marks, escaped, and shortened to 60 characters."""
    return repr(name if len(name) <= 60 else name[:57] + "...")


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_TABLE_BYTES)
    except OSError as error:
        raise DataError(f"{path}: the table cannot be read ({error.strerror})") from error


def _decompress(path: Path, raw: bytes) -> bytes:
    if not path.name.lower().endswith(".gz"):
        return raw
    limit = min(MAX_TABLE_BYTES, MAX_EXPANSION_RATIO * len(raw) + FREE_EXPANSION_BYTES)
    try:
        with gzip.open(io.BytesIO(raw)) as file:
            content = file.read(limit + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path}: not a complete gzip file ({error}); fetch it again") from error
    if len(content) > limit:
        raise DataError(
            f"{path}: {len(raw)} bytes decompress to more than {limit}, the limit; decompress it yourself if it is a "
            "label table all the same"
        )
    return content


def _text_and_delimiter(path: Path, content: bytes, delimiter: str | None) -> tuple[str, str]:
    """Decode a table's bytes, and find what divides its cells."""
    encoding = next((name for mark, name in _MARKED_ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding).lstrip("\ufeff \r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from error
    if "\0" in text:
        raise DataError(f"{path}: not a text file (it contains NUL bytes); save it as CSV in UTF-8")
    if delimiter is None and (line := _DELIMITER_LINE.match(text)):
        text, delimiter = text[line.end() :], line[1]
    return text, delimiter or _guess_delimiter(path, text)


def _guess_delimiter(path: Path, text: str) -> str:
    line = _LINE.match(text).group()  # type: ignore[union-attr]  # it matches the empty text
    if line.startswith("#") and not any(delimiter in line for delimiter in _DELIMITERS):
        raise DataError(f"{path}: the first line begins with '#' and names no columns; delete the lines above them")
    return max(_DELIMITERS, key=lambda delimiter: _count_cells(line, delimiter))


def _count_cells(line: str, delimiter: str) -> int:
    """Count the cells of a line; a quoted cell that contains a line break counts as one."""
    if line.count(delimiter) >= MAX_COLUMNS:
        return line.count(delimiter) + 1
    return len(next(csv.reader([line[: csv.field_size_limit()]], delimiter=delimiter), []))


def _check_size(path: Path, text: str, delimiter: str) -> None:
    """Check the number of cells, which are not more than the delimiters and line ends, before they are made."""
    most = text.count(delimiter) + text.count("\n") + text.count("\r") + 1
    if most > MAX_CELLS:
        raise DataError(f"{path}: about {most} cells, the limit is {MAX_CELLS}; leave out columns that are no labels")


def _reader(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def _header(path: Path, cells: Sequence[str]) -> list[str]:
    if len(cells) > MAX_COLUMNS:
        raise DataError(f"{path}: {len(cells)} columns, the limit is {MAX_COLUMNS}")
    names = [" ".join(name.split()) for name in cells]
    if names and (longest := max(map(len, names))) > MAX_NAME_LENGTH:
        raise DataError(f"{path}: a column's name has {longest} characters, the limit is {MAX_NAME_LENGTH}")
    return names


def _with_equal_cells(path: Path, header: Sequence[str], rows: list[list[str]]) -> list[list[str]]:
    """Return the rows with as many cells as the header; only cells of columns without a name may be missing.

    NIH's header of 2017 ends with a comma, its rows need not; spreadsheets end every line with several.
    """
    width = len(header)
    named = max((column for column, name in enumerate(header, start=1) if name), default=0)
    for number, row in enumerate(rows, start=1):
        if len(row) != width and (len(row) < named or any(row[width:])):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {width} columns")
    return [row if len(row) == width else [*row, *[""] * width][:width] for row in rows]
