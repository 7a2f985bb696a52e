"""The pictures of a prediction's page: all of a few files; of many, the one with the highest probability by label."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.prediction.records import PredictionRecord

FEW, MOST_LABELS, LABELS_SHOWN = 12, 24, 5  # pictures; labels that get one; labels named under one of a few


class Example(NamedTuple):
    """A picture: its row in predictions.csv, counted from 1 below the head, its pixels, and its prediction."""

    row: int
    pixels: NDArray[np.uint8]
    record: PredictionRecord

    def probability(self, label: str) -> float:
        """Return that of a label."""
        return (self.record.probabilities or {})[label]

    def caption(self, labels: Sequence[str]) -> str:
        """Return the row and the probabilities of some labels; no name of a file, which may be a patient's."""
        of_training = "; patient of the training" if self.record.status == "trained_on" else ""
        return f"row {self.row}: {', '.join(f'{each} {self.probability(each):.2f}' for each in labels)}{of_training}"


class Examples:
    """Chooses pictures while files are predicted; it keeps a few, whatever their number.

    Attributes:
        highest: by label, the picture with the highest probability; of several the first.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = tuple(labels)
        self._first: list[Example] = []
        self._seen = 0
        self.highest: dict[str, Example] = {}

    def add(self, row: int, pixels: NDArray[np.uint8], record: PredictionRecord) -> None:
        """Take the next picture that was predicted: its row, its pixels (s, s) or (3, s, s), and its prediction."""
        example = Example(row, pixels, record)
        self._seen += 1
        if self._seen <= FEW:
            self._first.append(example)
        for label in self._labels[:MOST_LABELS]:
            if label not in self.highest or example.probability(label) > self.highest[label].probability(label):
                self.highest[label] = example

    @property
    def are_all(self) -> bool:
        """Whether every picture that was predicted is shown."""
        return self._seen <= FEW

    def chosen(self) -> list[tuple[NDArray[np.uint8], str]]:
        """Return pixels and caption of each picture to show, in the order of their rows."""
        if self.are_all:
            return [(each.pixels, each.caption(_highest(each.record.probabilities or {}))) for each in self._first]
        labels: dict[int, list[str]] = {}
        for label, example in self.highest.items():
            labels.setdefault(example.row, []).append(label)
        by_row = {each.row: each for each in self.highest.values()}
        return [(by_row[row].pixels, by_row[row].caption(labels[row])) for row in sorted(by_row)]


def _highest(probabilities: Mapping[str, float]) -> list[str]:
    return sorted(probabilities, key=lambda label: -probabilities[label])[:LABELS_SHOWN]
