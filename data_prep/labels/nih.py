"""The findings of ChestX-ray14, and NIH's form of writing several in one cell."""

from collections.abc import Sequence

import numpy as np

from data_prep.errors import DataError, did_you_mean
from data_prep.labels.csv_table import CsvTable

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


def read_findings(table: CsvTable, column: int, labels: Sequence[str]) -> np.ndarray:
    """Return which findings a column names, joined by ``|`` in every cell: (n, k) int8 of 0 and 1 for k `labels`.

    Raises:
        DataError: a cell is empty, or contains an unknown finding, or a finding beside "No Finding".
    """
    cells = table.column(column)
    known = {cell: _findings_of(table, cells, cell) for cell in dict.fromkeys(cells)}  # 836 distinct in ChestX-ray14
    codes = {cell: [int(label in findings) for label in labels] for cell, findings in known.items()}
    return np.array([codes[cell] for cell in cells], dtype=np.int8).reshape(len(cells), len(labels))


def _findings_of(table: CsvTable, cells: Sequence[str], cell: str) -> set[str]:
    """Return the findings in ``'Cardiomegaly|Effusion'``; a bar at the end is allowed."""
    names = {name.strip() for name in cell.split("|")} - {""}
    if names == {NO_FINDING}:
        return set()
    problem = None
    if not names:
        problem = f"is empty in 'Finding Labels'; write the finding, or {NO_FINDING!r}"
    elif unknown := names - {*FINDINGS, NO_FINDING}:
        hint = did_you_mean(min(unknown)[:40], FINDINGS)  # the name itself may be a patient's
        problem = f"names an unknown finding in 'Finding Labels'{hint}"
    elif NO_FINDING in names:
        problem = f"has {NO_FINDING!r} in 'Finding Labels' with others; it cannot be combined with other findings"
    if problem:
        raise DataError(f"{table.path}: row {cells.index(cell) + 1} {problem}")
    return names
