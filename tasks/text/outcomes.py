"""Outcomes of a study on texts: how many conditions improve, similarities, best widths, and the answer in sentences."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.records.arms import ArmRecord, SimilarityRecord
from tasks.records.comparisons import ComparisonRecord
from tasks.records.slices import methods_under, policies_with
from tasks.records.study import StudyResults
from tasks.records.summary_text import Verdict, join_names, signed, verdict
from tasks.text.plan import ALIGNED, JOINT, SINGLE, SINGLE_MATRIX, TRANSFER, TRANSFER_ALIGNED

PAPER = "Wu, Zhang and Ré, ICLR 2020"
GLUE_SCORE = "GLUE score"
"""The mean of a task's official metrics, which is averaged over tasks if their metrics differ."""

_PUBLISHED = {
    ("sentiment", "pairs"): f"{PAPER}: higher on 13 of 15 pairs, by up to 0.041",
    ("sentiment", "transfer"): f"{PAPER}: higher on four targets, by up to 0.025",
    ("sentiment", "capacity"): f"{PAPER}: 0.851 with one network of width 100, 0.826 with single-task networks whose "
    "widths sum to 1,205",
    ("glue", "pairs"): f"{PAPER}: higher on 7 of 10 pairs",
    ("glue", "together"): f"{PAPER}: an average GLUE score higher by 0.0235",
}
_SIMILARITY_PUBLISHED = {"sentiment": "in the paper on all 15"}


@dataclass(frozen=True)
class EffectSummary:
    """Effect of a method against a baseline over the conditions of an experiment.

    Attributes:
        method: name of the method.
        baseline: name of the baseline.
        better: number of conditions with a positive difference.
        clearly_better: of these, significant after Holm's adjustment.
        clearly_worse: number of conditions with a significant negative difference.
        conditions: number of conditions.
        lowest: smallest difference.
        highest: largest difference.
        covers_seeds: whether the intervals cover seeds; if not, nothing is clear about the methods.
        overall: the comparison over all conditions; None if there is only one condition.
    """

    method: str
    baseline: str
    better: int
    clearly_better: int
    clearly_worse: int
    conditions: int
    lowest: float
    highest: float
    covers_seeds: bool
    overall: ComparisonRecord | None

    def in_words(self, conditions: str = "") -> str:
        """Return '9 of 15 pairs (clearly higher on 2, clearly lower on 1), differences −0.021 to +0.018, ...'.

        Args:
            conditions: plural noun for the conditions, such as 'pairs'; may be empty.
        """
        count = f"{self.better} of {self.conditions}{conditions and ' '}{conditions}"
        counts = {"clearly higher": self.clearly_better, "clearly lower": self.clearly_worse}
        clear = ", ".join(f"{how} on {number}" for how, number in counts.items() if number) or "none clearly"
        clear = clear if self.covers_seeds else "these networks only"
        if self.conditions > 1:
            text = f"{count} ({clear}), differences {signed(self.lowest)} to {signed(self.highest)}"
        else:
            text = f"{count} ({clear}), difference {signed(self.highest)}"
        if self.overall is None or self.overall.delta is None:
            return text
        return f"{text}, on average {signed(self.overall.delta)}{interval(self.overall)}"


def interval(comparison: ComparisonRecord) -> str:
    """Return ' (95 % interval −0.002 to +0.010)', or an empty string if there is no interval."""
    if comparison.lo is None or comparison.hi is None:
        return ""
    return f" (95 % interval {signed(comparison.lo)} to {signed(comparison.hi)})"


@dataclass(frozen=True)
class WidthRow:
    """Scores at one width of the encoder.

    Attributes:
        width: the width.
        by_method: method -> mean test score over tasks, for each seed.
        validation: method -> mean validation score, by which a width is selected.
    """

    width: int
    by_method: dict[str, list[float]]
    validation: dict[str, float]

    @property
    def single(self) -> float | None:
        """Mean test score of single-task networks over seeds."""
        return _mean(self.seeds(SINGLE))

    @property
    def joint(self) -> float | None:
        """Mean test score of one network for all tasks over seeds."""
        return _mean(self.seeds(JOINT))

    def seeds(self, method: str) -> list[float]:
        """Return the method's mean test score over tasks, for each seed."""
        return self.by_method.get(method, [])


def metric_name(results: StudyResults) -> str:
    """Return the name of the score that is averaged over tasks."""
    names = {arm.metric for arm in results.arms if arm.status == "finished"}
    return names.pop() if len(names) == 1 else GLUE_SCORE


def parts_by_policy(results: StudyResults) -> list[tuple[str | None, StudyResults]]:
    """Return the part of the results under each policy, the baseline policy's first; the whole if there is one."""
    if len(results.policies) < 2:
        return [(None, results)]
    policies = dict.fromkeys((results.baseline_policy, *results.policies))
    return [(policy, methods_under(results, policy)) for policy in policies]


def numbered(name: str, number: int) -> str:
    """Return the name of the figure of a part by policy; that of the first part has no number."""
    return f"{name}-{number}" if number else name


def parts_by_method(results: StudyResults) -> list[tuple[str, StudyResults]]:
    """Return each method with its policies in the place of methods, if policies or seeds were compared with it."""
    compared = {found.baseline for found in results.floor}
    compared |= {c.held.get("method", results.methods[0]) for c in results.comparisons if c.factor == "policy"}
    return [(method, policies_with(results, method)) for method in results.methods if method in compared]


def experiments_of(results: StudyResults) -> list[str]:
    """List the experiments with comparisons, in their order."""
    return list(dict.fromkeys(found.experiment for found in results.comparisons if found.experiment))


def against_single(results: StudyResults, experiment: str) -> list[ComparisonRecord]:
    """Select the comparisons of an experiment with single-task training."""
    return [found for found in results.comparisons if found.experiment == experiment and found.baseline == SINGLE]


def summarise_effects(results: StudyResults, experiment: str) -> list[EffectSummary]:
    """Summarise the effect of each pair of method and baseline of an experiment."""
    return summarise([found for found in results.comparisons if found.experiment == experiment])


def summarise(comparisons: Sequence[ComparisonRecord]) -> list[EffectSummary]:
    """Summarise the comparisons of each pair of method and baseline."""
    families: dict[tuple[str, str], list[ComparisonRecord]] = defaultdict(list)
    for comparison in comparisons:
        if comparison.delta is not None:
            families[comparison.method, comparison.baseline].append(comparison)
    rows = []
    for (method, baseline), family in families.items():
        by_condition = [comparison for comparison in family if not comparison.over_all]
        deltas = [comparison.delta or 0.0 for comparison in by_condition]
        verdicts = [verdict(comparison) for comparison in by_condition]
        rows.append(
            EffectSummary(
                method=method,
                baseline=baseline,
                better=sum(delta > 0 for delta in deltas),
                clearly_better=verdicts.count(Verdict.BETTER),
                clearly_worse=verdicts.count(Verdict.WORSE),
                conditions=len(by_condition),
                lowest=min(deltas),
                highest=max(deltas),
                covers_seeds=any(comparison.covers_seeds for comparison in by_condition),
                overall=next((comparison for comparison in family if comparison.over_all), None),
            )
        )
    return rows


def similarities(results: StudyResults) -> list[SimilarityRecord]:
    """Average the covariance similarities of each pair of tasks over seeds.

    They are taken from the aligned arms with exactly two tasks, or from all aligned arms if there are none.
    """
    arms = [arm for arm in results.arms if arm.method == ALIGNED]
    pairs = [arm for arm in arms if len(arm.labels) == 2]
    by_tasks: dict[tuple[str, str], list[SimilarityRecord]] = defaultdict(list)
    for arm in pairs or arms:
        for record in arm.similarity:
            by_tasks[record.tasks].append(record)
    return [
        SimilarityRecord(tasks=tasks, **{when: _known_mean(records, when) for when in ("start", "before", "after")})
        for tasks, records in by_tasks.items()
    ]


def count_similarity_increases(results: StudyResults) -> tuple[int, int]:
    """Return the number of pairs of tasks whose similarity is higher with alignment, and the number of all pairs."""
    pairs = [pair for pair in similarities(results) if pair.before is not None and pair.after is not None]
    return sum((pair.after or 0) > (pair.before or 0) for pair in pairs), len(pairs)


def width_rows(results: StudyResults) -> list[WidthRow]:
    """Return the capacity curve in ascending order of widths; empty without the capacity experiment."""
    by_width: dict[int, dict[str, dict[int, list[ArmRecord]]]] = defaultdict(lambda: defaultdict(dict))
    for arm in results.arms if "capacity" in experiments_of(results) else ():
        if arm.status == "finished":
            by_width[int(arm.facts["width"])][arm.method].setdefault(arm.seed, []).append(arm)
    rows = []
    for width, methods in sorted(by_width.items()):
        scores = {
            method: [float(np.mean([arm.mean.value for arm in arms])) for arms in seeds.values()]
            for method, seeds in methods.items()
        }
        validation = {
            method: float(np.mean([arm.facts["validation"] for arms in seeds.values() for arm in arms]))
            for method, seeds in methods.items()
        }
        rows.append(WidthRow(width, scores, validation))
    return rows


def best_single_task_widths(results: StudyResults) -> dict[str, tuple[int, float]]:
    """Return for each task the width that validation selects for its single-task network, and the mean test score."""
    by_task: dict[str, dict[int, list[ArmRecord]]] = defaultdict(lambda: defaultdict(list))
    for arm in results.arms if "capacity" in experiments_of(results) else ():
        if arm.method == SINGLE and arm.status == "finished":
            by_task[arm.labels[0]][int(arm.facts["width"])].append(arm)
    selected = {
        task: max(widths, key=lambda width: np.mean([arm.facts["validation"] for arm in widths[width]]))
        for task, widths in by_task.items()
    }
    return {
        task: (width, float(np.mean([arm.mean.value for arm in by_task[task][width]])))
        for task, width in selected.items()
    }


def question(results: StudyResults) -> str:
    """Return the question that the study asks."""
    experiments = experiments_of(results)
    if not experiments and len(results.policies) > 1:
        return "Does it help to replace words of the training sentences, and to choose the replacement by its loss?"
    if not experiments:
        return f"How well does single-task training do on each of {len(results.data.labels)} tasks?"
    if experiments == ["transfer"]:
        return "Does training on one task first help another, and does aligning them help?"
    if experiments == ["capacity"]:
        return "How wide should the encoder of a network for several tasks be?"
    return "Do tasks help one another in one network, and does aligning them help?"


def answer(results: StudyResults) -> list[str]:
    """Return the answer in sentences that claim no more than the numbers support."""
    of_policies = [sentence for part in parts_by_method(results) for sentence in _policy_answer(*part)]
    experiments = experiments_of(results)
    if len(results.policies) > 1 and not experiments:
        return of_policies
    return [*_method_answer(parts_by_policy(results)[0][1], experiments), *of_policies]


def _method_answer(results: StudyResults, experiments: Sequence[str]) -> list[str]:
    if "pairs" in experiments or "together" in experiments:
        return _group_answer(results, "pairs" if "pairs" in experiments else "together")
    if "transfer" in experiments:
        return _transfer_answer(results)
    if "capacity" in experiments:
        return _capacity_answer(results)
    return _singles_answer(results)


def _policy_answer(method: str, results: StudyResults) -> list[str]:
    """Return a sentence for each policy against the baseline policy, and one for the noise floor."""
    networks, conditions = ("single-task", "tasks") if method == SINGLE else (method, "conditions")
    sentences = [
        f"With policy {row.method}, the test {metric_name(results)} of {networks} networks was higher than with "
        f"{row.baseline} on {row.in_words(conditions)}."
        for row in summarise(results.comparisons)
    ]
    floor = [
        f"The noise floor of {networks} networks: with other seeds, {results.baseline} was higher on "
        f"{row.in_words(conditions)}."
        for row in summarise(results.floor)
    ]
    return sentences + floor


def _group_answer(results: StudyResults, experiment: str) -> list[str]:
    conditions = "pairs of tasks" if experiment == "pairs" else "groups of tasks"
    methods = ((ALIGNED, "with alignment"), (JOINT, "without alignment"))
    increases, pairs = count_similarity_increases(results)
    published = _SIMILARITY_PUBLISHED.get(results.data.name)
    similarity = f"; the covariance similarity rose with alignment on {increases} of {pairs} pairs" + (
        f" ({published})" if published else ""
    )
    return [
        f"In joint training, the test {metric_name(results)} was higher than in single-task training: "
        f"{_single_task_clauses(results, experiment, methods, conditions)}{_published(results, experiment)}.",
        _alignment_clause(results, experiment, ALIGNED, JOINT) + (similarity if pairs else "") + ".",
        *_control_sentence(results, experiment),
    ]


def _control_sentence(results: StudyResults, experiment: str) -> list[str]:
    effects = {(row.method, row.baseline): row for row in summarise_effects(results, experiment)}
    control, aligned = effects.get((SINGLE_MATRIX, SINGLE)), effects.get((ALIGNED, SINGLE_MATRIX))
    if not (control and aligned):
        return []
    return [
        "Capacity control: a single task with its own alignment matrix was higher than one without on "
        f"{control.in_words()}; joint training with alignment was higher than this control on {aligned.in_words()}."
    ]


def _transfer_answer(results: StudyResults) -> list[str]:
    methods = ((TRANSFER_ALIGNED, "with alignment"), (TRANSFER, "without alignment"))
    return [
        f"After fine-tuning from another task, the test {metric_name(results)} was higher than in single-task "
        f"training: {_single_task_clauses(results, 'transfer', methods, 'targets')}{_published(results, 'transfer')}.",
        _alignment_clause(results, "transfer", TRANSFER_ALIGNED, TRANSFER) + ".",
    ]


def _single_task_clauses(
    results: StudyResults, experiment: str, methods: Sequence[tuple[str, str]], conditions: str
) -> str:
    """Return a clause for each method (name and words) on its effect against single-task training."""
    effects = {row.method: row for row in summarise_effects(results, experiment) if row.baseline == SINGLE}
    clauses: list[str] = []
    for method, words in methods:
        if method in effects:
            clauses.append(f"{words} on {effects[method].in_words('' if clauses else conditions)}")
    return "; ".join(clauses) if clauses else "nowhere, because nothing could be compared"


def _alignment_clause(results: StudyResults, experiment: str, method: str, baseline: str) -> str:
    effects = {(row.method, row.baseline): row for row in summarise_effects(results, experiment)}
    row = effects.get((method, baseline))
    return (
        f"With alignment it was higher than without on {row.in_words()}" if row else "Alignment could not be compared"
    )


def _published(results: StudyResults, experiment: str) -> str:
    published = _PUBLISHED.get((results.data.name, experiment))
    return f" ({published})" if published else ""


def _capacity_answer(results: StudyResults) -> list[str]:
    joint = [row for row in width_rows(results) if row.joint is not None]
    single = best_single_task_widths(results)
    if not (joint and single):
        return [f"The widths cannot be compared: no {'single-task network' if joint else 'joint network'} finished."]
    best = max(joint, key=lambda row: row.validation[JOINT])
    mean = float(np.mean([score for _, score in single.values()]))
    return [
        f"For one network for all tasks, validation selects width {best.width}, with a mean test "
        f"{metric_name(results)} of {best.joint:.3f}; for single-task networks, it selects widths that sum to "
        f"{sum(width for width, _ in single.values()):,}, with {mean:.3f}.",
        f"{_PUBLISHED['sentiment', 'capacity']}.",
    ]


def _singles_answer(results: StudyResults) -> list[str]:
    finished = [arm for arm in results.arms if arm.status == "finished"]
    by_task: dict[str, list[ArmRecord]] = defaultdict(list)
    for arm in finished:
        by_task[arm.labels[0]].append(arm)
    means = {task: float(np.mean([arm.mean.value for arm in arms])) for task, arms in by_task.items()}
    seeds = len({arm.seed for arm in finished})
    over = "one seed" if seeds == 1 else f"the mean of {seeds} seeds"
    return [
        f"In single-task training, the tasks reach a mean test {metric_name(results)} of "
        f"{np.mean(list(means.values())):.3f}, {over}.",
        f"By task: {join_names([f'{task} {mean:.3f}' for task, mean in means.items()])}.",
    ]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _known_mean(records: Sequence[SimilarityRecord], when: str) -> float | None:
    return _mean([value for record in records if (value := getattr(record, when)) is not None])
