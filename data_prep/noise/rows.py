"""Noise models across the labels of a row: confusion of two findings, and flips in a share of the rows.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown. As with noise on single labels, the
entries selected at a higher rate include those selected at a lower rate.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from data_prep.errors import DataError
from data_prep.labels.table import NO_FINDING, UNKNOWN
from data_prep.noise.entries import Noise, Share, generator


class ConfusionNoise(Noise):
    """Confusion: in a share of the rows with exactly one finding of a pair, it is recorded as the other finding."""

    kind: Literal["confusion"] = Field("confusion", description="one finding of a pair is recorded as the other")
    rate: Share = Field(
        description="share of the rows with exactly one finding of a pair in which it is recorded as the other"
    )
    labels: tuple[str, ...] = Field(
        (),
        max_length=10_000,
        description="names taken two by two: the first is confused with the second, the third with the fourth, ...",
    )

    @field_validator("labels")
    @classmethod
    def _labels_make_pairs(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(labels) % 2:
            raise ValueError(f"confusion takes labels two by two; got {len(labels)}: name a partner of {labels[-1]}")
        return labels

    @property
    def title(self) -> str:
        """The noise without its labels: '20 % confused labels'."""
        return f"{100 * self.rate:g} % confused labels"

    @property
    def _labels_text(self) -> str:
        pairs = [f"{one} with {other}" for one, other in zip(self.labels[::2], self.labels[1::2], strict=True)]
        return ", ".join(pairs) or "all labels, two by two"

    def draw(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Swap the two entries of the selected rows; both count as selected."""
        columns = self.columns(labels)
        if len(columns) % 2:
            raise DataError(f"confusion takes labels two by two and the data have {len(columns)}: name the pairs")
        selected, noisy = np.zeros(targets.shape, dtype=bool), targets.copy()
        for one, other in zip(columns[::2], columns[1::2], strict=True):
            pair = targets[:, [one, other]]
            rows = np.flatnonzero((pair != UNKNOWN).all(axis=1) & (pair[:, 0] != pair[:, 1]))
            order = generator("select", f"{labels[one]}/{labels[other]}", seed).permutation(rows)
            chosen = order[: round(self.rate * len(rows))]
            for column in (one, other):
                selected[chosen, column] = True
                noisy[chosen, column] = 1 - targets[chosen, column]
        return selected, noisy


class RowAndLabelNoise(Noise):
    """Row noise: in a share of the rows, each named label flips with a probability.

    If "No Finding" is a label, it follows the findings: where the findings of a row changed, it becomes present if
    all of them are known to be absent, and absent if one is present. It is never flipped itself.
    """

    kind: Literal["row_and_label"] = Field(
        "row_and_label", description="in a share of the rows, each label flips with a probability"
    )
    rate: Share = Field(
        description="share of the training rows (with a known entry in one of the named labels) to select"
    )
    probability: Share = Field(0.5, description="probability with which each label of a selected row flips")

    @property
    def title(self) -> str:
        """The noise without its labels: '20 % noisy rows (50 % flips)'."""
        return f"{100 * self.rate:g} % noisy rows ({100 * self.probability:g} % flips)"

    @property
    def _rate_text(self) -> str:
        return f"{100 * self.rate:g} % of rows, {100 * self.probability:g} % flipped,"

    def draw(self, targets: np.ndarray, labels: Sequence[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Select every known entry of the named labels in the chosen rows, and flip some."""
        columns = [column for column in self.columns(labels) if not _is_no_finding(labels[column])]
        if not columns:
            raise DataError(
                f"row_and_label noise has no finding to flip in {', '.join(self.labels or labels)}: name one"
            )
        known = targets != UNKNOWN
        rows = np.flatnonzero(known[:, columns].any(axis=1))
        order = generator("select rows", "", seed).permutation(rows)
        chosen = np.zeros(len(targets), dtype=bool)
        chosen[order[: round(self.rate * len(rows))]] = True
        selected, noisy = np.zeros(targets.shape, dtype=bool), targets.copy()
        for column in columns:
            selected[:, column] = chosen & known[:, column]
            flips = generator("flip", labels[column], seed).random(len(targets)) < self.probability
            noisy[:, column] = np.where(selected[:, column] & flips, 1 - targets[:, column], targets[:, column])
        _follow_findings(targets, noisy, selected, labels)
        return selected, noisy


def _follow_findings(targets: np.ndarray, noisy: np.ndarray, selected: np.ndarray, labels: Sequence[str]) -> None:
    """Update "No Finding", if it is a label, in the rows whose findings changed; it counts as selected there."""
    column = next((i for i, label in enumerate(labels) if _is_no_finding(label)), None)
    if column is None:
        return
    findings = np.delete(noisy, column, axis=1)
    touched = (noisy != targets).any(axis=1) & (targets[:, column] != UNKNOWN)
    selected[touched, column] = True
    noisy[touched & (findings == 1).any(axis=1), column] = 0
    noisy[touched & (findings == 0).all(axis=1), column] = 1


def _is_no_finding(label: str) -> bool:
    return label.replace("_", " ").casefold() == NO_FINDING.casefold()
