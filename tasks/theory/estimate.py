"""What several seeds say of one number: its mean with an interval, or its spread.

Every interval is a 95 % interval over seeds by Student's t; with one seed there is none.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import Field, FiniteFloat
from scipy.special import stdtrit

from tasks.records.base import Count, Record


class Estimate(Record):
    """A mean over seeds with its 95 % interval, null where there is one seed."""

    mean: FiniteFloat
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    above: Count = Field(description="seeds whose value lies above 0")
    seeds: Count

    @classmethod
    def over(cls, values: Sequence[float]) -> Self:
        """Estimate mean and interval from one value per seed."""
        n, mean = len(values), float(np.mean(values))
        half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
        lo, hi = (None, None) if half is None else (mean - half, mean + half)
        return cls(mean=mean, lo=lo, hi=hi, above=sum(value > 0 for value in values), seeds=n)


class Spread(Record):
    """The median over seeds, the quartiles and the range; for numbers whose mean says little, such as ratios."""

    median: FiniteFloat
    lower: FiniteFloat = Field(description="lower quartile")
    upper: FiniteFloat = Field(description="upper quartile")
    lowest: FiniteFloat
    highest: FiniteFloat

    @classmethod
    def over(cls, values: Sequence[float]) -> Self:
        """Describe one value per seed."""
        lowest, lower, median, upper, highest = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
        return cls(median=median, lower=lower, upper=upper, lowest=lowest, highest=highest)
