"""Does one method do better than another on the same test set? Paired differences over a whole design.

n test images, k labels of a unit, s seeds, p patients.

Two methods are trained under the same conditions (units) with the same seeds and scored on the same patients. What is
compared here is the mean AUC over a unit's labels, in `models.evaluation.paired_classes` that of tasks on sentences;
`models.evaluation.two_stage` says how sure the mean difference is, and over what.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.evaluation.auc import checked, scorable
from models.evaluation.intervals import number_patients, patient_influence, placements
from models.evaluation.two_stage import MIN_DRAWN, Estimate, Over, Sampled, mean_difference


@dataclass(frozen=True)
class Unit:
    """The predictions of two methods under one condition.

    targets: (n, k) int8 in {1, 0, -1 unknown}. method, baseline: training seed -> (n, k) scores. k may differ from
    unit to unit; the n images are the same.
    """

    targets: NDArray[np.int8]
    method: Mapping[int, NDArray]
    baseline: Mapping[int, NDArray]


@dataclass(frozen=True)
class Differences:
    """What a unit says.

    seeds: those that both methods have. deltas: (s,) method minus baseline. moved: (p, s), how much each patient (or
    sentence) of the whole test set moved them.
    """

    seeds: list[int]
    deltas: NDArray
    influence: NDArray


@dataclass(frozen=True)
class Comparison:
    """Mean score of a method minus that of the baseline.

    delta: mean over the seeds that both have, then over units, in [-1, 1]. lo, hi: its 95 % interval; p_value:
    two-sided; over: what both of them are over. detectable: the smallest true difference that such a study would have
    shown at the 5 % level with a power of 80 %. None, with a reason, where nothing can be said.
    limit: why the interval is not over more, if it is not.
    by_unit: unit -> seed -> difference, the points to show beside the interval.
    """

    delta: float | None
    lo: float | None
    hi: float | None
    p_value: float | None
    by_unit: dict[str, dict[int, float]] = field(default_factory=dict)
    over: Over = "patients"
    detectable: float | None = None
    limit: str | None = None
    reason: str | None = None

    @property
    def n_pairs(self) -> int:
        """Pairs of networks: a unit with a seed that both methods have."""
        return sum(len(by_seed) for by_seed in self.by_unit.values())


def compare(units: Mapping[str, Unit], patients: NDArray, population_size: int | None = None) -> Comparison:
    """Compare two methods over all units at once.

    patients: (n,) keys. drawn_from: the length of the list from which the units were drawn at random; None if they
    were not: then they are taken as they are.
    """
    numbers = number_patients(patients)
    return compare_units({name: _differences(unit, numbers) for name, unit in units.items()}, population_size)


def compare_units(
    units: Mapping[str, Differences | str],
    population_size: int | None = None,
    *,
    crossed: bool = False,
    tested: Sampled = "patients",
) -> Comparison:
    """Compare two methods by their differences in each unit; a unit without any says why.

    crossed: what a seed does to one unit it also does to others, as when units share a network: then seeds count once
    and not once a unit, and only those are taken that all units have. Not with units that were drawn.
    """
    usable = {name: each for name, each in units.items() if not isinstance(each, str)}
    if not usable:
        return Comparison(None, None, None, None, reason="; ".join(dict.fromkeys(map(str, units.values()))))
    by_unit = {name: dict(zip(each.seeds, each.deltas.tolist(), strict=True)) for name, each in usable.items()}
    found = [_over_all(list(usable.values()))] if crossed else list(usable.values())
    if not found[0].seeds:
        return Comparison(None, None, None, None, by_unit, reason="no seed that all units have")
    estimate = mean_difference(
        [each.deltas for each in found], [each.influence for each in found], population_size, tested
    )
    if estimate.error == 0 and estimate.mean != 0:
        reason = "no interval: the scores separate the classes completely"
        return Comparison(estimate.mean, None, None, None, by_unit, reason=reason)
    lo, hi = estimate.interval
    limit = _limit(estimate.over, min(len(each.seeds) for each in found), len(usable), population_size)
    return Comparison(
        estimate.mean, lo, hi, estimate.p_value, by_unit, estimate.over, estimate.detectable, limit
    )  # fmt: skip


def _over_all(units: list[Differences]) -> Differences:
    """The mean over units, seed by seed."""
    seeds = sorted(set.intersection(*(set(each.seeds) for each in units)))
    columns = [[each.seeds.index(seed) for seed in seeds] for each in units]
    deltas = np.mean([each.deltas[chosen] for each, chosen in zip(units, columns, strict=True)], axis=0)
    influence = np.mean([each.influence[:, chosen] for each, chosen in zip(units, columns, strict=True)], axis=0)
    return Differences(seeds, deltas, influence)


def delong(target: NDArray[np.int8], first: NDArray, second: NDArray, patients: NDArray) -> Estimate:
    """Difference of two models' AUCs for one label on one test set (DeLong, DeLong and Clarke-Pearson, 1988).

    target: (n,) int8 in {1, 0, -1 unknown}; first, second: (n,) scores; patients: (n,) keys, the units that were
    sampled (with one image each: the paper's variance). Raises ValueError with fewer than two patients of a class.
    """
    column = target[:, None]
    targets, one = checked(column, first[:, None])
    _, other = checked(column, second[:, None])
    numbers = number_patients(patients)
    for value, word in ((1, "with"), (0, "without")):
        if len(np.unique(numbers[target == value])) < 2:
            raise ValueError(f"fewer than two patients {word} the finding: there is no variance to estimate")
    deltas, influence = _of_label(targets[:, 0], [(one[:, 0], other[:, 0])], numbers)
    return mean_difference([deltas], [influence])


def _differences(unit: Unit, numbers: NDArray[np.int64]) -> Differences | str:
    """A unit's differences, or why there are none."""
    seeds = sorted(set(unit.method) & set(unit.baseline))
    columns, _ = scorable(unit.targets, numbers)
    if not seeds or not columns:
        return "no seed in common" if columns else "no label can be scored"
    arms = [[checked(unit.targets, arm[seed])[1] for arm in (unit.method, unit.baseline)] for seed in seeds]
    of_labels = [
        _of_label(unit.targets[:, j], [(method[:, j], baseline[:, j]) for method, baseline in arms], numbers)
        for j in columns
    ]
    deltas, influence = (np.mean(parts, axis=0) for parts in zip(*of_labels, strict=True))
    return Differences(seeds, deltas, influence)


def _of_label(
    target: NDArray[np.int8], arms: list[tuple[NDArray, NDArray]], numbers: NDArray[np.int64]
) -> tuple[NDArray, NDArray]:
    """Differences (s,) of one label's AUC, and the patients' influence on them (p, s)."""
    positive, negative = np.flatnonzero(target == 1), np.flatnonzero(target == 0)
    placed = [[placements(scores[positive], scores[negative]) for scores in pair] for pair in arms]
    of_positive = np.stack([method.positive - baseline.positive for method, baseline in placed])
    of_negative = np.stack([method.negative - baseline.negative for method, baseline in placed])
    influence = patient_influence(
        of_positive, of_negative, numbers[positive], numbers[negative], int(numbers.max()) + 1
    )
    return of_positive.mean(axis=1), influence


def _limit(over: Over, seeds: int, units: int, population_size: int | None) -> str | None:
    """Why the interval is over no more than it is; seeds: of the unit that has the fewest."""
    if population_size is not None and units < MIN_DRAWN:
        return f"{units} pair(s) cannot speak for other pairs; {MIN_DRAWN} or more can"
    if over in ("patients", "sentences"):
        return f"{seeds} seed(s) cannot speak for other seeds; {MIN_DRAWN} or more can"
    return None
