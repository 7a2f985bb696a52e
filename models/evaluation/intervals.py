"""Intervals for the area under the ROC curve: DeLong's for one label, a patient bootstrap for the mean.

n images, k labels, p patients, b resamples, a arms (sets of predictions for the same images).
m positives and q negatives of one label; t distinct scores among its positives.

Both treat the patient, not the image, as the unit that was sampled: a patient's images resemble one another,
and an interval that takes them for independent is too narrow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.special import stdtrit

RESAMPLES_AT_A_TIME = 64  # (p, 64) float32 weights of a few thousand patients stay in a core's cache


def number_patients(patients: NDArray) -> NDArray[np.int64]:
    """(n,) keys of any kind -> (n,) numbers 0..p-1 in the order in which the patients first appear.

    Not in the order of the keys: keys are hashes under a secret, and the same data under another secret must
    be resampled in the same way.
    """
    _, first, inverse = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


# --- DeLong ---


@dataclass(frozen=True)
class Placements:
    """Where each image of one label lies among those of the other class (DeLong's structural components).

    positive: (m,) in [0, 1], the share of negatives below each positive, ties counted as one half (V10).
    negative: (q,) in [0, 1], the share of positives above each negative, ties counted as one half (V01).
    """

    positive: NDArray[np.float64]
    negative: NDArray[np.float64]

    @property
    def auc(self) -> float:
        return float(self.positive.mean())


def placements(positive_scores: NDArray, negative_scores: NDArray) -> Placements:
    """Structural components from two sorts, O(n log n), instead of from all m·q pairs.

    A placement is the difference of an image's midrank among all images and among its own class (Sun and Xu,
    Fast implementation of DeLong's algorithm, IEEE Signal Processing Letters 2014, equations 5 to 9); two
    binary searches in the sorted other class give that difference directly.
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
    """Variance of one label's AUC: DeLong's, with a patient's images summed before they are squared.

    Obuchowski (Nonparametric analysis of clustered ROC curve data, Biometrics 1997, section 2) extends
    DeLong, DeLong and Clarke-Pearson (Biometrics 1988) to patients with several images; with one image per
    patient it is DeLong's formula. positive_patients (m,) and negative_patients (q,): numbers 0..p-1. Needs
    at least two patients on each side.
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
    """How much each patient moved an AUC, or a difference of AUCs: the infinitesimal jackknife over patients.

    positive (a, m), negative (a, q): structural components of a arms, or differences of them between two arms.
    positive_patients (m,), negative_patients (q,): numbers 0..p-1. Returns (p, a).

    Its sum of squares over patients is the variance, its products between arms and between labels are their
    covariances: DeLong's (1988, equation 6) with one image per patient. Each class is scaled by the number of its
    patients over one less, as there; with several images the cross term differs from Obuchowski's in that factor only.
    Needs at least two patients on each side.
    """

    def summed(placed: NDArray, whose: NDArray[np.int64]) -> NDArray[np.float64]:
        of_class = np.count_nonzero(np.bincount(whose))
        centred = placed - placed.mean(axis=1, keepdims=True)
        sums = [np.bincount(whose, of_arm, minlength=n_patients) for of_arm in centred]
        return np.stack(sums, axis=1) * (np.sqrt(of_class / (of_class - 1)) / len(whose))

    return summed(positive, positive_patients) + summed(negative, negative_patients)


def logit_interval(auc: float, variance: float, degrees: int) -> tuple[float, float] | None:
    """95 % interval of an AUC on the logit scale: it stays within [0, 1] and is wider towards 1/2.

    Near 1 its coverage is better than that of the symmetric interval (Qin and Hotilovac, Statistical Methods
    in Medical Research 2008). degrees: of freedom of Student's t, the patients of the rarer class less one;
    with five patients the normal distribution covered 83 to 88 %, this 94 to 95 %, and from a hundred on they
    agree. None where the variance is zero: there the classes are separated completely, or no score differs,
    and the method has nothing to say.
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

    With the t distinct scores of the positives as levels, a negative steps in at the first level that is not
    below it and again at the first that is above it: summed up to a level, that is twice the negatives below
    it and once those that tie with it. Row t of `steps` takes those above all levels.
    """

    positives: csr_array  # (t, p), the patient's positives at each level
    steps: csr_array  # (t + 1, p)

    def auc(self, weights: NDArray[np.float32]) -> NDArray[np.float64]:
        """weights (p, b), whole numbers -> (b,) AUC, nan where a resample lacks a class.

        Sums of weights stay below 2**24 and are therefore exact in float32; their products need float64.
        """
        at_level = self.positives @ weights
        below_twice = np.cumsum(self.steps @ weights, axis=0)
        won_twice = np.einsum("tb,tb->b", at_level, below_twice[:-1], dtype=np.float64)
        pairs_twice = at_level.sum(axis=0, dtype=np.float64) * below_twice[-1]
        return np.divide(won_twice, pairs_twice, out=np.full_like(won_twice, np.nan), where=pairs_twice > 0)


def _sort_label(target: NDArray[np.int8], score: NDArray, patient: NDArray[np.int64]) -> _SortedLabel:
    """One label: target (n,) in {1, 0, -1 unknown}, score (n,), patient (n,) numbers."""
    positive, negative = target == 1, target == 0
    if positive.sum() > negative.sum():
        # the classes exchanged and the scores negated: the same AUC from fewer levels
        positive, negative, score = negative, positive, -score
    levels, level = np.unique(score[positive], return_inverse=True)
    others, whose = score[negative], patient[negative]

    def count(rows: NDArray, patients: NDArray, n_rows: int) -> csr_array:
        ones = np.ones(len(rows), dtype=np.float32)
        return coo_array((ones, (rows, patients)), shape=(n_rows, patient.max() + 1)).tocsr()

    first, above = (np.searchsorted(levels, others, side) for side in ("left", "right"))
    steps = count(np.concatenate([first, above]), np.concatenate([whose, whose]), len(levels) + 1)
    return _SortedLabel(count(level, patient[positive], len(levels)), steps)


def resampled_patients(n_patients: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each patient was drawn: (p, b) counts, a few resamples at a time; each column sums to p."""
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
    """Mean AUC of every arm on resampled patients, the same resamples for all arms.

    targets: (n, k) int8, 1 present, 0 absent, -1 unknown. arms: each (n, k) scores, higher means more likely.
    patients: (n,) numbers 0..p-1; a patient's images come and go together.
    Returns (a, b) float64 in [0, 1], nan for a resample in which one of the k labels lacks a class.

    Exact: each label is sorted once, and a resample is then a weighted count. One thread, on purpose: two
    threads of a torch kernel gain nothing here on an idle machine, and beside other busy processes they took
    ten times as long. Memory: the sorted labels (about 12 bytes per image, label and arm), and 64 resamples at a
    time, whatever b is.
    """
    k = targets.shape[1]
    labels = [[_sort_label(targets[:, j], scores[:, j], patients) for j in range(k)] for scores in arms]
    parts = []
    for counts in resampled_patients(int(patients.max()) + 1, resamples, seed):
        weights = np.ascontiguousarray(counts, dtype=np.float32)
        parts.append(np.stack([np.mean([label.auc(weights) for label in arm], axis=0) for arm in labels]))
    return np.concatenate(parts, axis=1)
