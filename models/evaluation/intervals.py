"""Influence of each patient on an area under the ROC curve (AUC) and the interval that follows from it.

The patient, not the image, is the sampling unit: the images of a patient are similar, and an interval that assumes
independent images is too narrow.

Shapes: n images, p patients, a arms (sets of predictions for the same images); m positives and q negatives of one
label.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

HALF_PATIENT = 0.5
"""Weight of the invented patient at chance level that `auc_interval` adds."""


def number_patients(patients: NDArray) -> NDArray[np.int64]:
    """Assign numbers (n,) 0..p-1 to patient keys (n,) of any type, in the order in which they first appear.

    Not in the order of the keys: keys are hashes with a secret, and the same data with another secret must give the
    same sums to the last bit.
    """
    _, first, inverse = np.unique(np.asarray(patients), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


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


def patient_influence(
    positive: NDArray,
    negative: NDArray,
    positive_patients: NDArray[np.int64],
    negative_patients: NDArray[np.int64],
    n_patients: int,
) -> NDArray[np.float64]:
    """Compute the influence of each patient on an AUC, or on a difference of AUCs (infinitesimal jackknife).

    The sum of its squares over patients is the variance, and the sums of its products between arms and between labels
    are the covariances: those of DeLong, DeLong and Clarke-Pearson (Biometrics 1988, equation 6) with one image per
    patient. As there, each class is scaled by the ratio of its number of patients to that number less one; with several
    images per patient the cross term differs from that of Obuchowski (Nonparametric analysis of clustered ROC curve
    data, Biometrics 1997, section 2) by this factor only.

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


def jackknife_influence(
    placed: Placements,
    positive_patients: NDArray[np.int64],
    negative_patients: NDArray[np.int64],
    n_patients: int,
) -> NDArray[np.float64]:
    """Compute by how much one label's AUC falls when a patient is left out, for every patient.

    The mean placements of both classes are computed without the patient; the placements themselves are kept. The sum of
    squares over patients is the variance. A patient with many of a class's images has more weight than in
    `patient_influence`, which scales all alike; without it, the interval of a mean AUC over rare labels is too narrow.

    Args:
        placed: placements of the label.
        positive_patients: (m,) numbers 0..p-1, at least two different ones.
        negative_patients: (q,) numbers 0..p-1, at least two different ones.
        n_patients: p.

    Returns:
        (p,).
    """

    def of_class(placements: NDArray, patients: NDArray[np.int64]) -> NDArray[np.float64]:
        images = np.bincount(patients, minlength=n_patients)
        sums = np.bincount(patients, placements - placements.mean(), minlength=n_patients)
        return sums / (len(patients) - images)

    return of_class(placed.positive, positive_patients) + of_class(placed.negative, negative_patients)


def auc_interval(auc: float, variance: float, patients: float) -> tuple[float, float] | None:
    """Compute the 95 % interval of an AUC, or of a mean AUC, after adding half a patient at chance level.

    Near 1 the variance estimated from few patients is often far too small, because none of them happened to be a hard
    case; an interval from it alone lies too high. So half an invented patient, whose images are ranked by chance, joins
    the `patients` of the rarer class. Like the successes and failures that Agresti and Coull (The American
    Statistician 1998) add to a proportion, it moves the middle of the interval towards 1/2 and widens the interval;
    both vanish as the number of patients grows. The AUC that is reported is not moved.

    `benchmarks/coverage.py` measures the coverage: 94 to 96 % at an AUC of 0.97 with ten or more patients of either
    class. With 10 to 14 of the rarer one, the logit interval without the half patient held the truth in 87 to 90 %,
    also with Student's t.

    Args:
        auc: in [0, 1].
        variance: of the AUC.
        patients: number of patients of the rarer class.

    Returns:
        The two ends, with the AUC between them; None if there is no variation at all, as when all scores are equal.
    """
    share = patients / (patients + HALF_PATIENT)
    middle = 0.5 + share * (auc - 0.5)
    added = HALF_PATIENT * (middle - 0.5) ** 2 / (patients + HALF_PATIENT) ** 2
    interval = logit_interval(middle, share**2 * variance + added, np.inf)
    return interval and (min(interval[0], auc), max(interval[1], auc))


def logit_interval(value: float, variance: float, degrees: float) -> tuple[float, float] | None:
    """Compute the 95 % interval of a score on the logit scale: it stays within [0, 1] and is wider towards 1/2.

    Near 1 its coverage is better than that of the symmetric interval (Qin and Hotilovac, Statistical Methods in Medical
    Research 2008).

    Args:
        value: of the score, in [0, 1].
        variance: of the score.
        degrees: degrees of freedom of Student's t; infinite for the normal distribution.

    Returns:
        The two ends; None if the value is 0 or 1 or the variance is zero: the method gives no interval.
    """
    if variance <= 0 or not 0 < value < 1:
        return None
    half = stdtrit(degrees, 0.975) * np.sqrt(variance) / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-half, half]))
    return float(low), float(high)
