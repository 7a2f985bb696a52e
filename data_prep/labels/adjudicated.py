"""Radiologists' adjudicated labels for a part of ChestX-ray14: a reference standard for its noisy labels.

n images, k findings of the noisy labels, c = 3 findings that both sources contain.

Majkowska et al., Radiology 294 (2020), 421-431, doi:10.1148/radiol.2019191293: 4,376 images, each read by three
radiologists and discussed until they agreed; four findings, YES or NO. The labels of ChestX-ray14 were text-mined from
reports (Wang et al., CVPR 2017). The published table does not say which of the fourteen labels correspond to the
adjudicated findings: see `CORRESPONDING_FINDINGS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.csv_table import read_csv, shown
from data_prep.labels.label_columns import UNKNOWN

# The mapping is this project's. Pneumothorax means the same in both. "Nodule or mass" is the union of two labels,
# which differ by size only (3 cm). An airspace opacity is whatever fills the air spaces or empties them of air:
# consolidation, pneumonia, infiltration, alveolar oedema, and the collapse of atelectasis (Hansell et al., Fleischner
# Society: glossary of terms, Radiology 246 (2008), 697-722). Fracture is not among the fourteen labels.
CORRESPONDING_FINDINGS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Pneumothorax": ("Pneumothorax",),
        "Nodule or mass": ("Nodule", "Mass"),
        "Airspace opacity": ("Infiltration", "Consolidation", "Pneumonia", "Atelectasis", "Edema"),
    }
)
_CELL_VALUES = {"YES": 1, "NO": 0, "": UNKNOWN}


@dataclass(frozen=True)
class AdjudicatedLabels:
    """The rows of the table of adjudicated labels.

    Attributes:
        images: (n,) str.
        patients: (n,) str, NIH's public patient numbers.
        targets: (n, c) int8 in the order of `CORRESPONDING_FINDINGS`; 1 present, 0 absent, -1 for an empty cell.
        sets: (n,) str, "val" or "test" in the publication.
        sha256: hexadecimal digest of the table file.
    """

    images: np.ndarray
    patients: np.ndarray
    targets: np.ndarray
    sets: np.ndarray
    sha256: str

    def targets_of(self, images: Sequence[str] | np.ndarray) -> np.ndarray:
        """Return the adjudicated targets of m images: (m, c) int8, -1 for images that were not adjudicated."""
        row_of = {image: row for row, image in enumerate(self.images.tolist())}
        rows = np.array([row_of.get(str(image), -1) for image in images], dtype=np.int64)
        return np.where(rows[:, None] >= 0, self.targets[rows], UNKNOWN).astype(np.int8)


def read_adjudicated(path: Path) -> AdjudicatedLabels:
    """Read the table of adjudicated labels, ``google2019_nih-chest-xray-labels.csv`` (or .csv.gz).

    Raises:
        DataError: the table cannot be read, lacks a column, contains a value other than YES, NO and nothing, or has
            two rows for an image.
    """
    table = read_csv(path)
    wanted = ("Image Index", "Patient ID", "Set Id", *CORRESPONDING_FINDINGS)
    missing = [name for name in wanted if name not in table.header]
    if missing:
        raise DataError(f"{path}: the table of adjudicated labels has no column {missing[0]!r}")
    images, patients, sets, *findings = (table.header.index(name) for name in wanted)
    for index in findings:
        invalid = next((cell for cell in table.column(index) if cell not in _CELL_VALUES), None)
        if invalid is not None:
            raise DataError(
                f"{path}: column {table.header[index]!r} contains {shown(invalid)}; adjudicated labels are YES or NO"
            )
    return AdjudicatedLabels(
        images=table.names(images, unique=True),
        patients=table.names(patients),
        targets=np.array([[_CELL_VALUES[cell] for cell in table.column(index)] for index in findings], dtype=np.int8).T,
        sets=table.names(sets),
        sha256=table.sha256,
    )


def combined_targets(targets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Combine noisy labels into the adjudicated findings: (n, k) int8 -> (n, c) int8.

    A finding is present if one of its corresponding labels is present, unknown if none is present but one is unknown,
    and absent otherwise; the findings have the order of `CORRESPONDING_FINDINGS`.

    Raises:
        DataError: a corresponding label is missing.
    """
    unions = []
    for columns in _columns(labels):
        parts = targets[:, columns]
        unknown = (parts == UNKNOWN).any(axis=1)
        unions.append(np.where((parts == 1).any(axis=1), 1, np.where(unknown, UNKNOWN, 0)))
    return np.stack(unions, axis=1).astype(np.int8)


def combined_scores(scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Combine a model's scores into the adjudicated findings: (n, k), higher means more likely present -> (n, c).

    The score of a finding is the maximum over its corresponding labels.

    Raises:
        DataError: a corresponding label is missing.
    """
    return np.stack([scores[:, columns].max(axis=1) for columns in _columns(labels)], axis=1)


def _columns(labels: Sequence[str]) -> list[list[int]]:
    missing = [name for names in CORRESPONDING_FINDINGS.values() for name in names if name not in labels]
    if missing:
        raise DataError(f"the adjudicated findings need the label {missing[0]!r}, which the data do not have")
    return [[list(labels).index(name) for name in names] for names in CORRESPONDING_FINDINGS.values()]
