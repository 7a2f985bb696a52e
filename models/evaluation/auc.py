"""Area under the ROC curve (AUC) of each label and its mean, with intervals; Holm's adjustment of p-values.

The intervals cover the sampling of the test patients only: the trained models are taken as given, so the intervals do
not show how much the AUC varies between training seeds. `models.evaluation.paired` compares methods.

Shapes: n images, k labels, p patients, b resamples. A score is any number that is higher for a more likely finding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.intervals import bootstrap_mean_auc, delong_variance, logit_interval, number_patients, placements

MIN_PATIENTS = 5
"""Least number of patients with and without a finding for its label to be scored; with fewer an AUC is unreliable."""


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


def score(
    targets: NDArray[np.int8],
    scores: NDArray,
    patients: NDArray,
    labels: Sequence[str],
    seed: int,
    *,
    resamples: int = 1000,
) -> Evaluation:
    """Compute the AUC of each label and their mean, each with a 95 % interval over patients.

    The interval of a label is DeLong's with patients as clusters, on the logit scale with Student's t
    (`models.evaluation.intervals`). That of the mean consists of the 2.5 % and 97.5 % quantiles of the mean AUC over
    bootstrap resamples of the patients. A label with fewer than `MIN_PATIENTS` patients with or without the finding has
    no value but a reason; the mean is over the other labels.

    Args:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        scores: (n, k) finite floats.
        patients: (n,) keys.
        labels: k names.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    targets, scores = check_scores(targets, scores)
    numbers = number_patients(patients)
    columns, reasons = scorable_labels(targets, numbers)
    per_label = {
        label: Score(None, None, None, reasons[j])
        if j in reasons
        else _score_label(targets[:, j], scores[:, j], numbers)
        for j, label in enumerate(labels)
    }
    if not columns:
        return Evaluation(per_label, Score(None, None, None, "no label can be scored"), ())
    mean = float(np.mean([per_label[labels[j]].value for j in columns]))
    means = bootstrap_mean_auc(targets[:, columns], [scores[:, columns]], numbers, seed=seed, resamples=resamples)[0]
    means = means[~np.isnan(means)]
    scored = tuple(labels[j] for j in columns)
    if len(means) < resamples / 2:
        return Evaluation(per_label, Score(mean, None, None, _TOO_FEW_PATIENTS), scored)
    lo, hi = np.quantile(means, [0.025, 0.975])
    return Evaluation(per_label, Score(mean, float(lo), float(hi)), scored)


_TOO_FEW_PATIENTS = (
    "no interval: in more than half of the bootstrap resamples a label has no positive or no negative image "
    "(too few patients)"
)
_NO_VARIANCE = "no interval: the scores separate the classes completely, or all scores are equal"


def scorable_labels(targets: NDArray[np.int8], numbers: NDArray[np.int64]) -> tuple[list[int], dict[int, str]]:
    """Find the labels with at least `MIN_PATIENTS` patients with and without the finding.

    Args:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        numbers: (n,), the images' patients by `number_patients`.

    Returns:
        The columns of these labels, and the reason for each other column.
    """
    columns, reasons = [], {}
    for j in range(targets.shape[1]):
        with_finding, without = (len(np.unique(numbers[targets[:, j] == value])) for value in (1, 0))
        if min(with_finding, without) >= MIN_PATIENTS:
            columns.append(j)
        elif not with_finding or not without:
            reasons[j] = "no positive image" if not with_finding else "no negative image"
        else:
            group, count = min(("with", with_finding), ("without", without), key=lambda pair: pair[1])
            reasons[j] = f"only {count} patient(s) {group} the finding; at least {MIN_PATIENTS} are needed"
    return columns, reasons


def _score_label(target: NDArray[np.int8], score: NDArray, numbers: NDArray[np.int64]) -> Score:
    positive, negative = target == 1, target == 0
    placed = placements(score[positive], score[negative])
    variance = delong_variance(placed, numbers[positive], numbers[negative])
    patients = min(len(np.unique(numbers[positive])), len(np.unique(numbers[negative])))  # of the rarer class
    interval = logit_interval(placed.auc, variance, degrees=patients - 1)
    return Score(placed.auc, *interval) if interval else Score(placed.auc, None, None, _NO_VARIANCE)


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
