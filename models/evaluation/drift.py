"""Drift: does a night's new data come from the same distribution as a reference period? Tests from scipy.

Images of one patient are alike, and a test that takes them for independent raises false alarms. So each patient is
compared by one image (`one_image_per_patient`), and counts of files whose patients are unknown are divided by the
images that come together (`images_together`). Then

* values (grey levels, scores) are compared by the test of Kolmogorov and Smirnov: unlike a rank test of location it
  also finds another spread, or a second device in one image of five; equal values only make it more careful;
* shares (views, findings) by Fisher's exact test, of more than two categories by that of Freeman and Halton, whose
  null distribution is drawn. Neither needs large counts, and most findings are rare;
* the number of images of a night by a prediction interval from earlier nights.

All tests of a night are then corrected together by `models.evaluation.auc.holm`.

Shapes: n values of the reference, m of the night.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import stdtr, stdtrit

from models.randomness import random_bits, seed_for

FEWEST_NIGHTS = 5
"""Least number of earlier nights for a prediction interval of the number of images."""

_RARE = 5  # images on both sides together: two or more categories with fewer are one
_OTHERS = "others"
_DRAWS = 49_999  # tables; the smallest p-value is 2e-5, an alarm at 0.01 among up to 500 tests
_SEED = 0  # of the draws, which are the same every time


@dataclass(frozen=True)
class Compared:
    """A quantity in the reference and in the night; `p_value`, or a `reason` why there is none.

    Attributes:
        method: name of the test.
        reference: what describes the reference, for example {"median": 117.2}, or the share of each category.
        night: the same of the night.
        n_reference: number of patients, files or nights.
        n_night: likewise.
        p_value: in [0, 1], two-sided, not adjusted.
        reason: why the two were not tested.
    """

    method: str
    reference: dict[str, float]
    night: dict[str, float]
    n_reference: int
    n_night: int
    p_value: float | None = None
    reason: str | None = None


def one_image_per_patient(patients: NDArray, images: NDArray, most: int) -> NDArray[np.int64]:
    """Draw one image of each patient, and at most `most` patients.

    Which are drawn depends on the images' names only: the draw does not change when other images are added.

    Args:
        patients: (n,) keys of the images' patients.
        images: (n,) names of the images.
        most: number of patients.

    Returns:
        Row numbers, ascending, at most `most`.
    """
    digests = [hashlib.blake2b(str(name).encode(), digest_size=8).digest() for name in images]
    samples = torch.from_numpy(np.frombuffer(b"".join(digests), dtype=np.int64).copy())
    rank = random_bits(_SEED, "drift", 0, samples, 1)[:, 0].numpy()
    drawn = np.argsort(rank, kind="stable")
    first = np.sort(np.unique(patients[drawn], return_index=True)[1])  # of each patient, in the order of the ranks
    return np.sort(drawn[first[:most]])


def images_together(groups: NDArray) -> float:
    """Return how many images count as one if those of a group are all alike: the mean size of an image's group.

    It is the design effect of clusters with an intraclass correlation of 1 (Kish, Survey Sampling, 1965); 1 if there
    are no images.

    Args:
        groups: (n, c) keys, equal for the images of one group.
    """
    sizes = np.unique(groups, axis=0, return_counts=True)[1]
    return float((sizes**2).sum() / sizes.sum()) if len(sizes) else 1.0


def compare_values(reference: NDArray, night: NDArray, fewest: int) -> Compared:
    """Compare two samples of independent values by the two-sample test of Kolmogorov and Smirnov.

    Args:
        reference: (n,); NaN is left out.
        night: (m,); likewise.
        fewest: values that both must have.
    """
    reference, night = reference[~np.isnan(reference)], night[~np.isnan(night)]
    medians = [{"median": float(np.median(side))} if len(side) else {} for side in (reference, night)]
    found = Compared("Kolmogorov-Smirnov test", medians[0], medians[1], len(reference), len(night))
    if reason := _too_few(len(reference), len(night), fewest):
        return replace(found, reason=reason)
    if len(np.unique(np.concatenate([reference, night]))) == 1:
        return replace(found, reason=f"all values are {reference[0]:g}")
    return replace(found, p_value=float(stats.ks_2samp(reference, night).pvalue))


def compare_shares(
    reference: Mapping[str, int], night: Mapping[str, int], fewest: int, alike: tuple[float, float] = (1.0, 1.0)
) -> Compared:
    """Compare the shares of categories by Fisher's exact test.

    Rare categories, with fewer than 5 images on both sides together, are one category if there are several.

    Args:
        reference: category -> number of images.
        night: likewise.
        fewest: independent images that both must have.
        alike: of both sides, how many images count as one independent image (`images_together`).
    """
    totals = {name: reference.get(name, 0) + night.get(name, 0) for name in sorted({*reference, *night})}
    rare = {name for name, total in totals.items() if total < _RARE}
    pooled = {name: _OTHERS if name in rare and len(rare) > 1 else name for name in totals}
    names = sorted(set(pooled.values()))
    table = np.zeros((2, len(names)), dtype=np.int64)
    for row, side in zip(table, (reference, night), strict=True):
        np.add.at(row, [names.index(pooled[name]) for name in side], list(side.values()))
    shares = [dict(zip(names, (row / max(1, row.sum())).tolist(), strict=True)) for row in table]
    method = "Fisher's exact test" if len(names) < 3 else "test of Fisher, Freeman and Halton"
    found = Compared(method, shares[0], shares[1], *table.sum(axis=1).tolist())
    independent = (table / np.array(alike)[:, np.newaxis]).astype(np.int64)
    if reason := _too_few(int(independent[0].sum()), int(independent[1].sum()), fewest):
        return replace(found, reason=reason)
    if len(names) == 1:
        return replace(found, reason="every category is rare" if rare else f"all are {names[0]!r}")
    if len(names) == 2:
        return replace(found, p_value=float(stats.fisher_exact(independent).pvalue))
    draws = stats.MonteCarloMethod(n_resamples=_DRAWS, rng=np.random.default_rng(seed_for(_SEED, "drift tables")))
    return replace(found, p_value=float(stats.fisher_exact(independent, method=draws).pvalue))


def compare_count(earlier: Sequence[int], tonight: int) -> Compared:
    """Compare the number of images of a night with the numbers of earlier nights.

    Numbers vary more than Poisson's: patients bring several images, weekends differ. Their square roots (Anscombe,
    Biometrika 1948) have the variance 1/4 if they are Poisson's, and more else. The interval is that of Student's t
    for one further value, with the variance of the earlier nights, but at least 1/4.

    Args:
        earlier: of each earlier night, those without images too.
        tonight: of this one.

    Returns:
        The reference's median, and the ends `lo` and `hi` of the 95 % prediction interval.
    """
    nights = len(earlier)
    before = {"median": float(np.median(earlier))} if nights else {}
    found = Compared("prediction interval of earlier nights", before, {"images": float(tonight)}, nights, 1)
    if nights < FEWEST_NIGHTS:
        return replace(found, reason=f"{nights} earlier night(s), at least {FEWEST_NIGHTS} are needed")
    roots = np.sqrt(np.array([*earlier, tonight]) + 3 / 8)
    mean = roots[:-1].mean()
    error = max(roots[:-1].std(ddof=1), 0.5) * (1 + 1 / nights) ** 0.5
    ends = np.maximum(0, mean + np.array([-1, 1]) * stdtrit(nights - 1, 0.975) * error) ** 2 - 3 / 8
    lo, hi = np.maximum(0, ends).tolist()
    found = replace(found, reference=before | {"lo": lo, "hi": hi})
    return replace(found, p_value=float(2 * stdtr(nights - 1, -abs(roots[-1] - mean) / error)))


def _too_few(n_reference: int, n_night: int, fewest: int) -> str | None:
    for side, n in (("the night", n_night), ("the reference", n_reference)):
        if n < fewest:
            return f"known of {n} in {side}, at least {fewest} are needed"
    return None
