"""The summary sentences of a study's report: its question, and its answer for one or two noise conditions.

A sentence says no more than its interval covers. Where an interval does not cover seeds, as with fewer than three, it
speaks of the networks that were trained, not of their method. Brackets hold 95 % intervals. Augmentation policies that
are compared stand in the place of methods (`tasks.records.slices`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum

from tasks.records.arms import Condition
from tasks.records.comparisons import SIGNIFICANCE_LEVEL, ComparisonRecord
from tasks.records.study import StudyResults

MAX_NAMED = 6  # if there are more methods, a sentence gives their number instead of their names
MAX_IN_ONE_SENTENCE = 3  # if there are more differences of one kind, a sentence gives their range

_PLURAL = {"method": "methods", "policy": "policies"}

_CONTROLS = {
    "permuted_weights": ("the same weights dealt at random", "the assignment of the weights to the labels"),
    "common_factor": ("the common factor of its weights alone", "the difference between the labels' weights"),
}
"""Kind of control -> what it is, and what it does not have of the method."""


class Verdict(StrEnum):
    """The conclusion from one comparison, by its p-value after Holm's adjustment."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear after adjustment"  # significant on its own, but not after adjustment
    NO_DIFFERENCE = "no difference seen"
    THESE_NETWORKS = "these networks only"  # the interval does not cover seeds, so other networks may differ
    NOT_COMPARED = "not compared"


def verdict(comparison: ComparisonRecord) -> Verdict:
    """Draw the conclusion from a comparison."""
    if comparison.delta is None or comparison.p_value is None:
        return Verdict.NOT_COMPARED
    if not comparison.covers_seeds:
        return Verdict.THESE_NETWORKS
    if comparison.is_significant:
        return Verdict.BETTER if comparison.improves else Verdict.WORSE
    return Verdict.UNCLEAR if comparison.p_value < SIGNIFICANCE_LEVEL else Verdict.NO_DIFFERENCE


def question(results: StudyResults, *more: StudyResults) -> str:
    """Write the study's question, with its methods and baseline.

    Args:
        results: of the study, or the part of them that it asks about first.
        more: further parts that it asks about.
    """
    asked = [part for part in (results, *more) if part.comparisons and _others(part)]
    if not asked:
        do = "does" if len(results.methods) == 1 else "do"
        return f"How well {do} {join_names(results.methods)} rank the test images?"
    noisy = next((c for c in reversed(results.conditions) if c.kind != "none"), None)
    when = " when training labels are noisy" if noisy else ""
    if any(comparison.covers_seeds for part in asked for comparison in part.comparisons):
        clauses = [f"does {_subject(part)} rank the test images better than {_baselines(part)[0]}" for part in asked]
    else:
        clauses = [
            f"do these networks {of} {_subject(part)} rank the test images differently from those {of} "
            f"{_baselines(part)[0]}"
            for part in asked
            for of in [_of(part.factor)]
        ]
    asks = ", and ".join(clauses)
    return f"{asks[0].upper()}{asks[1:]}{when}?"


def _others(results: StudyResults) -> list[str]:
    """Return the methods that the study asks about: those compared, but for baselines and controls."""
    asked = {c.method for c in results.comparisons} - {*_baselines(results), *results.control_of.values()}
    return [method for method in results.methods if method in asked]


def _subject(results: StudyResults) -> str:
    others = _others(results)
    methods = (
        join_names(others, "or") if len(others) <= MAX_NAMED else f"any of {len(others)} {_PLURAL[results.factor]}"
    )
    return methods if results.factor == "method" else f"augmentation by {methods}"


def _of(factor: str) -> str:
    """Return the word between networks and their method or policy."""
    return "of" if factor == "method" else "with"


def answer(results: StudyResults) -> list[str]:
    """Write the study's answer: the methods under the noisiest and the first condition (clean, if studied).

    Where no noise was added, there is a sentence for each condition. Then come the noise floor, what the controls leave
    of the differences, and how many seeds would settle what is unclear.
    """
    if not results.comparisons:
        return ["Nothing was compared: a comparison needs the baseline and another method, each with a finished arm."]
    conditions = list(dict.fromkeys(comparison.condition for comparison in results.comparisons))
    noisiest = max(conditions, key=lambda condition: condition.rate)
    chosen = list(dict.fromkeys([noisiest, conditions[0]])) if noisiest.kind != "none" else conditions
    controls = set(results.control_of.values())
    methods = [c for c in results.comparisons if c.method not in controls] or list(results.comparisons)
    sentences = [_sentence(condition, [c for c in methods if c.condition == condition]) for condition in chosen]
    return [
        *sentences,
        *_too_few_seeds([c for c in methods if c.condition in chosen]),
        *_floor_sentences(results, chosen),
        *_control_sentences(results, chosen),
        *_seeds_sentences([c for c in methods if c.condition == chosen[0]]),
    ]


def describe_held(held: Mapping[str, str]) -> str:
    """Describe the levels that a comparison holds fixed, if any, as ' (policy none)'."""
    return f" ({', '.join(f'{factor} {level}' for factor, level in held.items())})" if held else ""


def describe_condition(condition: Condition, *, labels: bool = True) -> str:
    """Describe a condition in words: 'with 20 % random labels for Effusion and Mass', or by its name.

    The noisy labels can be left out.
    """
    if condition.kind == "none":
        return "without added noise" if condition.name in ("clean", condition.title) else f"under {condition.name}"
    noisy = condition.labels if len(condition.labels) <= 4 else (f"{len(condition.labels)} of the labels",)
    on = f" for {join_names(noisy)}" if labels and condition.labels else ""
    return f"with {condition.title}{on}"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """Join names as in 'a, b and c'; underscores in names become spaces."""
    names = [name.replace("_", " ") for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else "nothing"


def signed(number: float, digits: int = 3) -> str:
    """Format a number with its sign: '+0.011' or '−0.004', with a minus sign (U+2212) as wide as the plus.

    A number that rounds to zero keeps its sign: an interval from −0.000 to +0.009 contains zero.
    """
    exact = 0.0 if abs(number) < _ROUNDING_ERROR else number
    return f"{exact:+.{digits}f}".replace("-", "−")


_ROUNDING_ERROR = 1e-12  # of sums and differences of scores


def describe_metric(metric: str) -> str:
    """Return the name of a metric as sentences, figures and tables show it."""
    return "AUC" if metric == "auc" else metric


def with_interval(c: ComparisonRecord) -> str:
    """Format a difference with its interval, as '+0.011 [+0.004, +0.018]'."""
    if c.delta is None:
        return "no difference"
    return signed(c.delta) if c.lo is None or c.hi is None else f"{signed(c.delta)} [{signed(c.lo)}, {signed(c.hi)}]"


def _baselines(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(comparison.baseline for comparison in results.comparisons))


# --- The methods under one condition ---


def _sentence(condition: Condition, comparisons: Sequence[ComparisonRecord]) -> str:
    """Write one sentence: significant differences, unclear ones, no difference, then what was not compared."""
    start = describe_condition(condition) + describe_held(comparisons[0].held if comparisons else {})
    by_verdict = {kind: [c for c in comparisons if verdict(c) is kind] for kind in Verdict}
    clauses = [_differences(by_verdict[kind], kind.value) for kind in (Verdict.BETTER, Verdict.WORSE)]
    clauses.append(_unclear(by_verdict[Verdict.UNCLEAR]))
    if same := by_verdict[Verdict.NO_DIFFERENCE]:
        clauses.append(f"no difference from {same[0].baseline} was seen for {_listed(same, 'or')}")
    if given := by_verdict[Verdict.THESE_NETWORKS]:
        clauses.append(_given_networks(given))
    clauses += [f"{c.method} could not be compared ({c.reason})" for c in by_verdict[Verdict.NOT_COMPARED]]
    return f"{start[0].upper()}{start[1:]}, {'; '.join(filter(None, clauses))}."


def _listed(comparisons: Sequence[ComparisonRecord], last: str) -> str:
    if len(comparisons) <= MAX_IN_ONE_SENTENCE:
        return join_names([f"{c.method} ({with_interval(c)})" for c in comparisons], last)
    methods = [c.method for c in comparisons]
    named = join_names(methods, last) if len(methods) <= MAX_NAMED else _number(comparisons)
    return f"{named} ({_range(comparisons)})"


def _number(comparisons: Sequence[ComparisonRecord]) -> str:
    return f"{len(comparisons)} {_PLURAL[comparisons[0].factor]}"


def _range(comparisons: Sequence[ComparisonRecord]) -> str:
    deltas = [c.delta for c in comparisons if c.delta is not None]
    return f"{signed(min(deltas))} to {signed(max(deltas))}"


def _given_networks(given: Sequence[ComparisonRecord]) -> str:
    """Describe the differences between the networks that were trained, without a verdict on their methods."""
    baseline, metric, of = given[0].baseline, describe_metric(given[0].metric), _of(given[0].factor)
    if len(given) > MAX_IN_ONE_SENTENCE:
        return (
            f"the networks {of} {_number(given)} differed from those {of} {baseline} by {_range(given)} in "
            f"test {metric}"
        )
    clauses: list[str] = []
    for c in given:
        size, direction = abs(c.delta or 0), "lower" if (c.delta or 0) < 0 else "higher"
        what = f"those {of} {c.method}" if clauses else f"these networks {of} {c.method} had a test {metric}"
        than = "" if clauses else f" than those {of} {baseline}"
        clauses.append(f"{what} {size:.3f} {direction}{than}{_interval_over(c)}")
    return " and ".join(clauses)


def _interval_over(c: ComparisonRecord) -> str:
    if c.lo is None or c.hi is None:
        return ""
    return f" (95 % interval over {c.over} {signed(c.lo)} to {signed(c.hi)})"


def _too_few_seeds(comparisons: Sequence[ComparisonRecord]) -> list[str]:
    """Say what fewer than three seeds cannot show."""
    given = [c for c in comparisons if verdict(c) is Verdict.THESE_NETWORKS]
    if not given:
        return []
    seeds = max(len({seed.seed for seed in c.by_seed}) for c in given)
    number = {1: "One seed", 2: "Two seeds"}.get(seeds, "So few seeds")
    return [f"{number} cannot show whether another training would do the same."]


def _differences(comparisons: Sequence[ComparisonRecord], direction: str) -> str:
    if not comparisons:
        return ""
    named = join_names([f"{c.method} ({with_interval(c)}{_disagreement(c)})" for c in comparisons])
    return f"{named} {'was' if len(comparisons) == 1 else 'were'} {direction} than {comparisons[0].baseline}"


def _unclear(unclear: Sequence[ComparisonRecord]) -> str:
    """Name differences that other comparisons make doubtful, without a direction."""
    if not unclear:
        return ""
    differences = "the difference" if len(unclear) == 1 else "the differences"
    return (
        f"{differences} of {_listed(unclear, 'and')} from {unclear[0].baseline} {'is' if len(unclear) == 1 else 'are'} "
        "not significant after adjustment for the number of comparisons"
    )


def _disagreement(c: ComparisonRecord) -> str:
    """Say in how many pairs of networks the difference has the sign of the mean, if not in all.

    Pairs with the opposite sign make the interval less convincing, so the reader must know of them.
    """
    agree = sum(seed.delta * (c.delta or 0) > 0 for seed in c.by_seed)
    pairs = "seeds" if len({seed.unit for seed in c.by_seed}) <= 1 else "pairs of networks"
    return "" if agree == c.n_pairs else f", but in only {agree} of {c.n_pairs} {pairs}"


# --- The noise floor, the controls, the seeds that are missing ---


def _floor_sentences(results: StudyResults, chosen: Sequence[Condition]) -> list[str]:
    """Say by how much the baseline under other seeds differed from itself, plainly if that came out significant."""
    floor = [c for c in results.floor if c.delta is not None]
    significant = [c for c in floor if c.covers_seeds and c.is_significant]
    shown = significant or [c for condition in chosen for c in floor if c.condition == condition]
    if not shown:
        return []
    values = join_names([f"{with_interval(c)} {describe_condition(c.condition, labels=False)}" for c in shown])
    same = f"The same {shown[0].factor}, {shown[0].baseline}{describe_held(shown[0].held)}"
    sentence = f"{same}, with other seeds differed by {values}: "
    if significant:
        return [f"{sentence}this came out significant with nothing changed, so differences of its size prove nothing."]
    one = len(shown) == 1
    return [f"{sentence}{'a difference' if one else 'differences'} of this size {'is' if one else 'are'} noise."]


def _control_sentences(results: StudyResults, chosen: Sequence[Condition]) -> list[str]:
    """Say for each method with a verdict and a control what the control leaves of the difference.

    It is said for the first of the conditions under which the method has the verdict; the table has the others.
    """
    against_baseline = {(c.method, c.condition): c for c in results.comparisons}
    sentences = {}
    for condition in chosen:
        for against in results.controls:
            method = against_baseline.get((against.method, condition))
            control = against_baseline.get((against.baseline, condition))
            if against.condition != condition or method is None or against.method in sentences:
                continue
            if verdict(method) in (Verdict.BETTER, Verdict.WORSE):
                sentences[against.method] = _control_sentence(method, control, against)
    return list(sentences.values())


def _control_sentence(method: ComparisonRecord, control: ComparisonRecord | None, against: ComparisonRecord) -> str:
    """Compare a method's difference from the baseline with that of its control, and both with each other."""
    kind = against.baseline.partition("(")[0]
    what, cause = _CONTROLS.get(kind, (against.baseline, f"what {against.method} has and {against.baseline} lacks"))
    start = f"Of the {signed(method.delta or 0)} of {method.method}, {what} had "
    start += f"{signed(control.delta)}" if control and control.delta is not None else "an unknown part"
    if against.delta is None:
        return f"{start}; the two could not be compared ({against.reason})."
    start += f"; {method.method} minus this control is {with_interval(against)}: "
    also = control is not None and verdict(control) is verdict(method)  # the control has a part of the difference
    if not (against.covers_seeds and against.is_significant):
        rest = f"{cause} was not shown to matter" + (", and not all of the difference comes from it" if also else "")
    elif against.improves != method.improves:
        rest = f"{cause} works against the difference"
    else:
        rest = f"{cause} makes part of the difference" if also else f"{cause} matters"
    return f"{start}{rest}."


def _seeds_sentences(comparisons: Sequence[ComparisonRecord]) -> list[str]:
    """Say how many seeds would settle what is unclear, or why no number of seeds would."""
    open_questions = [c for c in comparisons if verdict(c) in (Verdict.UNCLEAR, Verdict.NO_DIFFERENCE)]
    reasons: dict[str, list[str]] = defaultdict(list)
    for c in open_questions:
        if c.seeds_reason:
            reasons[c.seeds_reason].append(c.method)
    what = "" if not comparisons or comparisons[0].factor == "method" else "augmentation by "
    sentences = [f"For {what}{join_names(methods)}: {reason}." for reason, methods in reasons.items()]
    more = [c for c in open_questions if c.seeds_needed and c.seeds_needed > len({seed.seed for seed in c.by_seed})]
    return [*_number_of_seeds(more), *sentences]


def _number_of_seeds(unclear: Sequence[ComparisonRecord]) -> list[str]:
    if not unclear:
        return []
    between = "" if unclear[0].factor == "method" else " between policies"
    if len(unclear) > MAX_IN_ONE_SENTENCE:
        numbers = sorted(c.seeds_needed or 0 for c in unclear)
        return [
            f"Seeds needed to see differences of these sizes{between}, before adjustment: {numbers[0]:,} to "
            f"{numbers[-1]:,}."
        ]
    needed = join_names([f"{c.seeds_needed:,} for {c.method}" for c in unclear])
    return [f"Seeds needed to see a difference of this size{between}, before adjustment: about {needed}."]
