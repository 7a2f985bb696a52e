"""Records of results.json of the theory of data augmentation, the second paper.

A fall of the risk is positive where the augmentation helps; a change of the risk is negative there. The conventions of
the ridge, `kept` and `rescaled`, are those of `models.theory.augmented_ridge`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import numpy as np
from pydantic import Field, FiniteFloat

from tasks.records.base import Count, Record
from tasks.records.data import CheckRecord
from tasks.theory.estimate import Estimate, Spread

FAR = 3.0
"""Standard errors beyond which a deviation counts as far."""


class Deviations(Record):
    """Deviations of simulated from expected values in standard errors, one per seed."""

    together: FiniteFloat = Field(description="deviation of all seeds together, in its own standard errors")
    largest: FiniteFloat = Field(description="largest absolute deviation of one seed")
    far: Count = Field(description="number of seeds beyond 3 standard errors")
    seeds: Count

    @classmethod
    def over(cls, values: list[float]) -> Self:
        """Summarise independent deviations, each in its own standard errors."""
        size = np.abs(values)
        together = float(np.sum(values) / np.sqrt(len(values)))
        return cls(together=together, largest=float(size.max()), far=int((size > FAR).sum()), seeds=len(values))

    @classmethod
    def worst(cls, several: Sequence[Self]) -> Self:
        """Put those of several settings into one: the largest of each, and the sums of the numbers of seeds."""
        return cls(
            together=max((each.together for each in several), key=abs),
            largest=max(each.largest for each in several),
            far=sum(each.far for each in several),
            seeds=sum(each.seeds for each in several),
        )

    def __str__(self) -> str:
        """Describe them, as 'largest 2.9 of one seed, 1.4 of all seeds together; 0 of 160 beyond 3'."""
        return (
            f"largest {self.largest:.1f} of one seed, {abs(self.together):.1f} of all seeds together; {self.far} of "
            f"{self.seeds} beyond {FAR:g}"
        )


class RidgeCaseRecord(Record):
    """A ridge regression with inputs N(0, I / p) and ||beta|| = 1."""

    dimensions: Count = Field(description="p")
    samples: Count = Field(description="n")
    ridge: FiniteFloat = Field(description="lambda")
    noise: FiniteFloat = Field(description="sigma")
    convention: str

    @property
    def name(self) -> str:
        """The four numbers on one line."""
        return f"p {self.dimensions}, n {self.samples}, λ {self.ridge:g}, σ {self.noise:g}"


class ClosedFormRecord(Record):
    """The closed form of the risk's fall against direct algebra, on random regressions of all seeds."""

    convention: str
    cases: Count
    largest_difference: FiniteFloat
    rises: Count = Field(description="number of cases in which the augmentation raises the risk")


class SimulationRecord(RidgeCaseRecord):
    """The closed form of the risk's fall against simulated regressions; one value per seed in each tuple."""

    closed: tuple[FiniteFloat, ...]
    simulated: tuple[FiniteFloat, ...]
    standard_error: tuple[FiniteFloat, ...]
    deviations: Deviations

    @property
    def rises(self) -> int:
        """Seeds in which the augmentation raises the risk, by the closed form."""
        return sum(fall < 0 for fall in self.closed)


class LeadingOrderRecord(Record):
    """The exact fall of the bias over its leading orders, for one ridge."""

    relative_ridge: FiniteFloat = Field(description="lambda n / ||z||^2")
    kept: Spread = Field(description="ridge kept: over 2 <z,beta>^2 / (lambda n)")
    rescaled: Spread = Field(description="ridge rescaled: over 2 <z,beta>^2 / (lambda n)")
    small: Spread = Field(description="ridge kept: over <z,beta>^2 / ||z||^2")


class CompositionRecord(Record):
    """The fall of the bias by a composition against the sum over sequential projections, largest over seeds."""

    transforms: Count
    off: FiniteFloat = Field(description="relative difference with a small ridge")
    large_off: FiniteFloat = Field(description="relative difference with a large ridge")
    fall: Estimate = Field(description="fall of the bias with a small ridge; ||beta|| = 1")


class ReflectionRecord(Record):
    """A reflection applied twice: its square is the identity, so there is no second direction."""

    first: Estimate = Field(description="fall of the bias by the reflected sample")
    second: FiniteFloat = Field(description="further fall when it is applied again, relative to the first; largest")
    length: FiniteFloat = Field(description="||z_2|| / ||x||, largest over seeds")
    rotation_second: Estimate = Field(description="further fall when a rotation is applied again")


class MixupRecord(Record):
    """The risk with mixed rows against that of the equivalent ridge, in one setting; inputs centred."""

    dimensions: Count = Field(description="p")
    samples: Count = Field(description="n")
    noise: FiniteFloat = Field(description="sigma")
    concentration: FiniteFloat = Field(description="a of the weight's distribution Beta(a, a)")
    multiple: Count = Field(description="mixed rows per sample")
    relative_ridge: FiniteFloat = Field(description="lambda over the best ridge lambda*")
    convention: str
    equivalent_ridge: FiniteFloat = Field(description="lambda' / lambda")
    change: Estimate = Field(description="change of the risk by mixup, relative to plain ridge")
    equivalent_change: Estimate = Field(description="change of the risk by the equivalent ridge, relative to plain")
    off: Estimate = Field(description="risk with mixup over that of the equivalent ridge, minus 1")
    deviations: Deviations = Field(description="of the simulated risk with mixup from that of the equivalent ridge")

    @property
    def name(self) -> str:
        """The regression on one line."""
        return f"p {self.dimensions}, n {self.samples}, σ {self.noise:g}"

    @property
    def weight(self) -> str:
        """The weight's distribution."""
        return f"Beta({self.concentration:g}, {self.concentration:g})"


class GramRecord(Record):
    """The mean of Z^T Z against its expectation, in standard errors, root mean square over entries."""

    concentration: FiniteFloat
    centred: bool
    multiple: Count
    deviation: Estimate
    without_mean: Estimate = Field(description="the same if the term of the inputs' mean is left out")


class OrderRecord(RidgeCaseRecord):
    """Biases and variances of plain ridge, a rotated copy of every sample and mixup, over designs of all seeds."""

    designs: Count
    fewest_biases: FiniteFloat = Field(description="smallest share, over seeds, of designs with the order of biases")
    biases: Count = Field(description="number of designs with bias(rotation) < bias(plain) < bias(mixup)")
    rotation_below_plain: Count = Field(description="of biases")
    plain_below_mixup: Count = Field(description="of biases")
    one_row_below_plain: Count = Field(description="of biases: one added row alone lowers the bias")
    variance_mixup_below_plain: Count
    variance_mixup_below_rotation: Count
    bias_plain: FiniteFloat = Field(description="mean over designs, as the following")
    bias_rotation: FiniteFloat
    bias_mixup: FiniteFloat
    variance_plain: FiniteFloat
    variance_rotation: FiniteFloat
    variance_mixup: FiniteFloat


class HelpCellRecord(Record):
    """A cell of the map of help and harm."""

    relative_ridge: FiniteFloat = Field(description="lambda n / ||z||^2")
    noise: FiniteFloat
    projection: FiniteFloat = Field(description="squared cosine of z and the part of beta that the samples do not see")
    convention: str
    change: Estimate = Field(description="change of the risk, relative to plain ridge")
    helps: Count = Field(description="seeds in which the risk falls")
    predicted: Count = Field(description="seeds in which the condition for the kept ridge says that it falls")
    agree: Count = Field(description="seeds in which both say the same")


class DigitErrorRecord(Record):
    """One way to train ridge regression on digits, with one ridge and label noise."""

    arm: str
    convention: str
    ridge: FiniteFloat
    label_noise: FiniteFloat
    error: Estimate = Field(description="share of held-out digits that are classified wrongly")
    squared_error: Estimate = Field(description="mean squared distance from the targets")


class DigitBestRecord(Record):
    """One way to train at its best ridge, which the held-out digits themselves choose, by the mean over seeds."""

    arm: str
    convention: str
    label_noise: FiniteFloat
    ridge: FiniteFloat
    error: Estimate
    minus_plain: Estimate = Field(description="error minus that of plain ridge at its own best ridge")


class DigitsRecord(Record):
    """Ridge regression on digits, and the files that they come from."""

    files: tuple[str, str]
    fingerprint: str
    count: Count
    rows: tuple[DigitErrorRecord, ...]
    best: tuple[DigitBestRecord, ...]

    @property
    def ridge_step(self) -> float:
        """The largest factor between neighbouring ridges; 1 where there is one ridge."""
        ridges = sorted({row.ridge for row in self.rows})
        return max((above / below for below, above in pairwise(ridges)), default=1.0)


class AugmentationRecord(Record):
    """All of the theory of data augmentation."""

    question: str
    answer: tuple[str, ...]
    checks: tuple[CheckRecord, ...]
    closed_form: tuple[ClosedFormRecord, ...]
    simulation: tuple[SimulationRecord, ...]
    leading_order: tuple[LeadingOrderRecord, ...]
    limit: tuple[FiniteFloat, ...] = Field(
        description="what the ratio of the rescaled ridge tends to, per seed: it depends on the design"
    )
    composition: tuple[CompositionRecord, ...]
    reflection: ReflectionRecord
    mixup: tuple[MixupRecord, ...]
    grams: tuple[GramRecord, ...]
    order: tuple[OrderRecord, ...]
    map: tuple[HelpCellRecord, ...]
    digits: DigitsRecord | None = Field(description="null where no folder of digits was given")

    def main_mixup(self, convention: str) -> list[MixupRecord]:
        """Return the records with the most mixed rows, and of the settings' first distribution of the weight."""
        multiple, concentration = max(row.multiple for row in self.mixup), self.mixup[0].concentration
        setting = (multiple, concentration, convention)
        return [row for row in self.mixup if (row.multiple, row.concentration, row.convention) == setting]
