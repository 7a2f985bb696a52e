"""Label tables: the ChestX-ray14 table of NIH, or any CSV table with one column per label.

n rows (images), k labels.

A table is untrusted: its size is limited before and after decompression, and every row is checked. Two layouts are
read:

* ``nih``: ``Image Index``, ``Finding Labels`` (names joined by ``|``, or ``No Finding``), ``Patient ID``, and
  optionally ``View Position``. The headers of 2017 and 2020 both contain ``OriginalImage[Width,Height]``, whose comma
  is not quoted: it counts as two columns, as do its values. The header of 2017 ends with an empty column.
* ``columns``: an image column, a patient column, optionally columns of views, and one column per label; see
  `data_prep.labels.label_columns`. The k labels are these columns, in the order of the table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.column_names import FINDINGS_COLUMN, IMAGE_COLUMNS, PATIENT_COLUMNS, VIEW_COLUMNS, plain_name
from data_prep.labels.csv_table import CsvTable, quoted, read_csv, shown
from data_prep.labels.label_columns import UNKNOWN, LabelColumns, check_columns, choose_labels, label_candidates
from data_prep.labels.nih import FINDINGS, NO_FINDING, read_findings
from data_prep.labels.safe_names import printable
from data_prep.labels.views import read_views

__all__ = ["FINDINGS", "NO_FINDING", "UNKNOWN", "LabelTable", "read_cells", "read_labels"]

TABLE_SUFFIXES = (".csv", ".csv.gz")
_FINDINGS_COLUMNS = frozenset({FINDINGS_COLUMN})
_ROLES = {
    IMAGE_COLUMNS: "identify the image or the patient",
    PATIENT_COLUMNS: "identify the image or the patient",
    _FINDINGS_COLUMNS: "hold the findings",
}


@dataclass(frozen=True)
class LabelTable:
    """The rows of a label table, in the order of the file.

    Attributes:
        images: (n,) str, names as in the table, each once.
        patients: (n,) str, identifiers as in the table: never write them to a store, a log or a report.
        labels: k names.
        targets: (n, k) int8; 1 present, 0 absent, -1 unknown. With `classes`, (n, 1) int16 indices of them.
        views: (n,) str; "PA", "AP", "LATERAL", or "" if unknown.
        layout: "nih" or "columns"; "classes" where the data are sorted by class and there is no table.
        sha256: hexadecimal digest of the file's bytes on disk, compressed if the file is.
        ignored: why each column that is not used is not, by its name.
        classes: names of the classes, of which each image shows one; () where the labels are binary.
        parts: (n,) str, "train" or "test" where the data give a test part; None where they do not.
    """

    images: np.ndarray
    patients: np.ndarray
    labels: tuple[str, ...]
    targets: np.ndarray
    views: np.ndarray
    layout: Literal["nih", "columns", "classes"]
    sha256: str
    ignored: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    parts: np.ndarray | None = None


def read_labels(path: Path, columns: Sequence[str] = ()) -> LabelTable:
    """Read the label table at `path` (.csv or .csv.gz).

    With `columns`, exactly these are its labels. In NIH's form they may be findings too.

    Raises:
        DataError: the table cannot be read, lacks a column, has a column that cannot be told to be a label or not,
            shows laterals, contains an unknown finding, has two rows for an image, or has a row without image or
            patient.
    """
    if not path.name.lower().endswith(TABLE_SUFFIXES):
        raise DataError(f"{path}: a label table must be named *.csv or *.csv.gz")
    table = read_csv(path)
    columns = [" ".join(column.split()) for column in columns]
    layout = table_layout(table.header, columns)
    if layout is None:
        raise DataError(f"{path}: {missing_columns(table.header)}")
    read = _read_nih(table, columns) if layout == "nih" else choose_labels(table, columns)
    patients = table.names(_index_of(table, PATIENT_COLUMNS))
    return LabelTable(
        images=table.names(_index_of(table, IMAGE_COLUMNS), unique=True),
        patients=_remove_leading_zeros(patients) if layout == "nih" else patients,
        labels=read.labels,
        targets=read.targets,
        views=read_views(table),
        layout=layout,
        sha256=table.sha256,
        ignored=read.ignored,
    )


def read_cells(path: Path) -> tuple[list[str], list[list[str]], str]:
    """Read a table with commas, as our own programs write it: column names, rows of cells, hexadecimal SHA-256.

    Raises:
        DataError: the table cannot be read, or a row has another number of cells than the header.
    """
    table = read_csv(path, delimiter=",")
    return table.header, table.rows, table.sha256


def table_layout(header: Sequence[str], columns: Sequence[str] = ()) -> Literal["nih", "columns"] | None:
    """Return the layout of a label table with these column names, or None if they are not a label table's."""
    plain = {plain_name(name) for name in header}
    if not plain & IMAGE_COLUMNS or not plain & PATIENT_COLUMNS:
        return None
    if FINDINGS_COLUMN in plain and set(columns) <= set(FINDINGS):
        return "nih"
    return "columns" if columns or label_candidates(header) else None


def missing_columns(header: Sequence[str]) -> str:
    """Return an error message with the required columns that a header lacks, and the columns it has."""
    plain = {plain_name(name) for name in header}
    missing = []
    if not plain & IMAGE_COLUMNS:
        missing.append("'Image Index'")
    if not plain & PATIENT_COLUMNS:
        missing.append("'Patient ID'")
    if FINDINGS_COLUMN not in plain and not label_candidates(header):
        missing.append("'Finding Labels' (nor one column per label with 1, 0 and nothing)")
    if not plain & (IMAGE_COLUMNS | PATIENT_COLUMNS):  # then the first line may be a row, with a patient's name
        return (
            f"the label table has no column {' and no '.join(missing)}: none of the {len(header)} names in its first "
            "line is known; check that it names the columns"
        )
    remedy = (
        "; where every image is of another patient, let it repeat the image's name" if "'Patient ID'" in missing else ""
    )
    return f"the label table has no column {' and no '.join(missing)}; columns found: {quoted(header)}{remedy}"


def _index_of(table: CsvTable, names: frozenset[str]) -> int:
    """Return the column whose name is in `names`."""
    matches = [index for index, name in enumerate(table.header) if plain_name(name) in names]
    if len(matches) > 1:
        columns = " and ".join(shown(table.header[index]) for index in matches)
        raise DataError(f"{table.path}: columns {columns} could both {_ROLES[names]}; keep one")
    return matches[0]


def _remove_leading_zeros(patients: np.ndarray) -> np.ndarray:
    """Remove leading zeros of whole numbers, so that 00000013 and 13 are one patient."""
    plain = {p: p.lstrip("0") or "0" if p.isascii() and p.isdigit() else p for p in set(patients.tolist())}
    return np.array([plain[p] for p in patients.tolist()], dtype=np.str_)


def _read_nih(table: CsvTable, columns: Sequence[str]) -> LabelColumns:
    check_columns(table, columns, FINDINGS)
    labels = tuple(columns) or FINDINGS
    plain = [plain_name(name) for name in table.header]
    used = IMAGE_COLUMNS | PATIENT_COLUMNS | VIEW_COLUMNS | {FINDINGS_COLUMN}
    others = [name for name, each in zip(table.header, plain, strict=True) if name and each not in used]
    return LabelColumns(
        labels,
        read_findings(table, _index_of(table, _FINDINGS_COLUMNS), labels),
        dict.fromkeys(map(printable, others), "the labels are in 'Finding Labels'"),
    )
