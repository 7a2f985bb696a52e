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

How many seeds would settle a question follows from the same variance: with s seeds the minimum detectable effect of
units that are given is

    detectable(s) = (t_0.975 + t_0.8) sqrt(mean_u(S_seed^2) / (s u) + the variance of the common shift),

where Student's quantiles have the degrees of freedom of that sum with u (s - 1) for the seeds. The smallest s with
detectable(s) <= the observed |difference| is the number of seeds at which a true difference of this size is significant
at the 5 % level in 80 % of studies. It is a plan, not a promise: it takes the observed difference and the variances as
the true ones, and few seeds estimate them badly. In simulation a true difference of that size was seen by 80 % of the
new studies if the number came from 10 or 40 seeds, by 75 % if from 5, and by 70 % if from 3.

Shapes: u units (conditions that are compared, such as pairs of labels), s training seeds of each, p test patients.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtridf, stdtrit

MIN_SAMPLED = 3
"""Least number of units, or of seeds, for an interval over them. Two have one degree of freedom: Student's t is 12.7,
and the interval is too wide to be of use."""

MAX_SEEDS = 1000
"""Most seeds that `Estimate.seeds_needed` names; more than that is no plan."""

_LEVEL, _POWER = 0.05, 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean difference with its standard error.

    Attributes:
        mean: over seeds, then over units.
        error: standard error of the mean.
        degrees: degrees of freedom of Student's t.
        over: random samples whose choice the error covers; it does not cover other models, labels or data.
        seeds_needed: number of seeds of each method with which a true difference as large as the observed one would be
            detected with a power of 80 %; see the top of this file.
        seeds_reason: why there is no such number.
    """

    mean: float
    error: float
    degrees: float
    over: str
    seeds_needed: int | None = None
    seeds_reason: str | None = None

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
        return _detectable(self.error, self.degrees)


def _detectable(error: float, degrees: float) -> float:
    return float(stdtrit(degrees, 1 - _LEVEL / 2) + stdtrit(degrees, _POWER)) * error


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
    mean_influence = np.mean([values.mean(axis=1) for values in influence], axis=0)  # (p,)
    patients = _Component(float(mean_influence @ mean_influence), _effective_patients(mean_influence))
    mean = float(np.mean([values.mean() for values in differences]))
    seeds, units = min(len(values) for values in differences), len(differences)
    needed: tuple[int | None, str | None]
    if population_size is not None and units >= MIN_SAMPLED:
        # with a single seed, the variances of seeds and of pairs cannot be separated: f = 0 gives the wider interval
        fraction = units / population_size if seeds > 1 else 0.0
        components = _components(differences, influence, fraction, patients)
        over, needed = f"pairs, seeds and {sampled}", (None, "the interval is over pairs: more pairs are needed")
    elif seeds >= MIN_SAMPLED:
        components = _components(differences, influence, 1.0, patients)
        over, needed = f"seeds and {sampled}", _seeds_needed(abs(mean), differences, components[-1], sampled)
    else:
        components = [patients]
        reason = f"{seeds} seed(s) are too few for the variance between seeds; at least {MIN_SAMPLED} are needed"
        over, needed = sampled, (None, reason)
    if not sum(component.variance for component in components):
        components = [patients]
    return Estimate(mean, *_error(components), over, *needed)


class _Component(NamedTuple):
    """A component of the variance of the mean, and its degrees of freedom."""

    variance: float
    degrees: float


def _components(
    differences: Sequence[NDArray], influence: Sequence[NDArray], fraction: float, patients: _Component
) -> list[_Component]:
    """Compute the components of the variance; that of the common shift by the patients is the last."""
    units = len(differences)
    components = []
    common = patients.variance
    if fraction < 1:
        means = np.array([values.mean() for values in differences])
        unit_influence = np.stack([values.mean(axis=1) for values in influence], axis=1)  # (p, u)
        components.append(_Component((1 - fraction) * float(means.var(ddof=1)) / units, units - 1))
        common -= (1 - fraction) * float(unit_influence.var(axis=1, ddof=1).sum()) / units
    if fraction > 0:
        degrees = sum(len(values) - 1 for values in differences)
        components.append(_Component(fraction * _between_seeds(differences) / units, degrees))
        common -= fraction * _between_seeds(influence) / units
    return [*components, _Component(max(0.0, common), patients.degrees)]


def _seeds_needed(
    difference: float, differences: Sequence[NDArray], common: _Component, sampled: str
) -> tuple[int | None, str | None]:
    """Find the smallest number of seeds, at least `MIN_SAMPLED`, with detectable(seeds) <= difference; or say why none.

    Args:
        difference: absolute value of the observed one.
        differences: for each unit (s,).
        common: of the shift by the patients that all networks share.
        sampled: the test items, in the plural.
    """
    units = len(differences)
    of_one_seed = float(np.mean([values.var(ddof=1) for values in differences])) / units

    def detects(seeds: int) -> bool:
        components = [_Component(of_one_seed / seeds, units * (seeds - 1)), common]
        return _detectable(*_error(components)) <= difference

    if not difference:
        return None, "the observed difference is 0"
    if _detectable(*_error([common])) > difference:
        return None, f"no number of seeds would show a difference this small: more test {sampled} are needed"
    tried = range(MIN_SAMPLED, MAX_SEEDS + 1)
    position = bisect_left(tried, True, key=detects)
    return (tried[position], None) if position < len(tried) else (None, f"more than {MAX_SEEDS:,} seeds are needed")


def _error(components: Sequence[_Component]) -> tuple[float, float]:
    """Compute the standard error from a sum of components, and its degrees of freedom.

    Their 97.5 % quantile is the mean of Satterthwaite's and Cochran's.
    """
    variances, freedom = np.array(components, dtype=np.float64).T
    total = float(variances.sum())
    if not total:
        return 0.0, float(freedom[-1])
    satterthwaite = total**2 / float((variances**2 / freedom).sum())
    cochran = np.average(stdtrit(freedom, 1 - _LEVEL / 2), weights=variances)
    quantile = (stdtrit(satterthwaite, 1 - _LEVEL / 2) + cochran) / 2
    return total**0.5, float(stdtridf(1 - _LEVEL / 2, quantile))


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
