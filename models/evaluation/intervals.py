"""Intervals for the area under the ROC curve: DeLong's for one label, a bootstrap over patients for the mean.

Both treat the patient, not the image, as the sampling unit: the images of a patient are similar, and an interval that
assumes independent images is too narrow.

Shapes: n images, k labels, p patients, b resamples, a arms (sets of predictions for the same images); m positives and q
negatives of one label, t distinct scores among its positives.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.special import stdtrit

RESAMPLES_AT_A_TIME = 64  # (p, 64) float32 weights of a few thousand patients fit into a core's cache


def number_patients(patients: NDArray) -> NDArray[np.int64]:
    """Assign numbers (n,) 0..p-1 to patient keys (n,) of any type, in the order in which they first appear.

    Not in the order of the keys: keys are hashes with a secret, and the same data with another secret must give the
    same resamples.
    """
    _, first, inverse = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


# --- DeLong ---


@dataclass(frozen=True)
class Placements:
    """Placement values of one label's images among those of the other class (DeLong's structural components).

    Attributes:
        positive: (m,) in [0, 1], the share of negatives below each positive, ties counted as one half (V10).
        negative: (q,) in [0, 1], the share of positives above each negative, ties counted as one half (V01).
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""
        return float(self.positive.mean())


def placements(positive_scores: NDArray, negative_scores: NDArray) -> Placements:
    """Compute the structural components of scores (m,) and (q,) by two sorts, O(n log n), not from all m·q pairs.

    A placement is the difference between an image's midrank among all images and that among its own class (Sun and Xu,
    Fast implementation of DeLong's algorithm, IEEE Signal Processing Letters 2014, equations 5 to 9); two binary
    searches in the sorted scores of the other class give this difference directly.
    """

    def midcount(values: NDArray, others: NDArray) -> NDArray[np.float64]:
        others = np.sort(others)
        return (np.searchsorted(others, values, "left") + np.searchsorted(others, values, "right")) / 2

    above = midcount(positive_scores, negative_scores) / len(negative_scores)
    below = midcount(negative_scores, positive_scores) / len(positive_scores)
    return Placements(above, 1 - below)


def delong_variance(
    placed: Placements, positive_patients: NDArray[np.int64], negative_patients: NDArray[np.int64]
) -> float:
    """Compute the variance of one label's AUC by DeLong's method, with patients as clusters.

    The components of a patient's images are summed before they are squared. Obuchowski (Nonparametric analysis of
    clustered ROC curve data, Biometrics 1997, section 2) extends DeLong, DeLong and Clarke-Pearson (Biometrics 1988) to
    patients with several images; with one image per patient this is DeLong's formula.

    Args:
        placed: placements of the label.
        positive_patients: (m,) numbers 0..p-1, at least two different ones.
        negative_patients: (q,) numbers 0..p-1, at least two different ones.
    """
    size = 1 + max(positive_patients.max(), negative_patients.max())
    positive = np.bincount(positive_patients, placed.positive - placed.auc, minlength=size)
    negative = np.bincount(negative_patients, placed.negative - placed.auc, minlength=size)
    m, q = len(positive_patients), len(negative_patients)
    with_positive, with_negative = len(np.unique(positive_patients)), len(np.unique(negative_patients))
    either = len(np.union1d(positive_patients, negative_patients))
    return float(
        with_positive / (with_positive - 1) * (positive @ positive) / m**2
        + with_negative / (with_negative - 1) * (negative @ negative) / q**2
        + 2 * either / (either - 1) * (positive @ negative) / (m * q)
    )


def patient_influence(
    positive: NDArray,
    negative: NDArray,
    positive_patients: NDArray[np.int64],
    negative_patients: NDArray[np.int64],
    n_patients: int,
) -> NDArray[np.float64]:
    """Compute the influence of each patient on an AUC, or on a difference of AUCs (infinitesimal jackknife).

    The sum of its squares over patients is the variance, and the sums of its products between arms and between labels
    are the covariances: those of DeLong (1988, equation 6) with one image per patient. As there, each class is scaled
    by the ratio of its number of patients to that number less one; with several images per patient the cross term
    differs from Obuchowski's by this factor only.

    Args:
        positive: (a, m), structural components of a arms, or their differences between two arms.
        negative: (a, q), the same of the negatives.
        positive_patients: (m,) numbers 0..p-1, at least two different ones.
        negative_patients: (q,) numbers 0..p-1, at least two different ones.
        n_patients: p.

    Returns:
        (p, a).
    """

    def sum_by_patient(placed: NDArray, patients: NDArray[np.int64]) -> NDArray[np.float64]:
        in_class = np.count_nonzero(np.bincount(patients))
        centred = placed - placed.mean(axis=1, keepdims=True)
        sums = [np.bincount(patients, components, minlength=n_patients) for components in centred]
        return np.stack(sums, axis=1) * (np.sqrt(in_class / (in_class - 1)) / len(patients))

    return sum_by_patient(positive, positive_patients) + sum_by_patient(negative, negative_patients)


def logit_interval(auc: float, variance: float, degrees: int) -> tuple[float, float] | None:
    """Compute the 95 % interval of an AUC on the logit scale: it stays within [0, 1] and is wider towards 1/2.

    Near 1 its coverage is better than that of the symmetric interval (Qin and Hotilovac, Statistical Methods in Medical
    Research 2008). With five patients the normal distribution covered 83 to 88 %, Student's t 94 to 95 %; from a
    hundred patients on they agree.

    Args:
        auc: in [0, 1].
        variance: of the AUC.
        degrees: degrees of freedom of Student's t: the number of patients of the rarer class less one.

    Returns:
        The two ends; None if the variance is zero: the classes are separated completely, or all scores are equal, and
        the method gives no interval.
    """
    if variance <= 0 or not 0 < auc < 1:
        return None
    middle = np.log(auc / (1 - auc))
    half = stdtrit(degrees, 0.975) * np.sqrt(variance) / (auc * (1 - auc))
    low, high = (1 + np.tanh((middle + np.array([-half, half])) / 2)) / 2  # the logistic function, no overflow
    return float(low), float(high)


# --- Bootstrap over patients ---


@dataclass(frozen=True)
class _SortedLabel:
    """One label of one arm, sorted once, so that its AUC under any weights of the patients is a few sums.

    The levels are the t distinct scores of the positives. A negative is counted in `steps` at the first level that is
    not below it, and again at the first level that is above it. The cumulative sum up to a level then counts the
    negatives below the level twice and those that tie with it once. Row t of `steps` counts negatives above all levels.
    """

    positives: csr_array  # (t, p), each patient's number of positives at each level
    steps: csr_array  # (t + 1, p)

    def auc(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """Compute the AUC (b,) for weights (p, b), which are whole numbers; nan for a resample that lacks a class.

        Sums of weights stay below 2**24 and are therefore exact in float32; their products need float64.
        """
        at_level = self.positives @ weights
        below_twice = np.cumsum(self.steps @ weights, axis=0)
        won_twice = np.einsum("tb,tb->b", at_level, below_twice[:-1], dtype=np.float64)
        pairs_twice = at_level.sum(axis=0, dtype=np.float64) * below_twice[-1]
        return np.divide(won_twice, pairs_twice, out=np.full_like(won_twice, np.nan), where=pairs_twice > 0)


def _sort_label(target: NDArray[np.int8], score: NDArray, patient: NDArray[np.int64]) -> _SortedLabel:
    """Sort one label: target (n,) in {1, 0, -1 unknown}, score (n,), patient (n,) numbers."""
    positive, negative = target == 1, target == 0
    if positive.sum() > negative.sum():
        # exchanging the classes and negating the scores gives the same AUC with fewer levels
        positive, negative, score = negative, positive, -score
    levels, level = np.unique(score[positive], return_inverse=True)
    negative_scores, negative_patients = score[negative], patient[negative]

    def count(rows: NDArray, patients: NDArray, n_rows: int) -> csr_array:
        ones = np.ones(len(rows), dtype=np.float32)
        return coo_array((ones, (rows, patients)), shape=(n_rows, patient.max() + 1)).tocsr()

    first, above = (np.searchsorted(levels, negative_scores, side) for side in ("left", "right"))
    steps = count(np.concatenate([first, above]), np.tile(negative_patients, 2), len(levels) + 1)
    return _SortedLabel(count(level, patient[positive], len(levels)), steps)


def resampled_patients(n_patients: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw bootstrap resamples of the patients.

    Yields:
        (p, b) how often each patient was drawn, for a few resamples at a time; each column sums to p.
    """
    stream = np.random.SeedSequence(seed, spawn_key=tuple(b"bootstrap over patients"))
    generator = np.random.default_rng(stream)
    for start in range(0, resamples, RESAMPLES_AT_A_TIME):
        b = min(RESAMPLES_AT_A_TIME, resamples - start)
        drawn = generator.integers(n_patients, size=(b, n_patients))
        drawn += np.arange(b)[:, None] * n_patients
        yield np.bincount(drawn.ravel(), minlength=b * n_patients).reshape(b, n_patients).T


def bootstrap_mean_auc(
    targets: NDArray[np.int8],
    arms: Sequence[NDArray],
    patients: NDArray[np.int64],
    *,
    seed: int,
    resamples: int = 1000,
) -> NDArray[np.float64]:
    """Compute the mean AUC of every arm on bootstrap resamples of the patients, the same resamples for all arms.

    The result is exact: each label is sorted once, and a resample is a weighted count. It runs in one thread on
    purpose: two threads of a torch kernel were no faster on an idle machine, and took ten times as long beside other
    busy processes. Memory: the sorted labels (about 12 bytes per image, label and arm) and 64 resamples at a time, for
    any b.

    Args:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown.
        arms: (n, k) scores each, higher for a more likely finding.
        patients: (n,) numbers 0..p-1; the images of a patient are drawn together.
        seed: of the resamples.
        resamples: b.

    Returns:
        (a, b) float64 in [0, 1]; nan for a resample in which one of the k labels lacks a class.
    """
    k = targets.shape[1]
    labels = [[_sort_label(targets[:, j], scores[:, j], patients) for j in range(k)] for scores in arms]
    parts = []
    for counts in resampled_patients(int(patients.max()) + 1, resamples, seed):
        weights = np.ascontiguousarray(counts, dtype=np.float32)
        parts.append(np.stack([np.mean([label.auc(weights) for label in arm], axis=0) for arm in labels]))
    return np.concatenate(parts, axis=1)
