"""Label tables: the ChestX-ray14 table of NIH, or any CSV table with one column per label.

n rows (images), k labels.

A table is untrusted: its size is limited before and after decompression, and every row is checked. Two layouts are
read:

* ``nih``: ``Image Index``, ``Finding Labels`` (names joined by ``|``, or ``No Finding``), ``Patient ID``, and
  optionally ``View Position``. The headers of 2017 and 2020 both contain ``OriginalImage[Width,Height]``, whose comma
  is not quoted: it counts as two columns, as do its values. The header of 2017 ends with an empty column.
* ``columns``: an image column, a patient column, optionally a view column, and one column per label with 1, 0 or
  nothing (unknown). The k labels are these columns, in the order of the table.
"""

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.errors import DataError, did_you_mean

# Wang et al., ChestX-ray8 (CVPR 2017), extended to fourteen findings by NIH, in the order of NIH's list.
FINDINGS: tuple[str, ...] = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NO_FINDING = "No Finding"
UNKNOWN = -1

TABLE_SUFFIXES = (".csv", ".csv.gz")
MAX_TABLE_BYTES = 256 * 2**20  # decompressed; ChestX-ray14's table of 112,120 rows has 9 MB

# Column names, as `_normalise_name` returns them.
_IMAGE_COLUMNS = {
    "image",
    "imageindex",
    "imageid",
    "imagename",
    "imagepath",
    "filename",
    "file",
    "filepath",
    "path",
}
_PATIENT_COLUMNS = {"patient", "patientid", "patientkey", "patientnumber", "subject", "subjectid"}
_VIEW_COLUMNS = {"view", "viewposition", "projection"}
_IDENTIFYING_COLUMNS = _IMAGE_COLUMNS | _PATIENT_COLUMNS | _VIEW_COLUMNS
# Columns that describe the image or the patient: never labels, even if all their values are 0 or 1.
_METADATA_COLUMNS = """
age patientage sex gender patientsex patientgender followup split date studydate study studyid series seriesid width
height index id row originalimagewidth height] originalimagepixelspacingx y]
"""
_VIEWS = {"PA": "PA", "AP": "AP", "LATERAL": "LATERAL", "LAT": "LATERAL", "LL": "LATERAL", "L": "LATERAL"}
_CELL_VALUES = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "": UNKNOWN}


@dataclass(frozen=True)
class LabelTable:
    """The rows of a label table, in the order of the file.

    Attributes:
        images: (n,) str, names as in the table, each once.
        patients: (n,) str, identifiers as in the table: never write them to a store, a log or a report.
        labels: k names.
        targets: (n, k) int8; 1 present, 0 absent, -1 unknown.
        views: (n,) str; "PA", "AP", "LATERAL", or "" if unknown.
        layout: "nih" or "columns".
        sha256: hexadecimal digest of the file's bytes on disk, compressed if the file is.
        ignored: names of the columns that are not used.
    """

    images: np.ndarray
    patients: np.ndarray
    labels: tuple[str, ...]
    targets: np.ndarray
    views: np.ndarray
    layout: Literal["nih", "columns"]
    sha256: str
    ignored: tuple[str, ...] = ()


def read_labels(path: Path) -> LabelTable:
    """Read the label table at `path` (.csv or .csv.gz).

    Raises:
        DataError: the table cannot be read, lacks a column, contains an unknown finding or a label value other than
            1, 0 and nothing, has two rows for an image, or has a row without image or patient.
    """
    text, sha256 = _read_text(path)
    header = _parse_header(text)
    kind = table_layout(header)
    if kind is None:
        raise DataError(f"{path}: {missing_columns(header)}")
    rows = _parse_rows(path, text, header)
    read = _read_nih if kind == "nih" else _read_columns
    labels, targets = read(path, header, rows)
    used = _IDENTIFYING_COLUMNS | {"findinglabels"}
    others = [name for name in header if name and _normalise_name(name) not in used]
    patients = _identifiers(path, header, rows, _PATIENT_COLUMNS)
    return LabelTable(
        images=_identifiers(path, header, rows, _IMAGE_COLUMNS, unique=True),
        patients=_remove_leading_zeros(patients) if kind == "nih" else patients,
        labels=labels,
        targets=targets,
        views=_views(header, rows),
        layout=kind,
        sha256=sha256,
        ignored=tuple(name for name in others if kind == "nih" or name not in labels),
    )


def read_cells(path: Path) -> tuple[list[str], list[list[str]], str]:
    """Read a CSV table (.csv or .csv.gz): column names, rows of cells without surrounding spaces, hexadecimal SHA-256.

    Raises:
        DataError: the table cannot be read, or a row has another number of cells than the header.
    """
    text, sha256 = _read_text(path)
    header = _parse_header(text)
    return header, _parse_rows(path, text, header), sha256


def read_header(path: Path) -> list[str]:
    """Return the column names of a table without surrounding spaces; raise DataError if it cannot be read."""
    return _parse_header(_read_text(path)[0])


def table_layout(header: Sequence[str]) -> Literal["nih", "columns"] | None:
    """Return the layout of a label table with these column names, or None if they are not a label table's."""
    normalised = {_normalise_name(name) for name in header}
    if not normalised & _IMAGE_COLUMNS or not normalised & _PATIENT_COLUMNS:
        return None
    if "findinglabels" in normalised:
        return "nih"
    return "columns" if _label_candidates(header) else None


def missing_columns(header: Sequence[str]) -> str:
    """Return an error message with the required columns that a header lacks, and the columns it has."""
    normalised = {_normalise_name(name) for name in header}
    missing = []
    if not normalised & _IMAGE_COLUMNS:
        missing.append("'Image Index'")
    if not normalised & _PATIENT_COLUMNS:
        missing.append("'Patient ID'")
    if "findinglabels" not in normalised and not _label_candidates(header):
        missing.append("'Finding Labels' (nor one column per label with 1, 0 and nothing)")
    return f"the label table has no column {' and no '.join(missing)}; columns found: {_quoted(header)}"


def _quoted(header: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in header if name) or "none"


def _read_text(path: Path) -> tuple[str, str]:
    """Return the table's text, decompressed, and the hexadecimal SHA-256 of the file's bytes."""
    if not path.name.lower().endswith(TABLE_SUFFIXES):
        raise DataError(f"{path}: a label table must be named *.csv or *.csv.gz")
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DataError(f"{path}: larger than {MAX_TABLE_BYTES} bytes; this is not a label table")
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the label table cannot be read ({error.strerror})") from error
    sha256 = hashlib.sha256(raw).hexdigest()
    if path.name.lower().endswith(".gz"):
        try:
            with gzip.open(io.BytesIO(raw)) as file:
                raw = file.read(MAX_TABLE_BYTES + 1)
        except (EOFError, OSError, zlib.error) as error:
            raise DataError(f"{path}: not a complete gzip file ({error}); fetch it again") from error
        if len(raw) > MAX_TABLE_BYTES:
            raise DataError(f"{path}: decompresses to more than {MAX_TABLE_BYTES} bytes; this is not a label table")
    try:
        return raw.decode("utf-8-sig"), sha256
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8 CSV") from error


def _parse_header(text: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([text.lstrip().partition("\n")[0]]), [])]


def _parse_rows(path: Path, text: str, header: Sequence[str]) -> list[list[str]]:
    """Return the rows below the header that are not empty, of stripped cells, each as long as the header."""
    try:
        reader = csv.reader(io.StringIO(text.lstrip(), newline=""), strict=True)
        lines = [[cell.strip() for cell in line] for line in reader]
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV table ({error})") from error
    rows = [line for line in lines[1:] if any(line)]
    if not rows:
        raise DataError(f"{path}: the label table has no rows")
    width = len(header)
    named = width - (header[-1] == "")  # the header of 2017 ends with a comma, its rows need not
    for number, row in enumerate(rows, start=1):
        if len(row) < named or any(row[width:]):
            raise DataError(f"{path}: row {number} has {len(row)} cells, the header has {width} columns")
    return [[*row, ""][:width] for row in rows]


def _normalise_name(name: str) -> str:
    """Reduce a name to lower-case letters, digits and ``]``; the bracket keeps NIH's ``y]`` from a label ``y``."""
    return re.sub(r"[^a-z0-9\]]", "", name.lower())


def _label_candidates(header: Sequence[str]) -> list[int]:
    known = {"", *_METADATA_COLUMNS.split()} | _IDENTIFYING_COLUMNS
    return [i for i, name in enumerate(header) if _normalise_name(name) not in known]


def _identifiers(
    path: Path, header: Sequence[str], rows: list[list[str]], names: set[str], unique: bool = False
) -> np.ndarray:
    """Return the column whose name is in `names`: (n,) str, none empty, and without repetition if `unique`."""
    matches = [i for i, name in enumerate(header) if _normalise_name(name) in names]
    if len(matches) > 1:
        columns = " and ".join(repr(header[i]) for i in matches)
        raise DataError(f"{path}: columns {columns} could both identify the image or the patient; keep one")
    values = [row[matches[0]] for row in rows]
    if "" in values:
        row = values.index("") + 1
        raise DataError(f"{path}: row {row} is empty in column {header[matches[0]]!r}; fill in or delete the row")
    value, times = Counter(values).most_common(1)[0]
    if unique and times > 1:
        raise DataError(f"{path}: image {value!r} has {times} rows; keep one row per image")
    return np.array(values, dtype=np.str_)


def _remove_leading_zeros(patients: np.ndarray) -> np.ndarray:
    """Remove leading zeros of whole numbers, so that 00000013 and 13 are one patient."""
    plain = {p: p.lstrip("0") or "0" if p.isascii() and p.isdigit() else p for p in set(patients.tolist())}
    return np.array([plain[p] for p in patients.tolist()], dtype=np.str_)


def _views(header: Sequence[str], rows: list[list[str]]) -> np.ndarray:
    column = next((i for i, name in enumerate(header) if _normalise_name(name) in _VIEW_COLUMNS), None)
    if column is None:
        return np.full(len(rows), "", dtype="<U7")
    return np.array([_VIEWS.get(row[column].upper(), "") for row in rows], dtype="<U7")


def _read_nih(path: Path, header: Sequence[str], rows: list[list[str]]) -> tuple[tuple[str, ...], np.ndarray]:
    column = [_normalise_name(name) for name in header].index("findinglabels")
    cells = [row[column] for row in rows]
    codes = {cell: _nih_targets(path, cell) for cell in dict.fromkeys(cells)}  # 836 distinct in ChestX-ray14
    return FINDINGS, np.array([codes[cell] for cell in cells], dtype=np.int8).reshape(len(rows), len(FINDINGS))


def _nih_targets(path: Path, cell: str) -> np.ndarray:
    """Convert ``'Cardiomegaly|Effusion'`` to (14,) int8 of 0 and 1."""
    names = [name.strip() for name in cell.split("|")]
    if names == [NO_FINDING]:
        return np.zeros(len(FINDINGS), dtype=np.int8)
    for name in names:
        if name not in FINDINGS:
            remedy = (
                "; it cannot be combined with other findings" if name == NO_FINDING else did_you_mean(name, FINDINGS)
            )
            raise DataError(f"{path}: unknown finding {name!r} in 'Finding Labels' ({cell!r}){remedy}")
    return np.array([finding in names for finding in FINDINGS], dtype=np.int8)


def _read_columns(path: Path, header: Sequence[str], rows: list[list[str]]) -> tuple[tuple[str, ...], np.ndarray]:
    """Read one label per column; a column of other text is not a label, one that mixes it with 1 or 0 an error."""
    labels: list[str] = []
    targets: list[list[int]] = []
    for column in _label_candidates(header):
        cells = [row[column] for row in rows]
        invalid = next((number for number, cell in enumerate(cells) if cell not in _CELL_VALUES), None)
        if invalid is None:
            labels.append(header[column])
            targets.append([_CELL_VALUES[cell] for cell in cells])
        elif any(cell and cell in _CELL_VALUES for cell in cells):
            raise DataError(
                f"{path}: row {invalid + 1}, column {header[column]!r} contains {cells[invalid]!r}; a label is "
                "1, 0 or nothing (unknown): correct the value, or delete the column if it is not a label"
            )
    if not labels:
        raise DataError(
            f"{path}: the label table has no column 'Finding Labels' nor one column per label with 1, 0 and "
            f"nothing; columns found: {_quoted(header)}"
        )
    repeated = next((label for label in labels if labels.count(label) > 1), None)
    if repeated is not None:
        raise DataError(f"{path}: two columns are named {repeated!r}; rename one")
    return tuple(labels), np.array(targets, dtype=np.int8).T.reshape(len(rows), len(labels))
