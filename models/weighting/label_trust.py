"""Label trust: how noisy each label is, estimated from the shared features and the noisy labels, without clean labels.

If noise replaces a share p of a label's entries by random ones, of which a share q is 1, then P(y = 1 | x) becomes
p q + (1 - p) P(y = 1 | x). For images that certainly lack the finding this is p q, however hard the finding is to see
in other images. Such images are called anchors (Scott, Blanchard, Handy: Classification with asymmetric label noise,
COLT 2013; Liu, Tao: Classification with noisy labels by importance reweighting, TPAMI 2016). As anchors of a label we
take the share ANCHORS of its images with the lowest out-of-fold scores; the share of 1s among them, divided by q,
estimates p. The scores are linear discriminants on the shared features, trained on the folds without the image's
patient, so that a label does not confirm itself.

The features must not know the image's labels either. A network that was trained on them learns them by heart, random
ones too: its 1s leave the anchors, and the estimate is too low (`benchmarks/label_trust.py`). So the features of an
image should come from a network that was trained without its patient (`models.training.cross_fit`).

True findings among the anchors, hidden by weak features, make the estimate too high. They make the share of 1s rise
with the score. So the lower end of the interval is from the lower half of the anchors: that of the line through its own
two halves, at the lowest score.

Limits: if the features do not show a finding at all, the share of 1s among the anchors is its whole prevalence, and the
label looks noisy; nothing rises, so the interval leaves the truth out. Neither the strength ||theta_i|| nor the loss
distinguishes a hard label from a noisy one: they do not separate p from P(y = 1 | x).

Shapes: n rows, d features, k labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from models.errors import SettingError

ANCHORS = 0.3
"""Share of the images, those with the lowest scores, that are assumed to lack the finding."""

ReplacedBy = Literal["coin", "prevalence"]

FOLDS = 5
_RIDGE = 1.0  # of the features' mean variance, added to their covariance

# One-sided at either end: how many true findings are among the anchors is unknown, so the truth is near one end of the
# range that the interval allows for, not near both (Imbens, Manski: Confidence intervals for partially identified
# parameters, Econometrica 72, 2004).
_Z = NormalDist().inv_cdf(0.95)

# The line through two halves with the shares a and b ends at 1.5 a - 0.5 b. Each half has twice the variance v of the
# share of all anchors, so the variance at the end is (1.5^2 + 0.5^2) 2 v = 5 v.
_AT_LOWEST_SCORE = 5**0.5


@dataclass(frozen=True)
class LabelTrust:
    """The estimated noise of each label, in the order of the labels.

    Attributes:
        noise: estimated share of random entries, in [0, 1]; nan for a label without known entries of both classes.
        lo: lower end of the 95 % interval over patients, for the networks at hand. With cross-fitted features, over
            noise masks, splits and initial weights, on a phantom on which nothing was chosen, it contained the true
            share for 97.6 % of the labels (`benchmarks/label_trust.py`; conv4, 4, 8 and 16 epochs, rates 0 to 50 %).
        hi: upper end of the interval.
        rank: 1 for the label to be trusted most, k for the least.
        anchors: number of images that the estimate is based on.
    """

    noise: tuple[float, ...]
    lo: tuple[float, ...]
    hi: tuple[float, ...]
    rank: tuple[int, ...]
    anchors: tuple[int, ...]

    def table(self, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Return a row per label, the least trusted first, with the keys label, rank, noise, lo, hi and anchors."""
        columns = zip(labels, self.rank, self.noise, self.lo, self.hi, self.anchors, strict=True)
        names = ("label", "rank", "noise", "lo", "hi", "anchors")
        return [dict(zip(names, row, strict=True)) for row in sorted(columns, key=lambda row: -row[1])]


def label_trust(
    features: Any,
    targets: Any,
    patients: Any = None,
    *,
    networks: Any = None,
    replaced_by: ReplacedBy = "coin",
    seed: int = 0,
) -> LabelTrust:
    """Estimate each label's share of random entries.

    Args:
        features: (n, d), finite, from networks in evaluation mode.
        targets: (n, k), the noisy labels: 1 present, 0 absent, -1 unknown.
        patients: (n,), the patient of each image; if None, each image counts as a patient.
        networks: (n,), the network that each image's features are from; if None, one network for all.
        replaced_by: distribution of a random entry: a fair coin, or the label's own prevalence (a permutation).
        seed: of the folds.

    Raises:
        SettingError: a network has images of fewer patients than there are folds.
    """
    X, y = np.asarray(features, dtype=np.float64), np.asarray(targets)
    patient_numbers = np.arange(len(y)) if patients is None else np.unique(np.asarray(patients), return_inverse=True)[1]
    of_networks = np.zeros(len(y), dtype=int) if networks is None else np.asarray(networks)
    scores = np.zeros(y.shape)
    for network in np.unique(of_networks):
        rows = of_networks == network
        of_patients = np.unique(patient_numbers[rows], return_inverse=True)[1]
        of_network = out_of_fold_scores(X[rows], y[rows], of_patients, seed=seed)
        scores[rows] = rankdata(of_network, axis=0) / rows.sum()  # the networks' scores have scales of their own
    estimates = np.array(
        [_estimate_label(scores[:, i], y[:, i], patient_numbers, replaced_by) for i in range(y.shape[1])]
    )
    noise, lo, hi, anchors = estimates.T
    order = np.argsort(np.where(np.isnan(noise), np.inf, noise), kind="stable")
    columns = noise, lo, hi, 1 + np.argsort(order), anchors.astype(int)
    return LabelTrust(*(tuple(column.tolist()) for column in columns))


def out_of_fold_scores(X: NDArray, y: NDArray, patient_numbers: NDArray, *, seed: int) -> NDArray[np.float64]:
    """Score each image for each label by a linear discriminant (ridge regression), trained without the image's patient.

    Args:
        X: features of one network, (n, d) float64.
        y: noisy labels, (n, k), as for `label_trust`.
        patient_numbers: (n,) integers from 0.
        seed: of the folds.

    Returns:
        (n, k). Only the order of a label's scores has a meaning.

    Raises:
        SettingError: there are fewer patients than folds.
    """
    count = int(patient_numbers.max()) + 1
    if count < FOLDS:
        raise SettingError(f"label trust needs images of at least {FOLDS} patients for each network; got {count}")
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(b"label trust folds")))
    fold = (rng.permutation(count) % FOLDS)[patient_numbers]
    scores = np.zeros(y.shape)
    for held_out in range(FOLDS):
        training = fold != held_out
        mean = X[training].mean(axis=0)  # subtracted so that the scores of all folds have the same origin
        x, known = X[training] - mean, y[training] >= 0
        covariance = x.T @ x / len(x)
        covariance += np.eye(X.shape[1]) * (_RIDGE * covariance.trace() / X.shape[1] + np.finfo(float).tiny)
        entries = np.maximum(known.sum(axis=0), 1)
        prevalence = (y[training] == 1).sum(axis=0) / entries
        deviation = np.where(known, (y[training] == 1) - prevalence, 0.0)
        direction = np.linalg.solve(covariance, x.T @ deviation / entries)
        scores[~training] = (X[~training] - mean) @ direction
    return scores


def _estimate_label(
    score: NDArray, y: NDArray, patient_numbers: NDArray, replaced_by: ReplacedBy
) -> tuple[float, float, float, int]:
    """Estimate one label's noise; returns the estimate, its interval (lo, hi) and the number of anchors."""
    known = y >= 0
    if len(np.unique(y[known])) < 2:
        return float("nan"), float("nan"), float("nan"), 0
    count = round(ANCHORS * int(known.sum()))  # at least 1: there are two known entries
    score, y, patient_numbers = score[known], y[known], patient_numbers[known]
    share, _, size = _ones_among_anchors(score, y, patient_numbers, count)
    centre, half_width = _wilson(share, size)
    hi = centre + half_width
    lower_share, rise, size = _ones_among_anchors(score, y, patient_numbers, max(1, count // 2))
    centre, half_width = _wilson(lower_share, size)
    lo = min(share, centre - _AT_LOWEST_SCORE * half_width - rise)
    q = 0.5 if replaced_by == "coin" else float((y == 1).mean())
    estimate, lo, hi = (float(np.clip(value / q, 0.0, 1.0)) for value in (share, lo, hi))
    return estimate, lo, hi, count


def _ones_among_anchors(score: NDArray, y: NDArray, patient_numbers: NDArray, count: int) -> tuple[float, float, float]:
    """Return the share of 1s among the anchors, its rise, and how many independent entries are as certain.

    The rise is that of the line through the shares of the anchors' lower and upper half, from the middle of the anchors
    to either end; 0 if the line falls. From the mean of the halves to an end is as far as from one half to the other.
    """
    anchors = np.argsort(score, kind="stable")[:count]
    ones = (y[anchors] == 1).astype(float)
    share = float(ones.mean())
    rise = 2 * (share - float(ones[: max(1, count // 2)].mean()))
    return share, max(0.0, rise), _effective_size(ones - share, patient_numbers[anchors], share)


def _effective_size(deviations: NDArray, patient_numbers: NDArray, share: float) -> float:
    """Return how many independent entries have a share as uncertain as these entries, clustered by patient."""
    n = len(deviations)
    clustered = float((np.bincount(patient_numbers, weights=deviations) ** 2).sum())
    return n * min(1.0, n * share * (1 - share) / clustered) if clustered > 0 else float(n)


def _wilson(share: float, n: float) -> tuple[float, float]:
    """Compute Wilson's interval of a share of n entries (J. of the American Statistical Association 22, 1927).

    Returns:
        The interval's centre and half its width. Each end is a one-sided limit of 95 %.
    """
    half_width = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return float((share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)), float(half_width / (1 + _Z**2 / n))
