"""How often the 95 % intervals of a study hold the truth, and how often they see a difference where there is none.

    python -m benchmarks.coverage [--studies 2000] [--design NAME] [--json FILE]

Studies are made up from scores whose true AUCs are known: normal scores of 200 patients with three images each, 14
labels present in 1 to 35 % of them, strong clustering (70 % of a score's variance, and of the labels, are the
patient's). As in a real study, a label with fewer than five patients with the finding is left out.

One set of predictions, all labels of which have the same true AUC: the interval of a label
(`models.evaluation.intervals.auc_interval`), by the number of patients with the finding, and that of the mean over
labels (`models.evaluation.auc.score`). Intervals of labels with 5 to 9 patients are not given by `score`; this table
shows why.

Differences, for every shipped design: what makes a patient hard is shared by all networks, and partly by those of one
method, and true differences vary from pair to pair, seed to seed and label to label. They go through the code that
compares real studies (`models.evaluation.intervals.patient_influence`, `models.evaluation.two_stage.mean_difference`).
What an interval must hold is what it is over: the difference of the very networks for one over patients, the mean over
all seeds for one over seeds, the mean over the list from which the pairs were drawn for one over pairs.

required: 93 % or more of an interval up to an AUC of 0.97, at most 97 % up to 0.9; a difference's 93 to 97 %.
false alarms: the share of comparisons with p < 0.05 where that truth is exactly 0. The last column is the method that
fails: the 2.5 and 97.5 % quantiles of means resampled from the seeds (from the pairs, where there are pairs), held
against the mean over all seeds (all pairs).

Shapes: u units, s seeds, k labels of a unit, n images, p patients, m positives and q negatives of a label.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from models.evaluation.auc import MIN_PATIENTS, score
from models.evaluation.intervals import auc_interval, jackknife_influence, patient_influence, placements
from models.evaluation.two_stage import Estimate, mean_difference

PATIENTS, IMAGES = 200, 3
LABELS = 14
PREVALENCE = np.geomspace(0.01, 0.35, LABELS)
CLUSTERED = 0.7  # share of a score's variance, and of the labels, that the images of a patient have in common
AUCS = (0.7, 0.8, 0.9, 0.95, 0.97)
POSITIVES = ((MIN_PATIENTS, 9), (10, 14), (15, 24), (25, PATIENTS))  # patients with the finding, or without if fewer
BASELINE_AUC, BASELINE_SPREAD = 0.78, 0.02  # mean, and standard deviation over networks
RESAMPLES = 200
HALF = 0.5**0.5  # the root of half the variance


@dataclass(frozen=True)
class Design:
    """A study's shape. drawn: whether the units are pairs drawn from all there are; else each is compared by itself."""

    name: str
    units: int
    seeds: int
    labels: int
    drawn: bool = False


DESIGNS = (
    Design("default study", units=1, seeds=3, labels=LABELS),
    Design("all, 2 seeds", units=1, seeds=2, labels=LABELS),
    Design("all, 5 seeds", units=1, seeds=5, labels=LABELS),
    Design("curve, 5 levels x 5 seeds", units=5, seeds=5, labels=4),
    Design("pairs, 10 x 3 seeds", units=10, seeds=3, labels=2, drawn=True),
    Design("pairs, 20 x 5 seeds", units=20, seeds=5, labels=2, drawn=True),
)
ONE_ARM = "one arm"
TRUTHS = ((0.0, 0.0), (0.01, 0.0), (0.03, 0.02))
"""(spread, difference): the standard deviation of the true difference over seeds, over pairs and over the labels of a
network, and its mean. Two seeds of uniform weights on the phantom were 0.018 apart, each.
"""


@dataclass(frozen=True)
class Row:
    """A design under one spread and one true difference.

    coverage, false_alarms (null where the truth is not 0), bootstrap (its coverage): shares.
    error: Monte-Carlo standard error of the coverage. half_width: median.
    """

    design: str
    over: str
    spread: float
    difference: float
    studies: int
    coverage: float
    error: float
    false_alarms: float | None
    half_width: float
    bootstrap: float


@dataclass(frozen=True)
class ArmRow:
    """The intervals of one set of predictions.

    interval: what it is of. auc: the true one. intervals: number of them; error: as if of independent studies.
    above: share of intervals that lie above the truth. half_width: median.
    """

    interval: str
    auc: float
    intervals: int
    coverage: float
    error: float
    above: float
    half_width: float


def simulate_arms(studies: int) -> list[ArmRow]:
    """Make up so many sets of predictions for each true AUC; they share their test sets."""
    ends: dict[tuple[str, float], list[tuple[float, float]]] = defaultdict(list)
    for study in range(studies):
        test = TestSet.draw(_generator(f"arms/{study}"))
        for auc in AUCS:
            scores = test.common + test.targets * (ndtri(auc) / HALF)
            for label in range(LABELS):
                name = next((_name(*limits) for limits in POSITIVES if limits[0] <= test.rarer[label] <= limits[1]), "")
                if name:
                    ends[name, auc].append(test.interval(label, scores[:, label]))
            mean = score(test.targets.astype(np.int8), scores, test.patients, list(map(str, range(LABELS)))).mean
            ends["mean over labels", auc].append((float(mean.lo or 0), float(mean.hi or 0)))
    return [
        _arm_row(name, auc, np.array(ends[name, auc]), studies)
        for name in (*(_name(*limits) for limits in POSITIVES), "mean over labels")
        for auc in AUCS
    ]


def _name(least: int, most: int) -> str:
    return f"label, {least} to {most} patients"


def _arm_row(name: str, auc: float, ends: NDArray, studies: int) -> ArmRow:
    held = (ends[:, 0] <= auc) & (auc <= ends[:, 1])
    coverage = float(held.mean())
    error = float(np.sqrt(coverage * (1 - coverage) / min(len(ends), studies)))
    above, half = float((ends[:, 0] > auc).mean()), float(np.median(ends[:, 1] - ends[:, 0]) / 2)
    return ArmRow(name, auc, len(ends), coverage, error, above, half)


def _generator(study: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(0, spawn_key=tuple(f"coverage/{study}".encode())))


def simulate(design: Design, spread: float, difference: float, studies: int) -> Row:
    """Make up so many studies; each draws from a generator of its own."""
    covered, alarms, halves, bootstrapped = [], [], [], []
    for study in range(studies):
        generator = _generator(f"{design.name}/{spread}/{difference}/{study}")
        for estimate, truth, drawn in _compare(design, spread, difference, generator):
            lo, hi = estimate.interval
            covered.append(lo <= truth <= hi)
            if truth == 0:
                alarms.append(estimate.p_value < 0.05)
            halves.append((hi - lo) / 2)
            ends = _percentile_bootstrap(drawn, generator)
            bootstrapped.append(ends[0] <= difference <= ends[1])
    coverage = float(np.mean(covered))
    # levels of one curve share their patients: they count as one study for the error
    error = float(np.sqrt(coverage * (1 - coverage) / studies))
    return Row(
        design.name, estimate.over, spread, difference, studies, coverage, error,
        float(np.mean(alarms)) if alarms else None, float(np.median(halves)), float(np.mean(bootstrapped)),
    )  # fmt: skip


def _compare(
    design: Design, spread: float, difference: float, generator: np.random.Generator
) -> Iterator[tuple[Estimate, float, NDArray]]:
    """Each comparison of one study: the estimate, the truth that it must hold, what a bootstrap would resample."""
    labels, effects = _units(design, spread, generator)
    gains = difference + effects[:, None] + spread * generator.normal(size=(design.units, design.seeds))  # (u, s)
    test = TestSet.draw(generator)
    scorable = test.rarer >= MIN_PATIENTS
    found = [
        test.compare(of_unit[scorable[of_unit]], gain, spread, generator)
        for of_unit, gain in zip(labels, gains, strict=True)
        if scorable[of_unit].any()
    ]
    if design.drawn:
        together = mean_difference([d for d, _, _ in found], [i for _, i, _ in found], population_size=_ALL_PAIRS)
        yield together, difference, np.array([d.mean() for d, _, _ in found])
        return
    for deltas, influence, true in found:
        alone = mean_difference([deltas], [influence])
        yield alone, float(true.mean()) if alone.over == "patients" else difference, deltas


_PAIRS = np.array(list(combinations(range(LABELS), 2)))
_ALL_PAIRS = len(_PAIRS)


def _units(design: Design, spread: float, generator: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Return the labels of each unit (u, k), and how far its true difference is from the mean (u,).

    A pair's is made of its two labels' and of its own, half of the variance each, so that pairs that share a label
    resemble one another; over all pairs they have mean 0 and the given standard deviation.
    """
    if not design.drawn:
        return np.tile(np.arange(LABELS)[-design.labels :], (design.units, 1)), np.zeros(design.units)
    of_label = generator.normal(size=LABELS)[_PAIRS].sum(axis=1) / 2
    effects = of_label + np.sqrt(0.5) * generator.normal(size=_ALL_PAIRS)
    effects = (effects - effects.mean()) / effects.std(ddof=1)
    drawn = generator.permutation(_ALL_PAIRS)[: design.units]
    return _PAIRS[drawn], spread * effects[drawn]


@dataclass(frozen=True)
class TestSet:
    """Patients with their labels, and what makes an image hard: for every network, and for those of one method.

    targets: (n, LABELS) bool. common: (n, LABELS), variance 1. of_method: (2, n, LABELS), variance 1.
    """

    patients: NDArray[np.int64]
    targets: NDArray[np.bool_]
    common: NDArray[np.float32]
    of_method: NDArray[np.float32]

    @classmethod
    def draw(cls, generator: np.random.Generator) -> "TestSet":
        """Return scores; a patient's images have `CLUSTERED` of the variance, and of their labels, in common."""
        patients = np.arange(PATIENTS * IMAGES) // IMAGES
        persistent, passing = (generator.random((n, LABELS)) < PREVALENCE for n in (PATIENTS, len(patients)))
        stays = generator.random(passing.shape) < CLUSTERED

        def noise(*shape: int) -> NDArray[np.float32]:
            of_patient = generator.standard_normal((*shape, PATIENTS, LABELS), dtype=np.float32)
            of_image = generator.standard_normal((*shape, len(patients), LABELS), dtype=np.float32)
            return CLUSTERED**0.5 * of_patient[..., patients, :] + (1 - CLUSTERED) ** 0.5 * of_image

        return cls(patients, np.where(stays, persistent[patients], passing), noise(), noise(2))

    @cached_property
    def rarer(self) -> NDArray[np.int64]:
        """Number of patients with each finding, or without if they are fewer, (LABELS,)."""
        images = self.targets.reshape(PATIENTS, IMAGES, LABELS)
        return np.minimum(images.any(axis=1).sum(axis=0), (~images).any(axis=1).sum(axis=0))

    def interval(self, label: int, scores: NDArray) -> tuple[float, float]:
        """Return the ends of one label's interval, also with fewer patients than `score` requires for it."""
        positive, negative = self.targets[:, label], ~self.targets[:, label]
        placed = placements(scores[positive], scores[negative])
        influence = jackknife_influence(placed, self.patients[positive], self.patients[negative], PATIENTS)
        return auc_interval(placed.auc, float(influence @ influence), int(self.rarer[label])) or (0.0, 0.0)

    def compare(
        self, labels: NDArray[np.int64], gains: NDArray, spread: float, generator: np.random.Generator
    ) -> tuple[NDArray, NDArray, NDArray]:
        """Return differences (s,) of the mean AUC, the patients' influence (p, s), and the true differences (s,).

        The differences are between networks of two methods over `labels`; the first method is better by `gains` (s,),
        plus or minus `spread` for each label.
        """
        parts = [
            self._of_label(label, gains + spread * generator.normal(size=len(gains)), generator) for label in labels
        ]
        deltas, influence, true = (np.mean(part, axis=0) for part in zip(*parts, strict=True))
        return deltas, influence, true

    def _of_label(self, label: int, gains: NDArray, generator: np.random.Generator) -> tuple[NDArray, NDArray, NDArray]:
        """Scores N(a, 1) for positives and N(0, 1) for negatives have AUC Phi(a / sqrt 2)."""
        seeds, n = len(gains), len(self.patients)
        baseline = BASELINE_AUC + BASELINE_SPREAD * generator.normal(size=seeds)
        aucs = np.clip(np.stack([baseline + gains, baseline]), 0.51, 0.99)
        own = generator.standard_normal((2, seeds, n), dtype=np.float32)
        scores = HALF * self.common[:, label] + 0.5 * self.of_method[:, None, :, label] + 0.5 * own
        positive, negative = np.flatnonzero(self.targets[:, label]), np.flatnonzero(~self.targets[:, label])
        shifted = scores[..., positive] + (ndtri(aucs) / HALF).astype(np.float32)[..., None]
        above, below = _placements(shifted, scores[..., negative])
        influence = patient_influence(
            above[0] - above[1], below[0] - below[1], self.patients[positive], self.patients[negative], PATIENTS
        )
        return above[0].mean(axis=1) - above[1].mean(axis=1), influence, aucs[0] - aucs[1]


def _placements(positive: NDArray, negative: NDArray) -> tuple[NDArray, NDArray]:
    """Structural components (..., m) and (..., q) of many networks at once, for scores without ties."""
    m, q = positive.shape[-1], negative.shape[-1]
    order = np.argsort(np.concatenate([positive, negative], axis=-1), axis=-1)
    is_negative = order >= m
    negatives_so_far = np.cumsum(is_negative, axis=-1)
    positives_so_far = np.arange(1, m + q + 1) - negatives_so_far
    below = np.empty(order.shape)
    np.put_along_axis(below, order, np.where(is_negative, positives_so_far, negatives_so_far), axis=-1)
    return below[..., :m] / q, 1 - below[..., m:] / m


def _percentile_bootstrap(values: NDArray, generator: np.random.Generator) -> NDArray:
    drawn = values[generator.integers(len(values), size=(RESAMPLES, len(values)))].mean(axis=1)
    return np.quantile(drawn, [0.025, 0.975])


ARM_HEADER = (
    f"{'interval':28s} {'true AUC':>8s} {'intervals':>9s} {'coverage':>14s} {'required':>12s} "
    f"{'above':>7s} {'half width':>10s}"
)
HEADER = (
    f"{'design':26s} {'interval over':27s} {'spread':>6s} {'truth':>6s} {'coverage':>14s} {'required':>12s} "
    f"{'false alarms':>12s} {'half width':>10s} {'bootstrap':>9s}"
)
_BETWEEN, _AT_LEAST = "93 to 97 %", "at least 93 %"


def _arm_line(row: ArmRow) -> str:
    required = _BETWEEN if row.auc <= 0.9 else _AT_LEAST
    return (
        f"{row.interval:28s} {row.auc:8.2f} {row.intervals:9,d} {100 * row.coverage:6.1f} ± {100 * row.error:3.1f} % "
        f"{'none' if row.interval == _name(*POSITIVES[0]) else required:>13s} {100 * row.above:4.1f} % "
        f"{row.half_width:10.4f}"
    )


def _line(row: Row) -> str:
    alarms = "" if row.false_alarms is None else f"{100 * row.false_alarms:.1f} %"
    return (
        f"{row.design:26s} {row.over:27s} {row.spread:6.2f} {row.difference:6.2f} "
        f"{100 * row.coverage:6.1f} ± {100 * row.error:3.1f} % {_BETWEEN:>12s} {alarms:>12s} "
        f"{row.half_width:10.4f} {100 * row.bootstrap:7.1f} %"
    )


def main() -> None:
    """Run the benchmark; see the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    names = [ONE_ARM, *(design.name for design in DESIGNS)]
    parser.add_argument("--design", choices=names, help="only this one")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "coverage.json")
    options = parser.parse_args()
    arms, differences = [], []
    if options.design in (None, ONE_ARM):
        arms = simulate_arms(options.studies)
        print("\n".join((ARM_HEADER, *map(_arm_line, arms), "")), flush=True)
    if options.design != ONE_ARM:
        print(HEADER)
    for design in DESIGNS:
        if options.design in (None, design.name):
            for spread, difference in TRUTHS:
                differences.append(simulate(design, spread, difference, options.studies))
                print(_line(differences[-1]), flush=True)
    print(f"{options.studies} studies a row, {time.process_time():.0f} s of one core")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    tables = {"arms": [asdict(row) for row in arms], "differences": [asdict(row) for row in differences]}
    options.json.write_text(json.dumps(tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
