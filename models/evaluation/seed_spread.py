"""Spread of a score between training seeds, with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtri

from models.evaluation.two_stage import MIN_SAMPLED


@dataclass(frozen=True)
class SeedSpread:
    """Standard deviation of a score over training seeds.

    Attributes:
        sd: estimated with seeds - 1 degrees of freedom.
        lo: lower end of its 95 % interval.
        hi: upper end; with three seeds it is 6.3 times `sd`.
        seeds: number of them.
    """

    sd: float
    lo: float
    hi: float
    seeds: int


def seed_spread(values: Sequence[float]) -> SeedSpread | None:
    """Compute the standard deviation of a score over training seeds, with its 95 % interval.

    The interval assumes that scores of different seeds are independent and normally distributed: (s - 1) sd^2 / sigma^2
    is then chi-square with s - 1 degrees of freedom. All seeds are scored on the same test patients, so the spread is
    that of training, not of patients.

    Args:
        values: (s,), one per seed.

    Returns:
        None with fewer than `MIN_SAMPLED` seeds.
    """
    seeds = len(values)
    if seeds < MIN_SAMPLED:
        return None
    sd = float(np.std(values, ddof=1))
    lo, hi = sd * np.sqrt((seeds - 1) / chdtri(seeds - 1, np.array([0.025, 0.975])))
    return SeedSpread(sd, float(lo), float(hi), seeds)
