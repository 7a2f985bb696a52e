"""Area under the ROC curve (AUC) of each label and its mean, with intervals; Holm's adjustment of p-values.

The intervals cover the sampling of the test patients only: the trained models are taken as given, so the intervals do
not show how much the AUC varies between training seeds. `models.evaluation.paired` compares methods.

Shapes: n images, k labels, p patients. A score is any number that is higher for a more likely finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import auc_interval, jackknife_influence, number_patients, placements

MIN_PATIENTS = 5
"""Least number of patients with and without a finding for its label to be scored; with fewer an AUC is unreliable."""

MIN_PATIENTS_INTERVAL = 10
"""Least number of patients with and without a finding for an interval of its label. With 5 to 7 it holds a true AUC of
0.97 in 92 to 93 %, and 0.7 in 92 to 94 %; with ten or more in 93.5 % or more (`benchmarks/coverage.py`)."""


def auc_per_label(targets: NDArray[np.int8], scores: NDArray) -> NDArray[np.float64]:
    """Compute the area under the ROC curve of every label.

    Args:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown (left out).
        scores: (n, k) finite floats.

    Returns:
        (k,) float64 in [0, 1]: the probability that a random positive has a higher score than a random negative, ties
        counted as one half; nan for a label without a positive or without a negative.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    targets, scores = check_scores(targets, scores)
    return np.array([_auc(targets[:, j], scores[:, j]) for j in range(targets.shape[1])], dtype=np.float64)


def mean_auc(targets: NDArray[np.int8], scores: NDArray) -> float:
    """Compute the mean of `auc_per_label` over the labels that have a value; nan if none has."""
    values = auc_per_label(targets, scores)
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _auc(target: NDArray[np.int8], score: NDArray) -> float:
    positive, negative = score[target == 1], score[target == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    return placements(positive, negative).auc


def check_scores(targets: NDArray, scores: NDArray) -> tuple[NDArray[np.int8], NDArray]:
    """Check that targets and scores are both (n, k) and the scores finite, and return them as arrays.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    targets, scores = np.asarray(targets), np.asarray(scores)
    if targets.shape != scores.shape or targets.ndim != 2:
        raise ValueError(f"targets and scores must both be (n, k); got {targets.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        invalid = int((~np.isfinite(scores)).any(axis=1).sum())
        raise ValueError(f"scores must be finite; {invalid} of {len(scores)} rows are not. Did the training diverge?")
    return targets, scores


# --- One set of predictions ---


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval over test patients or sentences; `reason` says why one or both are missing."""

    value: float | None
    lo: float | None
    hi: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """The score of each label, and the mean over the labels in `scored` (those with a value)."""

    labels: dict[str, Score]
    mean: Score
    scored: tuple[str, ...]


def score(targets: NDArray[np.int8], scores: NDArray, patients: NDArray, labels: Sequence[str]) -> Evaluation:
    """Compute the AUC of each label and their mean, each with a 95 % interval over patients.

    A label's interval is `models.evaluation.intervals.auc_interval` with the patients' jackknife variance. That of the
    mean is the same with the mean of the patients' influences; the half patient that it adds has one of the labels. A
    label with fewer than `MIN_PATIENTS` patients with or without the finding has no value but a reason; the mean is
    over the other labels. With fewer than `MIN_PATIENTS_INTERVAL` a label has a value without interval; it counts in
    the mean and in the mean's interval, whose coverage was measured with such labels.

    Args:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        scores: (n, k) finite floats.
        patients: (n,) keys.
        labels: k names.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    targets, scores = check_scores(targets, scores)
    numbers = number_patients(patients)
    columns, reasons = scorable_labels(targets, numbers)
    found = {j: _measure(targets[:, j], scores[:, j], numbers) for j in columns}
    per_label = {
        label: _score_label(found[j]) if j in found else Score(None, None, None, reasons[j])
        for j, label in enumerate(labels)
    }
    mean = _score_mean(list(found.values())) if found else Score(None, None, None, "no label can be scored")
    return Evaluation(per_label, mean, tuple(labels[j] for j in columns))


_NO_VARIATION = "no interval: all scores are equal"


def scorable_labels(
    targets: NDArray[np.int8], numbers: NDArray[np.int64], least: int = MIN_PATIENTS
) -> tuple[list[int], dict[int, str]]:
    """Find the labels with at least `least` patients with and without the finding.

    Args:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        numbers: (n,), the images' patients by `number_patients`.
        least: number of patients, at least `MIN_PATIENTS`.

    Returns:
        The columns of these labels, and the reason for each other column.
    """
    columns, reasons = [], {}
    for j in range(targets.shape[1]):
        with_finding, without = _count_patients(targets[:, j], numbers)
        if min(with_finding, without) >= least:
            columns.append(j)
        elif not with_finding or not without:
            reasons[j] = "no positive image" if not with_finding else "no negative image"
        else:
            reasons[j] = _name_rarer(with_finding, without, least)
    return columns, reasons


def _count_patients(target: NDArray[np.int8], numbers: NDArray[np.int64]) -> tuple[int, int]:
    """Count the patients with the finding, and those without."""
    with_finding, without = (len(np.unique(numbers[target == value])) for value in (1, 0))
    return with_finding, without


def _name_rarer(with_finding: int, without: int, least: int) -> str:
    """Say which of the two groups is too small."""
    group, count = min(("with", with_finding), ("without", without), key=lambda pair: pair[1])
    return f"only {count} patient(s) {group} the finding; at least {least} are needed"


@dataclass(frozen=True)
class _Measured:
    """A label's AUC, the patients' jackknife influence (p,) on it, and the patients with and without the finding."""

    auc: float
    influence: NDArray[np.float64]
    with_finding: int
    without: int

    @property
    def rarer(self) -> int:
        return min(self.with_finding, self.without)


def _measure(target: NDArray[np.int8], score: NDArray, numbers: NDArray[np.int64]) -> _Measured:
    positive, negative = target == 1, target == 0
    placed = placements(score[positive], score[negative])
    influence = jackknife_influence(placed, numbers[positive], numbers[negative], int(numbers.max()) + 1)
    return _Measured(placed.auc, influence, *_count_patients(target, numbers))


def _score_label(label: _Measured) -> Score:
    if label.rarer < MIN_PATIENTS_INTERVAL:
        reason = _name_rarer(label.with_finding, label.without, MIN_PATIENTS_INTERVAL)
        return Score(label.auc, None, None, f"no interval: {reason}")
    return _score_mean([label])


def _score_mean(labels: Sequence[_Measured]) -> Score:
    mean = float(np.mean([label.auc for label in labels]))
    influence = np.mean([label.influence for label in labels], axis=0)
    # half a patient with one of the k labels moves their mean by 1/k of what it moves that label
    patients = len(labels) / float(np.mean([1 / label.rarer for label in labels]))
    interval = auc_interval(mean, float(influence @ influence), patients)
    return Score(mean, *interval) if interval else Score(mean, None, None, _NO_VARIATION)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of all comparisons of a study by Holm's step-down method.

    Source: Holm, Scandinavian Journal of Statistics, 1979.

    Args:
        p_values: in [0, 1]; None for a comparison without one, which is not counted.

    Returns:
        The adjusted values in the same order; None stays None.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted
