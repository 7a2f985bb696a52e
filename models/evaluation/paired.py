"""Paired comparison of two methods on the same test set, over units and training seeds.

Two methods are trained under the same conditions (units) with the same seeds and scored on the same test items, such as
patients or sentences. A kind of study computes the differences of its units: in mean AUC over labels
(`auc_differences`), in the score of text tasks (`models.evaluation.paired_classes`), or in any score with the influence
of each item on it (`paired_differences`). `models.evaluation.two_stage` computes the interval of the mean difference.

Shapes: n test images, k labels of a unit, s seeds, p test items.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.auc import check_scores, scorable_labels
from models.evaluation.intervals import number_patients, patient_influence, placements
from models.evaluation.two_stage import MIN_SAMPLED, mean_difference


@dataclass(frozen=True)
class Unit:
    """The predictions of two methods under one condition.

    Attributes:
        targets: (n, k) int8: 1 present, 0 absent, -1 unknown. k may differ between units; the n images are the same.
        method: training seed -> (n, k) scores of the method.
        baseline: training seed -> (n, k) scores of the baseline.
    """

    targets: NDArray[np.int8]
    method: Mapping[int, NDArray]
    baseline: Mapping[int, NDArray]


@dataclass(frozen=True)
class Differences:
    """The differences of a unit.

    Attributes:
        seeds: that both methods have.
        deltas: (s,) method minus baseline.
        influence: (p, s) of each item of the whole test set on the deltas; the sum of squares over items is the
            variance of a delta.
    """

    seeds: list[int]
    deltas: NDArray
    influence: NDArray


@dataclass(frozen=True)
class Comparison:
    """Mean score of a method minus that of the baseline. Values that cannot be computed are None, with a reason.

    Attributes:
        delta: mean over the seeds that both methods have, then over units, in [-1, 1].
        lo: lower end of its 95 % interval.
        hi: upper end.
        p_value: two-sided.
        by_unit: unit -> seed -> difference, the points to show beside the interval.
        over: random samples whose choice the interval and the p-value cover.
        detectable: minimum detectable effect at the 5 % level with a power of 80 %.
        limit: why the interval does not cover more samples, such as seeds; None if it covers all.
        reason: why a value is None.
        seeds_needed: number of seeds of each method with which a true difference as large as the observed one would be
            detected at the 5 % level with a power of 80 % (`models.evaluation.two_stage`).
        seeds_reason: why there is no such number.
    """

    delta: float | None
    lo: float | None
    hi: float | None
    p_value: float | None
    by_unit: dict[str, dict[int, float]] = field(default_factory=dict)
    over: str = "patients"
    detectable: float | None = None
    limit: str | None = None
    reason: str | None = None
    seeds_needed: int | None = None
    seeds_reason: str | None = None

    @property
    def n_pairs(self) -> int:
        """Number of pairs of networks: one for each unit and seed that both methods have."""
        return sum(len(by_seed) for by_seed in self.by_unit.values())


def compare_units(
    units: Mapping[str, Differences | str],
    population_size: int | None = None,
    *,
    crossed: bool = False,
    sampled: str = "patients",
) -> Comparison:
    """Compare two methods by their differences in each unit.

    Args:
        units: differences by unit, or the reason why a unit has none.
        population_size: number of units from which the units were drawn at random; None if they were not drawn, but
            are taken as given.
        crossed: whether a seed has a common effect on several units, as when units share a network. Then each seed
            counts once, not once per unit, and only the seeds that all units have are used. Not for units that were
            drawn.
        sampled: the test items, in the plural.
    """
    usable = {name: unit for name, unit in units.items() if not isinstance(unit, str)}
    if not usable:
        return _no_interval(None, {}, "; ".join(dict.fromkeys(map(str, units.values()))))
    by_unit = {name: dict(zip(unit.seeds, unit.deltas.tolist(), strict=True)) for name, unit in usable.items()}
    differences = [_mean_over_units(list(usable.values()))] if crossed else list(usable.values())
    if not differences[0].seeds:
        return _no_interval(None, by_unit, "the units have no seed in common")
    estimate = mean_difference(
        [unit.deltas for unit in differences], [unit.influence for unit in differences], population_size, sampled
    )
    if estimate.error == 0 and estimate.mean != 0:
        return _no_interval(estimate.mean, by_unit, "no interval: the scores separate the classes completely")
    lo, hi = estimate.interval
    limit = None
    if population_size is not None and len(usable) < MIN_SAMPLED:
        limit = f"{len(usable)} pair(s) are too few for an interval over pairs; at least {MIN_SAMPLED} are needed"
    elif estimate.over == sampled:
        seeds = min(len(unit.seeds) for unit in differences)
        limit = f"{seeds} seed(s) are too few for an interval over seeds; at least {MIN_SAMPLED} are needed"
    return Comparison(
        estimate.mean,
        lo,
        hi,
        estimate.p_value,
        by_unit,
        estimate.over,
        estimate.detectable,
        limit,
        seeds_needed=estimate.seeds_needed,
        seeds_reason=estimate.seeds_reason,
    )


def _no_interval(delta: float | None, by_unit: dict[str, dict[int, float]], reason: str) -> Comparison:
    return Comparison(delta, None, None, None, by_unit, reason=reason, seeds_reason=reason)


def _mean_over_units(units: list[Differences]) -> Differences:
    """Average over units, seed by seed."""
    seeds = sorted(set.intersection(*(set(unit.seeds) for unit in units)))
    columns = [[unit.seeds.index(seed) for seed in seeds] for unit in units]
    deltas = np.mean([unit.deltas[chosen] for unit, chosen in zip(units, columns, strict=True)], axis=0)
    influence = np.mean([unit.influence[:, chosen] for unit, chosen in zip(units, columns, strict=True)], axis=0)
    return Differences(seeds, deltas, influence)


# --- Differences ---


Scored = tuple[float, NDArray[np.float64]]
"""A score, and the influence (p,) of each test item on it; the sum of squares over items is the score's variance."""


def paired_differences(
    units: Mapping[str, tuple[Mapping[int, Any], Mapping[int, Any]]],
    difference: Callable[[Any, Any], Scored] = lambda method, baseline: (
        method[0] - baseline[0],
        method[1] - baseline[1],
    ),
) -> dict[str, Differences | str]:
    """Compute the differences of units whose networks are scored one by one, on the same p test items.

    Args:
        units: by name: training seed -> `Scored` of the method, and of the baseline; or what `difference` takes.
        difference: of the method from the baseline with the same seed.

    Returns:
        The differences of each unit, or the reason why it has none.
    """
    differences: dict[str, Differences | str] = {}
    for name, (method, baseline) in units.items():
        seeds = sorted(set(method) & set(baseline))
        differences[name] = "no seed in common"
        if seeds:
            deltas, influence = zip(*(difference(method[seed], baseline[seed]) for seed in seeds), strict=True)
            differences[name] = Differences(seeds, np.array(deltas), np.stack(influence, axis=1))
    return differences


def subtract(first: Differences | str, second: Differences | str) -> Differences | str:
    """Subtract differences from differences, seed by seed: how much larger the first are.

    Differences are linear in the scores, and so are the influences of test items on them. Therefore the interval of the
    result is computed as that of any differences.

    Args:
        first: the differences, or the reason why there are none.
        second: those to subtract, on the same test items.

    Returns:
        The differences for the seeds that both have, or the reason why there are none.
    """
    if isinstance(first, str):
        return first
    if isinstance(second, str):
        return second
    seeds = sorted(set(first.seeds) & set(second.seeds))
    if not seeds:
        return "no seed in common"
    one, other = ([each.seeds.index(seed) for seed in seeds] for each in (first, second))
    influence = first.influence[:, one] - second.influence[:, other]
    return Differences(seeds, first.deltas[one] - second.deltas[other], influence)


def auc_differences(units: Mapping[str, Unit], patients: NDArray) -> dict[str, Differences | str]:
    """Compute each unit's differences in mean AUC, or the reason why it has none, with patients (n,) as sampling units.

    Raises:
        ValueError: the shapes differ, or a score is not finite.
    """
    numbers = number_patients(patients)
    return {name: _auc_differences(unit, numbers) for name, unit in units.items()}


def _auc_differences(unit: Unit, numbers: NDArray[np.int64]) -> Differences | str:
    seeds = sorted(set(unit.method) & set(unit.baseline))
    columns, _ = scorable_labels(unit.targets, numbers)
    if not seeds or not columns:
        return "no seed in common" if columns else "no label can be scored"
    arms = [[check_scores(unit.targets, arm[seed])[1] for arm in (unit.method, unit.baseline)] for seed in seeds]
    by_label = [
        _label_differences(unit.targets[:, j], [(method[:, j], baseline[:, j]) for method, baseline in arms], numbers)
        for j in columns
    ]
    deltas, influence = (np.mean(values, axis=0) for values in zip(*by_label, strict=True))
    return Differences(seeds, deltas, influence)


def _label_differences(
    target: NDArray[np.int8], arms: list[tuple[NDArray, NDArray]], numbers: NDArray[np.int64]
) -> tuple[NDArray, NDArray]:
    """Compute the differences (s,) of one label's AUC, and the patients' influence on them (p, s)."""
    positive, negative = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    placed = [[placements(scores[positive], scores[negative]) for scores in pair] for pair in arms]
    positive_differences = np.stack([method.positive - baseline.positive for method, baseline in placed])
    negative_differences = np.stack([method.negative - baseline.negative for method, baseline in placed])
    influence = patient_influence(
        positive_differences, negative_differences, numbers[positive], numbers[negative], int(numbers.max()) + 1
    )
    return positive_differences.mean(axis=1), influence
