"""How well predictions rank the images, label by label. Methods are compared by `models.evaluation.paired`.

n images, k labels, p patients, b resamples. A score is any number that is higher for a likelier finding.

The intervals here cover the choice of the test patients and nothing else: the trained models are taken as
given. They do not say what another training seed would have given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import (
    bootstrap_mean_auc,
    delong_variance,
    logit_interval,
    number_patients,
    placements,
)

MIN_PATIENTS = 5
"""Fewest patients with and without a finding for its label to be scored; below it an AUC is an anecdote."""


def auc_per_label(targets: NDArray[np.int8], scores: NDArray) -> NDArray[np.float64]:
    """Area under the ROC curve of every label.

    targets: (n, k) int8, 1 present, 0 absent, -1 unknown (left out). scores: (n, k) finite floats.
    Returns (k,) float64 in [0, 1]: the chance that a random positive scores above a random negative, ties
    counted as one half; nan for a label without a positive or without a negative.
    Raises ValueError for shapes that differ or scores that are not finite.
    """
    targets, scores = checked(targets, scores)
    return np.array([_auc(targets[:, j], scores[:, j]) for j in range(targets.shape[1])], dtype=np.float64)


def mean_auc(targets: NDArray[np.int8], scores: NDArray) -> float:
    """Mean of `auc_per_label` over the labels that can be scored; nan when none can."""
    values = auc_per_label(targets, scores)
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if len(scored) else float("nan")


def _auc(target: NDArray[np.int8], score: NDArray) -> float:
    positive, negative = score[target == 1], score[target == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    return placements(positive, negative).auc


def checked(targets: NDArray, scores: NDArray) -> tuple[NDArray[np.int8], NDArray]:
    targets, scores = np.asarray(targets), np.asarray(scores)
    if targets.shape != scores.shape or targets.ndim != 2:
        raise ValueError(f"targets and scores must both be (n, k); got {targets.shape} and {scores.shape}")
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).any(axis=1).sum())
        raise ValueError(f"scores must be finite; {bad} of {len(scores)} rows are not. Did the training diverge?")
    return targets, scores


# --- One set of predictions ---


@dataclass(frozen=True)
class Score:
    """A value in [0, 1] with its 95 % interval over patients, or the reason why one or both are missing."""

    value: float | None
    lo: float | None
    hi: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """Every label's score, and their mean over the labels in `scored` (those with a value)."""

    labels: dict[str, Score]
    mean: Score
    scored: tuple[str, ...]


def score(
    targets: NDArray[np.int8],
    scores: NDArray,
    patients: NDArray,
    labels: Sequence[str],
    seed: int,
    *,
    resamples: int = 1000,
) -> Evaluation:
    """AUC of each label and their mean, each with a 95 % interval over patients.

    targets: (n, k) int8 in {1, 0, -1 unknown}; scores: (n, k); patients: (n,) keys; labels: k names.
    A label's interval is DeLong's with patients as clusters, on the logit scale with Student's t
    (`models.evaluation.intervals`). The mean's is the 2.5 % and 97.5 % quantiles of the mean AUC over `resamples`
    bootstrap resamples of the patients. A label with fewer than MIN_PATIENTS patients with or without the
    finding gets no value, and a reason; the mean covers the others.
    """
    targets, scores = checked(targets, scores)
    numbers = number_patients(patients)
    columns, reasons = scorable(targets, numbers)
    per_label = {
        label: Score(None, None, None, reasons[j])
        if j in reasons
        else _score_label(targets[:, j], scores[:, j], numbers)
        for j, label in enumerate(labels)
    }
    if not columns:
        return Evaluation(per_label, Score(None, None, None, "no label can be scored"), ())
    mean = float(np.mean([per_label[labels[j]].value for j in columns]))
    drawn = bootstrap_mean_auc(targets[:, columns], [scores[:, columns]], numbers, seed=seed, resamples=resamples)[0]
    drawn = drawn[~np.isnan(drawn)]
    scored = tuple(labels[j] for j in columns)
    if len(drawn) < resamples / 2:
        return Evaluation(per_label, Score(mean, None, None, _TOO_FEW), scored)
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    return Evaluation(per_label, Score(mean, float(lo), float(hi)), scored)


_TOO_FEW = "more than half of the resamples lack a class of some label: too few patients for an interval"
_NO_SPREAD = "no interval: the scores separate the classes completely, or do not differ"


def scorable(targets: NDArray[np.int8], numbers: NDArray[np.int64]) -> tuple[list[int], dict[int, str]]:
    """Columns with enough patients of both classes, and for the others the reason. numbers: (n,), the patients'."""
    columns, reasons = [], {}
    for j in range(targets.shape[1]):
        with_finding, without = (len(np.unique(numbers[targets[:, j] == value])) for value in (1, 0))
        if min(with_finding, without) >= MIN_PATIENTS:
            columns.append(j)
        elif not with_finding or not without:
            reasons[j] = "no positive image" if not with_finding else "no negative image"
        else:
            which, number = min(("with", with_finding), ("without", without), key=lambda pair: pair[1])
            reasons[j] = f"only {number} patient(s) {which} the finding; at least {MIN_PATIENTS} are needed"
    return columns, reasons


def _score_label(target: NDArray[np.int8], score: NDArray, numbers: NDArray[np.int64]) -> Score:
    positive, negative = target == 1, target == 0
    placed = placements(score[positive], score[negative])
    variance = delong_variance(placed, numbers[positive], numbers[negative])
    rarer = min(len(np.unique(numbers[positive])), len(np.unique(numbers[negative])))
    interval = logit_interval(placed.auc, variance, degrees=rarer - 1)
    if interval is None:
        return Score(placed.auc, None, None, _NO_SPREAD)
    return Score(placed.auc, *interval)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment over all comparisons of a study (Scandinavian Journal of Statistics, 1979).

    Returns them in the given order; None stays None and is not counted.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[i] = largest
    return adjusted
