"""Radiologists' adjudicated labels for a part of ChestX-ray14: a truth to hold the noisy labels against.

n images, k findings of the noisy labels, c = 3 findings that both sources know.

Majkowska et al., Radiology 294 (2020), 421-431, doi:10.1148/radiol.2019191293: 4,376 images, each read by three
radiologists and discussed until they agreed; four findings, YES or NO. The labels of ChestX-ray14 were mined from
reports (Wang et al., CVPR 2017). Which of the fourteen correspond is not in the published table: see CORRESPONDING.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.table import UNKNOWN, read_cells

# The mapping is this project's. Pneumothorax means the same in both. "Nodule or mass" is the union of the two words,
# which differ by size only (3 cm). An airspace opacity is what fills air spaces or empties them: consolidation,
# pneumonia, infiltration, alveolar oedema, and the collapse of atelectasis (Hansell et al., Fleischner Society:
# glossary of terms, Radiology 246 (2008), 697-722). Fracture is none of the fourteen.
CORRESPONDING: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "Pneumothorax": ("Pneumothorax",),
    "Nodule or mass": ("Nodule", "Mass"),
    "Airspace opacity": ("Infiltration", "Consolidation", "Pneumonia", "Atelectasis", "Edema"),
})  # fmt: skip
_CELLS = {"YES": 1, "NO": 0, "": UNKNOWN}


@dataclass(frozen=True)
class Adjudicated:
    """The adjudicated rows.

    images: (n,) str. patients: (n,) str, NIH's public numbers. targets: (n, c) int8 in CORRESPONDING's order; 1, 0,
    or -1 where a cell is empty. sets: (n,) str, "val" or "test" in the publication. sha256: of the table's bytes.
    """

    images: np.ndarray
    patients: np.ndarray
    targets: np.ndarray
    sets: np.ndarray
    sha256: str

    def targets_of(self, images: Sequence[str] | np.ndarray) -> np.ndarray:
        """Return the adjudicated targets of `images`: (m, c) int8, -1 for an image that nobody adjudicated."""
        row_of = {image: row for row, image in enumerate(self.images.tolist())}
        rows = np.array([row_of.get(str(image), -1) for image in images], dtype=np.int64)
        return np.where(rows[:, None] >= 0, self.targets[rows], UNKNOWN).astype(np.int8)


def read_adjudicated(path: Path) -> Adjudicated:
    """Read ``google2019_nih-chest-xray-labels.csv`` (or .csv.gz).

    Raises DataError for a table that cannot be read, lacks a column, or holds another value than YES and NO.
    """
    header, rows, sha256 = read_cells(path)
    missing = [name for name in ("Image Index", "Patient ID", "Set Id", *CORRESPONDING) if name not in header]
    if missing:
        raise DataError(f"{path}: the table of adjudicated labels has no column {missing[0]!r}")
    columns = {name: [row[header.index(name)] for row in rows] for name in header if name}
    for name in CORRESPONDING:
        strange = next((cell for cell in columns[name] if cell not in _CELLS), None)
        if strange is not None:
            raise DataError(f"{path}: column {name!r} holds {strange!r}; adjudicated labels are YES or NO")
    return Adjudicated(
        images=np.array(columns["Image Index"]),
        patients=np.array(columns["Patient ID"]),
        targets=np.array([[_CELLS[cell] for cell in columns[name]] for name in CORRESPONDING], dtype=np.int8).T,
        sets=np.array(columns["Set Id"]),
        sha256=sha256,
    )


def combined_targets(targets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Return the noisy labels in adjudicated terms: (n, k) int8 -> (n, c) int8.

    Present if one of the corresponding findings is, unknown if none is but one is unknown, else absent.
    """
    unions = []
    for columns in _columns(labels):
        parts = targets[:, columns]
        unknown = (parts == UNKNOWN).any(axis=1)
        unions.append(np.where((parts == 1).any(axis=1), 1, np.where(unknown, UNKNOWN, 0)))
    return np.stack(unions, axis=1).astype(np.int8)


def combined_scores(scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Return a model's scores in adjudicated terms: (n, k) -> (n, c), the highest of the corresponding findings."""
    return np.stack([scores[:, columns].max(axis=1) for columns in _columns(labels)], axis=1)


def _columns(labels: Sequence[str]) -> list[list[int]]:
    missing = [name for names in CORRESPONDING.values() for name in names if name not in labels]
    if missing:
        raise DataError(f"the adjudicated labels correspond to findings that are not all there: {missing[0]!r} is not")
    return [[list(labels).index(name) for name in names] for names in CORRESPONDING.values()]
