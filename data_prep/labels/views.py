"""Views in a label table: PA, AP or lateral, in the words of the public sets and of DICOM (PS3.16, CID 4010)."""

import re
from collections.abc import Sequence

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.column_names import VIEW_COLUMNS, plain_name
from data_prep.labels.csv_table import CsvTable, shown

_LATERAL_CODES = frozenset({"l", "ll", "rl", "lat", "llat", "rlat", "latl", "latr"})


def view_of(cell: str) -> str:
    """Return "PA", "AP", "LATERAL", or "" if a cell names neither: ``AP_horizontal`` is AP, ``Left lateral`` lateral.

    "Frontal" does not say which of the first two it is.
    """
    words = re.findall(r"[a-z]+", cell.lower())
    joined = "".join(words)
    if joined in _LATERAL_CODES or "lat" in words or re.search("(?<!bi)lateral", joined):
        return "LATERAL"
    for view, name in (("PA", "posteroanterior"), ("AP", "anteroposterior")):
        if words[:1] == [view.lower()] or words[:2] == [*view.lower()] or joined.startswith(name):
            return view
    return ""


def read_views(table: CsvTable) -> np.ndarray:
    """Return the view of each row: (n,) str, "PA", "AP", or "" where no column says it, or two columns differ.

    Raises:
        DataError: a column of views shows laterals, which this project does not mix with frontal images.
    """
    views = np.full(len(table.rows), "", dtype="<U7")
    for index, name in enumerate(table.header):
        if plain_name(name) in VIEW_COLUMNS:
            found = _views_in(table.column(index))
            if laterals := int((found == "LATERAL").sum()):
                raise DataError(
                    f"{table.path}: column {shown(name)} says that {laterals} of {len(found)} rows are lateral; keep "
                    "the frontal rows (PA, AP) only"
                )
            differ = (views != "") & (found != "") & (views != found)
            views = np.where(differ, "", np.where(found == "", views, found))
    return views


def _views_in(cells: Sequence[str]) -> np.ndarray:
    known = {cell: view_of(cell) for cell in set(cells)}
    return np.array([known[cell] for cell in cells], dtype="<U7")
