"""Records of comparisons, and of the spread of a method's scores over seeds."""

import operator
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, FiniteFloat

from models.evaluation.auc import holm
from models.evaluation.paired import Comparison
from models.evaluation.seed_spread import seed_spread
from tasks.records.arms import ArmRecord, Condition
from tasks.records.base import Count, Record, Share

SIGNIFICANCE_LEVEL = 0.05

EQUAL_COMPUTE = "equal compute"
"""The experiment in which policies are compared with one that is trained for longer, at the same cost."""


def _is_method(factor: str) -> bool:
    return factor == "method"


class SeedDelta(Record):
    """The difference between two networks of the same seed and condition: method minus baseline."""

    unit: str = Field("", description="the condition under which the two networks were trained")
    seed: int
    delta: FiniteFloat


class ComparisonRecord(Record):
    """The mean score of a method, or of a level of another factor, minus that of the baseline under one condition."""

    method: str = Field(description="the method, or the level of `factor`")
    baseline: str
    factor: str = Field("method", exclude_if=_is_method, description="what is compared: method, policy")
    held: dict[str, str] = Field(
        {},
        exclude_if=operator.not_,
        description="the level of each other factor of which the study has several, but for the condition",
    )
    condition: Condition
    minus: Condition | None = Field(
        None,
        exclude_if=operator.not_,
        description="in an interaction: the condition whose difference between the same two is subtracted",
    )
    experiment: str | None = Field(
        None,
        description="the experiment of the comparison: of a study on texts; 'equal compute' for policies compared with "
        "one that trains for longer, at the same cost",
    )
    over_all: bool = Field(False, description="in a study on texts: over all conditions of the experiment at once")
    metric: str = "auc"
    higher_is_better: bool = Field(True, exclude_if=bool, description="direction of the metric")
    delta: FiniteFloat | None
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: str = Field("patients", description="the samples whose choice the interval covers")
    p_value: Share | None = Field(description="two-sided, not adjusted")
    p_adjusted: Share | None = Field(
        description="after Holm's adjustment over the comparisons of the same family: the methods, the policies, the "
        "noise floor, or the controls of a study, or those of one of its experiments, or the interactions of one of "
        "these"
    )
    n_pairs: Count = Field(description="pairs of networks with the same condition and seed, one of each method")
    by_seed: tuple[SeedDelta, ...] = Field((), description="the difference of each pair of networks")
    detectable: FiniteFloat | None = Field(
        None, description="minimum detectable effect: the smallest true difference found with 80 % power"
    )
    seeds_needed: Count | None = Field(
        None, description="seeds with which a true difference of the size seen would be detected with 80 % power"
    )
    seeds_reason: str | None = Field(None, description="why `seeds_needed` is null")
    limit: str | None = Field(None, description="why the interval does not cover more samples, such as seeds")
    reason: str | None = None

    @property
    def covers_seeds(self) -> bool:
        """Whether the interval covers the choice of seeds, so that it says something about other trainings."""
        return "seeds" in self.over

    @property
    def is_significant(self) -> bool:
        """Whether the p-value, adjusted if it was, is below the significance level."""
        p_value = self.p_value if self.p_adjusted is None else self.p_adjusted
        return p_value is not None and p_value < SIGNIFICANCE_LEVEL

    @property
    def improves(self) -> bool:
        """Whether the method's mean is better than the baseline's, significantly or not."""
        return self.delta is not None and (self.delta > 0 if self.higher_is_better else self.delta < 0)

    @classmethod
    def of(cls, method: str, baseline: str, condition: Condition, comparison: Comparison, **more: Any) -> Self:
        """Make the record of a comparison; its p-value is not adjusted yet, see `adjust_p_values`."""
        same = ("delta", "lo", "hi", "p_value", "n_pairs", "over", "detectable", "limit", "reason")
        fields = {name: getattr(comparison, name) for name in (*same, "seeds_needed", "seeds_reason")}
        by_seed = tuple(
            SeedDelta(unit=unit, seed=seed, delta=delta)
            for unit, of_unit in comparison.by_unit.items()
            for seed, delta in of_unit.items()
        )
        names = {"method": method, "baseline": baseline, "condition": condition.shared()}
        return cls(**names, **fields, p_adjusted=None, by_seed=by_seed, **more)


class SpreadRecord(Record):
    """How much a method's mean score varies between seeds: a standard deviation with its interval."""

    factors: dict[str, str] = Field(description="of the arms that differ in the seed only")
    sd: FiniteFloat | None = Field(description="standard deviation of the arms' mean test score over seeds")
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: str = Field("seeds", description="the sample whose choice the interval covers")
    seeds: Count = Field(description="finished arms")
    reason: str | None = Field(None, description="why `sd` is null")


def adjust_p_values(comparisons: Sequence[ComparisonRecord]) -> tuple[ComparisonRecord, ...]:
    """Return the comparisons with `p_adjusted`: Holm's adjustment over all of them."""
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return tuple(
        comparison.model_copy(update={"p_adjusted": p}) for comparison, p in zip(comparisons, adjusted, strict=True)
    )


def spread_records(arms: Sequence[ArmRecord]) -> tuple[SpreadRecord, ...]:
    """Return the spread over seeds of each combination of factors, in the order of the arms."""
    scores: dict[tuple[tuple[str, str], ...], list[float]] = defaultdict(list)
    for arm in arms:
        of_seeds = scores[tuple(arm.factors.items())]
        if arm.status == "finished" and arm.mean.value is not None:
            of_seeds.append(arm.mean.value)
    return tuple(_spread(dict(factors), values) for factors, values in scores.items())


def _spread(factors: dict[str, str], values: Sequence[float]) -> SpreadRecord:
    found, seeds = seed_spread(values), len(values)
    if found is None:
        reason = f"{seeds} seed(s) are too few for a standard deviation with an interval"
        return SpreadRecord(factors=factors, sd=None, lo=None, hi=None, seeds=seeds, reason=reason)
    return SpreadRecord(factors=factors, sd=found.sd, lo=found.lo, hi=found.hi, seeds=seeds)
