"""Standard error and interval of a mean difference over pairs of labels, training seeds and test patients.

The design is a two-stage sample (Cochran, Sampling Techniques, 3rd ed. 1977, chapter 10): units are drawn from a finite
list, and in each unit seeds are drawn from an infinite population. In addition, all models are scored on the same
patients, whose choice shifts all differences by a common amount. Comparing units or seeds cannot show this shift; its
variance is estimated from the patients (`models.evaluation.intervals.patient_influence`). With f = u / (length of the
list), the variance of the mean over units and seeds is estimated by

    (1 - f) S_unit^2 / u  +  f mean_u(S_seed^2 / s) / u  +  the variance of the common shift by the patients,

where S_unit^2 is the variance between the units' means and S_seed^2 that between a unit's seeds. Units that are given,
not drawn, have f = 1.

The components have different degrees of freedom, and the classical quantiles of Student's t for their sum are wrong in
opposite directions: Satterthwaite's (Biometrics Bulletin 1946) covers 92 to 95 % with three to five seeds; the mean of
the components' own quantiles, weighted by the components (Cochran, Biometrics 1964), covers 95 to 97 %. The mean of
these two quantiles is used. `benchmarks/coverage.py` measures its coverage for every design of this project.

Shapes: u units (conditions that are compared, such as pairs of labels), s training seeds of each, p test patients.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtridf, stdtrit

MIN_SAMPLED = 3
"""Least number of units, or of seeds, for an interval over them. Two have one degree of freedom: Student's t is 12.7,
and the interval is too wide to be of use."""

_LEVEL, _POWER = 0.05, 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its standard error.

    Attributes:
        mean: over seeds, then over units.
        error: standard error of the mean.
        degrees: degrees of freedom of Student's t.
        over: random samples whose choice the error covers; it does not cover other models, labels or data.
    """

    mean: float
    error: float
    degrees: float
    over: str

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        half = float(stdtrit(self.degrees, 1 - _LEVEL / 2)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Two-sided p-value; below 0.05 if the interval excludes 0. If the error is 0: 1 for equal models, else 0."""
        return float(2 * stdtr(self.degrees, -abs(self.mean) / self.error)) if self.error else float(self.mean == 0)

    @property
    def detectable(self) -> float:
        """Minimum detectable effect: the smallest true difference detected at the 5 % level with a power of 80 %.

        It is (t_0.975 + t_0.8) observed standard errors (Bloom, Minimum detectable effects, Evaluation Review 1995).
        """
        return float(stdtrit(self.degrees, 1 - _LEVEL / 2) + stdtrit(self.degrees, _POWER)) * self.error


def mean_difference(
    differences: Sequence[NDArray],
    influence: Sequence[NDArray],
    population_size: int | None = None,
    sampled: str = "patients",
) -> Estimate:
    """Estimate the mean of all units' differences, with an error that covers as many samples as the design allows.

    * over pairs, seeds and patients: the units were drawn, at least `MIN_SAMPLED` of them;
    * over seeds and patients: every unit has at least `MIN_SAMPLED` seeds; the units are taken as given;
    * over patients: the models are taken as given; always possible.

    Args:
        differences: for each unit (s,), one number per seed; s may differ between units.
        influence: for each unit (p, s), the influence of each patient on that difference; the sum of squares over
            patients is its variance.
        population_size: number of units from which the units were drawn; None if they were not drawn.
        sampled: the test items, in the plural: "patients", or another word of the kind of study.
    """
    means = np.array([values.mean() for values in differences], dtype=np.float64)  # (u,)
    unit_influence = np.stack([values.mean(axis=1) for values in influence], axis=1)  # (p, u)
    seeds = min(len(values) for values in differences)
    mean, mean_influence = float(means.mean()), unit_influence.mean(axis=1)  # (p,)
    patient_variance, patient_degrees = float(mean_influence @ mean_influence), _effective_patients(mean_influence)
    units = len(means)
    if population_size is not None and units >= MIN_SAMPLED:
        over = f"pairs, seeds and {sampled}"
        # with a single seed, the variances of seeds and of pairs cannot be separated: f = 0 gives the wider interval
        fraction = units / population_size if seeds > 1 else 0.0
    elif seeds >= MIN_SAMPLED:
        over, fraction = f"seeds and {sampled}", 1.0
    else:
        return Estimate(mean, patient_variance**0.5, patient_degrees, sampled)
    components, freedom = [], []
    common = patient_variance
    if fraction < 1:
        components.append((1 - fraction) * float(means.var(ddof=1)) / units)
        freedom.append(float(units - 1))
        common -= (1 - fraction) * float(unit_influence.var(axis=1, ddof=1).sum()) / units
    if fraction > 0:
        components.append(fraction * _between_seeds(differences) / units)
        freedom.append(float(sum(len(values) - 1 for values in differences)))
        common -= fraction * _between_seeds(influence) / units
    components.append(max(0.0, common))
    freedom.append(patient_degrees)
    variance = sum(components)
    if not variance:
        return Estimate(mean, patient_variance**0.5, patient_degrees, over)
    return Estimate(mean, variance**0.5, _degrees(np.array(components), np.array(freedom)), over)


def _degrees(components: NDArray, freedom: NDArray) -> float:
    """Compute the degrees of freedom of a sum of variance components with their own degrees of freedom.

    Its 97.5 % quantile is the mean of Satterthwaite's and Cochran's.
    """
    satterthwaite = float(components.sum()) ** 2 / float((components**2 / freedom).sum())
    cochran = np.average(stdtrit(freedom, 1 - _LEVEL / 2), weights=components)
    return float(stdtridf(1 - _LEVEL / 2, (stdtrit(satterthwaite, 1 - _LEVEL / 2) + cochran) / 2))


def _between_seeds(values: Sequence[NDArray]) -> float:
    """Compute the mean over units of the variance of a mean over seeds (last axis), summed over the other axes."""
    return float(np.mean([unit.var(axis=-1, ddof=1).sum() / unit.shape[-1] for unit in values]))


def _effective_patients(influence: NDArray) -> float:
    """Compute the degrees of freedom of a sum of squares (p,).

    They are p for normally distributed values, and fewer if a few patients dominate, as with a rare finding
    (Satterthwaite's match of mean and variance; the variance is estimated from fourth powers).
    """
    squares = influence**2
    spread = float(squares @ squares) - float(squares.sum()) ** 2 / len(squares)
    return max(1.0, 2 * float(squares.sum()) ** 2 / spread) if spread > 0 else float(len(squares))
