"""Which columns of a table are labels, and what their cells mean.

A label says of every image that a finding is present or absent. Data frames, databases and spreadsheets write it in
several notations (`_NUMBER`, `_WORDS`); a column has one. Without being told, a column is a label if it is wholly in
one notation, varies, and its name is not a technical one. What looks like a label and is none of this is refused: a
label that is left out in silence would be missed by nobody.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_prep.errors import DataError, did_you_mean
from data_prep.labels.column_names import (
    IMAGE_COLUMNS,
    PATIENT_COLUMNS,
    VIEW_COLUMNS,
    is_technical,
    plain_name,
    speaks_of_labels,
)
from data_prep.labels.csv_table import CsvTable, quoted, shown
from data_prep.labels.label_names import check_label_names
from data_prep.labels.nih import FINDINGS
from data_prep.labels.safe_names import printable

UNKNOWN = -1
FLAG = "--label-column"

_NUMBER = re.compile(r"\+?([01])(?:[.,]0*)?(?:e[+-]?0+)?")  # 1, 0.0, 1.00, 1.00e+00, and a decimal comma
_WORDS = {
    "true": ("True and False", 1),
    "false": ("True and False", 0),
    "yes": ("Yes and No", 1),
    "no": ("Yes and No", 0),
    "y": ("Y and N", 1),
    "n": ("Y and N", 0),
}
_NOTATIONS = "1 and 0, True and False, Yes and No, or Y and N"
_MISSING = frozenset({"", "nan", "-nan", "na", "n/a", "#n/a", "#na", "<na>", "nat", "null", "none"})
_UNCERTAIN = re.compile(r"-1(?:[.,]0*)?")  # CheXpert's labeler
_OTHER_MARKS = "t f + - x pos neg positive negative present absent uncertain maybe possible ja nein oui non si sí nee"
_SHARE = re.compile(r"(?:0?[.,]\d+|0[.,]\d+e-\d+|\d[.,]?\d*e-\d+|[01](?:[.,]0*)?)")  # numbers in [0, 1]
_LIST = re.compile(r"[\[{(].*[\]})]|[^|]*\|.*", re.DOTALL)


class Meaning(NamedTuple):
    """What a cell of a label means: its notation, and 1 or 0; "" and -1 if it is missing."""

    notation: str
    value: int


@dataclass(frozen=True)
class LabelColumns:
    """The labels of a table with n rows.

    Attributes:
        labels: k names.
        targets: (n, k) int8; 1 present, 0 absent, -1 unknown.
        ignored: why each other column is no label, by its name.
    """

    labels: tuple[str, ...]
    targets: np.ndarray
    ignored: Mapping[str, str]


def meaning_of(cell: str) -> Meaning | None:
    """Return what a cell means in the notation it is written in, None if it is in none."""
    folded = cell.casefold()
    if folded in _MISSING:
        return Meaning("", UNKNOWN)
    if folded in _WORDS:
        return Meaning(*_WORDS[folded])
    number = _NUMBER.fullmatch(folded)
    return Meaning("1 and 0", int(number[1])) if number else None


def label_candidates(header: Sequence[str], columns: Collection[str] = ()) -> list[int]:
    """Return the columns that could be labels by name: those in `columns`, or, without, all but technical ones."""
    if columns:
        return [index for index, name in enumerate(header) if name in columns]
    return [index for index, name in enumerate(header) if name in FINDINGS or _may_be_label(name)]


def choose_labels(table: CsvTable, columns: Sequence[str] = ()) -> LabelColumns:
    """Return the labels of a table: exactly those in `columns`, or, without, all columns that are labels by themselves.

    Raises:
        DataError: no column is a label, one of `columns` is not there, or a column looks like a label but cannot be
            read as one; the message names it, and the remedy.
    """
    check_columns(table, columns, [name for name in table.header if name])
    candidates = set(label_candidates(table.header, columns))
    labels: list[str] = []
    targets: list[np.ndarray] = []
    ignored: dict[str, str] = {}
    for index, name in enumerate(table.header):
        cells = table.column(index)
        if index in candidates:
            reason = _reason_against(table, name, cells, asked=name in columns)
        else:
            reason = _reason_by_name(name, cells, columns)
        if reason:
            ignored[printable(name) or f"(column {index + 1}, no name)"] = reason
        elif index in candidates:
            labels.append(name)
            targets.append(_targets(cells))
    if not labels:
        reasons = "; ".join(f"{shown(name)}: {reason}" for name, reason in list(ignored.items())[:20])
        raise DataError(
            f"{table.path}: the label table has no column 'Finding Labels', nor one that is plainly a label, "
            f"written as {_NOTATIONS} and not the same everywhere ({reasons}); name the labels with {FLAG}; "
            f"columns found: {quoted(table.header)}"
        )
    check_label_names(table.path, labels)
    return LabelColumns(tuple(labels), np.stack(targets, axis=1), ignored)


def check_columns(table: CsvTable, columns: Sequence[str], known: Sequence[str]) -> None:
    """Check the columns that a user names as labels; raise DataError if one is not `known`, or has another role."""
    for column in columns:
        if column not in known:
            hint = did_you_mean(column, known) if len(known) <= 40 else ""
            raise DataError(f"{table.path}: {FLAG} names {shown(column)}, which is no column of the table{hint}")
        if plain_name(column) in IMAGE_COLUMNS | PATIENT_COLUMNS:
            raise DataError(f"{table.path}: {FLAG} names {shown(column)}, which identifies the image or the patient")
    repeated = [name for name, times in Counter(columns).items() if times > 1]
    if repeated:
        raise DataError(f"{table.path}: {FLAG} names {shown(repeated[0])} twice")


def _may_be_label(name: str) -> bool:
    return bool(name) and not _is_role(name) and not is_technical(name)


def _is_role(name: str) -> bool:
    return plain_name(name) in IMAGE_COLUMNS | PATIENT_COLUMNS | VIEW_COLUMNS


def _reason_by_name(name: str, cells: Sequence[str], columns: Sequence[str]) -> str:
    """Return why a column that is no candidate is no label; "" if it has another use, or neither name nor content."""
    if _is_role(name):
        return ""
    if not name:
        return "without a name" if any(cells) else ""
    return f"not named with {FLAG}" if columns else "a technical column"


def _reason_against(table: CsvTable, name: str, cells: Sequence[str], asked: bool) -> str:
    """Return why a candidate is no label, "" if it is one; raise DataError if that cannot be told."""
    meanings = {cell: meaning_of(cell) for cell in set(cells)}
    unread = {cell for cell, meaning in meanings.items() if meaning is None}
    read = {meaning for meaning in meanings.values() if meaning and meaning.notation}
    if unread and (asked or read or _looks_like_labels(name, unread)):
        raise DataError(_refusal(table, name, cells, unread))
    notations = sorted({meaning.notation for meaning in read})
    if len(notations) > 1:
        raise DataError(
            f"{table.path}: column {shown(name)} mixes {' with '.join(notations)}; write it in one of these ways, or "
            f"name the labels with {FLAG}"
        )
    if asked:
        return ""
    if unread:
        return "text or numbers that are no label"
    if not read:
        return "empty"
    varies = len({meaning.value for meaning in read}) == 2
    return "" if varies or name in FINDINGS else "always the same value"


def _looks_like_labels(name: str, unread: set[str]) -> bool:
    """Tell whether cells, none of which can be read, look like labels in another notation."""
    return (
        any(_UNCERTAIN.fullmatch(cell) for cell in unread)
        or (len(unread) > 1 and all(cell.casefold() in _OTHER_MARKS.split() for cell in unread))
        or (len(unread) > 1 and all(_SHARE.fullmatch(cell.casefold()) for cell in unread))
        or (len(unread) > 1 and all(_LIST.fullmatch(cell) for cell in unread))
        or (len(unread) > 1 and speaks_of_labels(name) and any(c.isalpha() for cell in unread for c in cell))
    )


def _refusal(table: CsvTable, name: str, cells: Sequence[str], unread: set[str]) -> str:
    """Return the message for a column that looks like a label, but has cells that cannot be read."""
    uncertain = next((row for row, cell in enumerate(cells, start=1) if _UNCERTAIN.fullmatch(cell)), None)
    if uncertain is not None:
        return (
            f"{table.path}: row {uncertain}, column {shown(name)} contains -1, uncertain; decide "
            f"what uncertain means, and write 1, 0 or nothing (unknown), or name the labels with {FLAG}"
        )
    row = next(row for row, cell in enumerate(cells) if cell in unread)
    return (
        f"{table.path}: row {row + 1}, column {shown(name)} contains {_shown_cell(cells[row])}; a label is written as "
        f"{_NOTATIONS}, or nothing (unknown): correct it, delete the column if it is not a label, or name the labels "
        f"with {FLAG}; columns found: {quoted(table.header)}"
    )


def _shown_cell(cell: str) -> str:
    """Return a cell for a message if it is a mark or a short number; other text may say who the patient is."""
    if (
        cell.casefold() in _OTHER_MARKS.split()
        or _SHARE.fullmatch(cell)
        or re.fullmatch(r"-?\d{1,2}(?:[.,]\d{1,3})?", cell)
    ):
        return repr(cell[:20])
    return "a list" if _LIST.fullmatch(cell) else "other text"


def _targets(cells: Sequence[str]) -> np.ndarray:
    values = {cell: meaning.value for cell in set(cells) if (meaning := meaning_of(cell))}
    return np.array([values[cell] for cell in cells], dtype=np.int8)
