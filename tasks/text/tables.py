"""What a study on texts found, counted: how many pairs improve, how many similarities rise, which width is best."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.records.study import ArmRecord, ComparisonRecord, SimilarityRecord, StudyResults
from tasks.records.summary_text import Verdict, listed, signed, verdict
from tasks.text.plan import ALIGNED, JOINT, SINGLE, SINGLE_MATRIX, TRANSFER, TRANSFER_ALIGNED

PAPER = "Wu, Zhang and Ré (ICLR 2020)"

_PUBLISHED = {
    ("sentiment", "pairs"): f"{PAPER}: better on 13 of 15 pairs, by up to 0.041",
    ("sentiment", "transfer"): f"{PAPER}: better on four targets, by up to 0.025",
    ("sentiment", "capacity"): f"{PAPER}: width 100 and 0.851 together, widths of 1,205 in all and 0.826 alone",
    ("glue", "pairs"): f"{PAPER}: better on 7 of 10 pairs",
    ("glue", "together"): f"{PAPER}: an average GLUE score higher by 0.0235",
}
_SIMILARITY_PUBLISHED = {"sentiment": "there on all 15"}


@dataclass(frozen=True)
class Tally:
    """How many conditions of an experiment a method improves. overall: over all of them, where there are several."""

    method: str
    baseline: str
    experiment: str
    better: int
    clearly_better: int
    clearly_worse: int
    conditions: int
    least: float
    most: float
    overall: ComparisonRecord | None

    @property
    def in_words(self) -> str:
        """'on 9 of 15 (2 clearly, 1 clearly lower), by −0.021 to +0.018, on average ...'."""
        counted = f"{self.better} of {self.conditions}"
        clear = f" ({self.clearly_better} clearly; {self.clearly_worse} clearly lower)"
        span = f"by {signed(self.least)} to {signed(self.most)}" if self.conditions > 1 else f"by {signed(self.most)}"
        found = self.overall
        if found is None or found.delta is None:
            return f"{counted}{clear}, {span}"
        return f"{counted}{clear}, {span}, on average {signed(found.delta)}{interval(found)}"


def interval(found: ComparisonRecord) -> str:
    """' (95 % interval −0.002 to +0.010)', or nothing."""
    if found.lo is None or found.hi is None:
        return ""
    return f" (95 % interval {signed(found.lo)} to {signed(found.hi)})"


@dataclass(frozen=True)
class WidthRow:
    """The scores at one width: means over seeds, and each seed's; and on validation, by which a width is chosen."""

    width: int
    by_method: dict[str, list[float]]
    validation: dict[str, float]

    @property
    def single(self) -> float | None:
        return _mean(self.seeds(SINGLE))

    @property
    def joint(self) -> float | None:
        return _mean(self.seeds(JOINT))

    def seeds(self, method: str) -> list[float]:
        """The mean over tasks with each seed."""
        return self.by_method.get(method, [])


def metric_name(results: StudyResults) -> str:
    """What the scores are."""
    return next((arm.metric for arm in results.arms if arm.status == "finished"), "score")


def experiments_of(results: StudyResults) -> list[str]:
    """Those that compared something, in order."""
    return list(dict.fromkeys(found.experiment for found in results.comparisons if found.experiment))


def against_alone(results: StudyResults, experiment: str) -> list[ComparisonRecord]:
    """The comparisons of an experiment with networks for one task."""
    return [found for found in results.comparisons if found.experiment == experiment and found.baseline == SINGLE]


def tallies(results: StudyResults, experiment: str) -> list[Tally]:
    """Of every method and baseline of an experiment."""
    alike: dict[tuple[str, str], list[ComparisonRecord]] = defaultdict(list)
    for found in results.comparisons:
        if found.experiment == experiment and found.delta is not None:
            alike[found.method, found.baseline].append(found)
    rows = []
    for (method, baseline), all_of_them in alike.items():
        each = [found for found in all_of_them if not found.over_all]
        deltas = [found.delta or 0.0 for found in each]
        verdicts = [verdict(found) for found in each]
        rows.append(
            Tally(
                method, baseline, experiment, sum(delta > 0 for delta in deltas), verdicts.count(Verdict.BETTER),
                verdicts.count(Verdict.WORSE), len(each), min(deltas), max(deltas),
                next((found for found in all_of_them if found.over_all), None),
            )
        )  # fmt: skip
    return rows


def similarities(results: StudyResults) -> list[SimilarityRecord]:
    """Of every two tasks, averaged over the seeds of the arms that align these two alone, or else all tasks."""
    arms = [arm for arm in results.arms if arm.method == ALIGNED]
    two = [arm for arm in arms if len(arm.labels) == 2]
    found: dict[tuple[str, str], list[SimilarityRecord]] = defaultdict(list)
    for arm in two or arms:
        for record in arm.similarity:
            found[record.tasks].append(record)
    return [
        SimilarityRecord(tasks=tasks, **{when: _known_mean(records, when) for when in ("start", "before", "after")})
        for tasks, records in found.items()
    ]


def risen(results: StudyResults) -> tuple[int, int]:
    """Pairs of tasks whose similarity is higher aligned than not, and all pairs."""
    pairs = [pair for pair in similarities(results) if pair.before is not None and pair.after is not None]
    return sum((pair.after or 0) > (pair.before or 0) for pair in pairs), len(pairs)


def width_rows(results: StudyResults) -> list[WidthRow]:
    """The capacity curve, by width; empty where there is none."""
    by_width: dict[int, dict[str, dict[int, list[ArmRecord]]]] = defaultdict(lambda: defaultdict(dict))
    for arm in results.arms:
        if "width " in arm.noise.name and arm.status == "finished":
            by_width[int(arm.facts["width"])][arm.method].setdefault(arm.seed, []).append(arm)
    rows = []
    for width, methods in sorted(by_width.items()):
        scores = {
            method: [float(np.mean([arm.mean.value for arm in arms])) for arms in seeds.values()]
            for method, seeds in methods.items()
        }
        chosen_by = {
            method: float(np.mean([arm.facts["validation"] for arms in seeds.values() for arm in arms]))
            for method, seeds in methods.items()
        }
        rows.append(WidthRow(width, scores, chosen_by))
    return rows


def best_widths_alone(results: StudyResults) -> dict[str, tuple[int, float]]:
    """For each task the width that validation chooses for it alone, and its test score there, over seeds."""
    found: dict[str, dict[int, list[ArmRecord]]] = defaultdict(lambda: defaultdict(list))
    for arm in results.arms:
        if arm.method == SINGLE and "width " in arm.noise.name and arm.status == "finished":
            found[arm.labels[0]][int(arm.facts["width"])].append(arm)
    chosen = {
        task: max(widths, key=lambda width: np.mean([arm.facts["validation"] for arm in widths[width]]))
        for task, widths in found.items()
    }
    return {
        task: (width, float(np.mean([arm.mean.value for arm in found[task][width]]))) for task, width in chosen.items()
    }


def question(results: StudyResults) -> str:
    """What the study asks."""
    kinds = experiments_of(results)
    if not kinds:
        return f"How well is each of {len(results.data.labels)} tasks learned alone?"
    if kinds == ["transfer"]:
        return "Does training on one task first help another, and does aligning them help?"
    if kinds == ["capacity"]:
        return "How wide should a network be that several tasks share?"
    return "Do tasks help one another in one network, and does aligning them help?"


def answer(results: StudyResults) -> list[str]:
    """Sentences that say no more than the numbers do."""
    kinds = experiments_of(results)
    if "pairs" in kinds or "together" in kinds:
        return _answer_of_groups(results, "pairs" if "pairs" in kinds else "together")
    if "transfer" in kinds:
        return _answer_of_transfer(results)
    if "capacity" in kinds:
        return _answer_of_capacity(results)
    return _answer_of_singles(results)


def _answer_of_groups(results: StudyResults, kind: str) -> list[str]:
    what = "pairs of tasks" if kind == "pairs" else "groups of tasks"
    start = f"The test {metric_name(results)} of tasks trained together was higher than alone"
    first = _against_alone(results, kind, ((ALIGNED, "with alignment"), (JOINT, "without it")), what)
    rose, pairs = risen(results)
    there = _SIMILARITY_PUBLISHED.get(results.data.name)
    similarity = f"; the covariance similarity rose with it on {rose} of {pairs} pairs" + (
        f" ({there})" if there else ""
    )
    return [
        f"{start} {first}{_published(results, kind)}.",
        _of_alignment(results, kind, ALIGNED, JOINT) + (similarity if pairs else "") + ".",
        *_of_control(results, kind),
    ]


def _of_control(results: StudyResults, kind: str) -> list[str]:
    found = {(row.method, row.baseline): row for row in tallies(results, kind)}
    matrix, others = found.get((SINGLE_MATRIX, SINGLE)), found.get((ALIGNED, SINGLE_MATRIX))
    if not (matrix and others):
        return []
    return [
        f"Control: alone behind a matrix of its own, a task was higher than without on {matrix.in_words}; together and "
        f"aligned it was higher than that on {others.in_words}."
    ]


def _answer_of_transfer(results: StudyResults) -> list[str]:
    start = f"The test {metric_name(results)} of tasks fine-tuned from another was higher than alone"
    methods = ((TRANSFER_ALIGNED, "with alignment"), (TRANSFER, "without it"))
    first = _against_alone(results, "transfer", methods, "targets")
    return [
        f"{start} {first}{_published(results, 'transfer')}.",
        _of_alignment(results, "transfer", TRANSFER_ALIGNED, TRANSFER) + ".",
    ]


def _against_alone(results: StudyResults, kind: str, methods: Sequence[tuple[str, str]], what: str) -> str:
    found = {row.method: row for row in tallies(results, kind) if row.baseline == SINGLE}
    clauses = [f"{words} on {found[method].in_words}" for method, words in methods if method in found]
    return "; ".join(clauses).replace(" (", f" {what} (", 1) if clauses else "nowhere, as nothing could be compared"


def _of_alignment(results: StudyResults, kind: str, method: str, baseline: str) -> str:
    found = {(row.method, row.baseline): row for row in tallies(results, kind)}
    row = found.get((method, baseline))
    return f"Aligned was higher than not aligned on {row.in_words}" if row else "Alignment could not be compared"


def _published(results: StudyResults, kind: str) -> str:
    published = _PUBLISHED.get((results.data.name, kind))
    return f" ({published})" if published else ""


def _answer_of_capacity(results: StudyResults) -> list[str]:
    rows = width_rows(results)
    best = max(rows, key=lambda row: row.validation.get(JOINT, float("-inf")))
    alone = best_widths_alone(results)
    mean = float(np.mean([score for _, score in alone.values()]))
    return [
        f"Of one network for all tasks, validation chooses width {best.width}, whose mean test {metric_name(results)} "
        f"is {best.joint:.3f}; of a network for each, widths of {sum(width for width, _ in alone.values()):,} in all, "
        f"with {mean:.3f}.",
        f"{_PUBLISHED['sentiment', 'capacity']}.",
    ]


def _answer_of_singles(results: StudyResults) -> list[str]:
    finished = [arm for arm in results.arms if arm.status == "finished"]
    scores = {
        label: float(np.mean([arm.mean.value for arm in finished if arm.labels == (label,)]))
        for label in results.data.labels
    }
    seeds = len({arm.seed for arm in finished})
    over = "one seed" if seeds == 1 else f"the mean of {seeds} seeds"
    each = listed([f"{label} {score:.3f}" for label, score in scores.items()])
    return [
        f"Trained alone, the tasks reach a mean test {metric_name(results)} of {np.mean(list(scores.values())):.3f}, "
        f"{over}.",
        f"By task: {each}.",
    ]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _known_mean(records: Sequence[SimilarityRecord], when: str) -> float | None:
    return _mean([value for record in records if (value := getattr(record, when)) is not None])
