"""How sure a mean difference is, over pairs of labels, training seeds and test patients.

u units (conditions that are studied together, such as pairs of labels), s training seeds of each, p test patients.

The design is a two-stage sample (Cochran, Sampling Techniques, 3rd ed. 1977, chapter 10): units are drawn from a list,
and in each unit seeds are drawn from endlessly many. On top of that all of them are scored on the same patients, whose
choice shifts all differences together; no comparison between units or seeds can show that part, it has to come from
the patients themselves (`models.evaluation.intervals.patient_influence`). With f = u / (length of the list), the variance of the
mean over units and seeds is estimated by

    (1 - f) S_unit^2 / u  +  f mean_u(S_seed^2 / s) / u  +  what the patients have in common for all of them,

S_unit^2 the variance between the units' means and S_seed^2 that between a unit's seeds. Units that are not drawn but
given have f = 1.

The parts are known to different degrees of freedom, and the classical quantiles of Student's t for their sum err on
opposite sides: Satterthwaite's (Biometrics Bulletin 1946) covers 92 to 95 % with three to five seeds, the mean of the
parts' own quantiles, weighted by the parts (Cochran, Biometrics 1964), 95 to 97 %. The mean of the two is taken.
`benchmarks/coverage.py` measures its coverage for every design that is shipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtridf, stdtrit

MIN_DRAWN = 3
"""Fewest units, or seeds, to say something about others of their kind. Two have one degree of freedom: Student's t is
12.7 there, and the interval says nothing."""

Sampled = Literal["patients", "sentences"]
"""What a test set is a sample of; "patients" stands for either in what follows."""

Over = Literal[
    "patients", "seeds and patients", "pairs, seeds and patients",
    "sentences", "seeds and sentences", "pairs, seeds and sentences",
]  # fmt: skip
_LEVEL, _POWER = 0.05, 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean difference and how sure it is.

    mean: over seeds, then over units. error: its standard error. degrees: of freedom of Student's t.
    over: what was drawn at random; the error says nothing about other models, labels or data than those.
    """

    mean: float
    error: float
    degrees: float
    over: Over

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the 95 % interval."""
        half = float(stdtrit(self.degrees, 1 - _LEVEL / 2)) * self.error
        return self.mean - half, self.mean + half

    @property
    def p_value(self) -> float:
        """Two-sided; below 0.05 where the interval leaves out 0. 1 where nothing differs at all."""
        return float(2 * stdtr(self.degrees, -abs(self.mean) / self.error)) if self.error else float(self.mean == 0)

    @property
    def detectable(self) -> float:
        """The smallest true difference that such a study would show at the 5 % level with a power of 80 %.

        From the error as observed: (t_0.975 + t_0.8) standard errors (Bloom, Minimum detectable effects,
        Evaluation Review 1995).
        """
        return float(stdtrit(self.degrees, 1 - _LEVEL / 2) + stdtrit(self.degrees, _POWER)) * self.error


def mean_difference(
    differences: Sequence[NDArray],
    influence: Sequence[NDArray],
    population_size: int | None = None,
    tested: Sampled = "patients",
) -> Estimate:
    """The mean of all units' differences, over as much as the design carries.

    differences: for each unit (s,), one number per seed; units may differ in s. influence: for each unit (p, s), how
    much each patient moved that difference; the sum of squares over patients is its variance. drawn_from: how many
    units there were to draw from, or None if the units were not drawn.

    * over pairs, seeds and patients: the units were drawn, MIN_DRAWN or more of them;
    * over seeds and patients: every unit has MIN_DRAWN seeds or more; the units are those, and no others;
    * over patients: these very models; always possible.
    """
    means, of_patient = _means(differences), np.stack([each.mean(axis=1) for each in influence], axis=1)  # (u,), (p, u)
    seeds = min(len(each) for each in differences)
    mean, patients = float(means.mean()), of_patient.mean(axis=1)  # (p,)
    alone, degrees = float(patients @ patients), _effective_patients(patients)
    units = len(means)
    if population_size is not None and units >= MIN_DRAWN:
        over: Over = f"pairs, seeds and {tested}"  # type: ignore[assignment]
        share = (
            units / population_size if seeds > 1 else 0.0
        )  # without it, and wider, where no seed can be told from a pair
    elif seeds >= MIN_DRAWN:
        over, share = f"seeds and {tested}", 1.0  # type: ignore[assignment]
    else:
        return Estimate(mean, alone**0.5, degrees, tested)
    parts, freedom = [], []
    common = alone
    if share < 1:
        parts.append((1 - share) * float(means.var(ddof=1)) / units)
        freedom.append(float(units - 1))
        common -= (1 - share) * float(of_patient.var(axis=1, ddof=1).sum()) / units
    if share > 0:
        parts.append(share * _between_seeds(differences) / units)
        freedom.append(float(sum(len(each) - 1 for each in differences)))
        common -= share * _between_seeds(influence) / units
    parts.append(max(0.0, common))
    freedom.append(degrees)
    variance = sum(parts)
    if not variance:
        return Estimate(mean, alone**0.5, degrees, over)
    return Estimate(mean, variance**0.5, _degrees(np.array(parts), np.array(freedom)), over)


def _degrees(parts: NDArray, freedom: NDArray) -> float:
    """Degrees of freedom of a sum of variances, each with its own: those whose 97.5 % quantile lies half-way between
    Satterthwaite's and Cochran's.
    """
    satterthwaite = float(parts.sum()) ** 2 / float((parts**2 / freedom).sum())
    cochran = np.average(stdtrit(freedom, 1 - _LEVEL / 2), weights=parts)
    return float(stdtridf(1 - _LEVEL / 2, (stdtrit(satterthwaite, 1 - _LEVEL / 2) + cochran) / 2))


def _means(differences: Sequence[NDArray]) -> NDArray[np.float64]:
    return np.array([each.mean() for each in differences], dtype=np.float64)


def _between_seeds(values: Sequence[NDArray]) -> float:
    """Mean over units of the variance of a mean over seeds, the last axis; summed over what comes before."""
    return float(np.mean([each.var(axis=-1, ddof=1).sum() / each.shape[-1] for each in values]))


def _effective_patients(influence: NDArray) -> float:
    """Degrees of freedom of a sum of squares (p,): p for values of a normal distribution, fewer where a few patients
    decide, as with a rare finding (Satterthwaite's match of mean and variance, the latter from fourth powers).
    """
    squares = influence**2
    spread = float(squares @ squares) - float(squares.sum()) ** 2 / len(squares)
    return max(1.0, 2 * float(squares.sum()) ** 2 / spread) if spread > 0 else float(len(squares))
