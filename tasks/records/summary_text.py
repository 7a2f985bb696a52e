"""The summary sentences of a study's report: its question, and its answer for one or two noise conditions."""

from collections.abc import Sequence
from enum import StrEnum

from tasks.records.study import ComparisonRecord, Condition, StudyResults

SIGNIFICANCE_LEVEL = 0.05
MAX_NAMED = 6  # if there are more methods, a sentence gives their number instead of their names


class Verdict(StrEnum):
    """The conclusion from one comparison, by its p-value after Holm's adjustment."""

    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear after adjustment"  # significant on its own, but not after adjustment
    NO_DIFFERENCE = "no difference seen"
    NOT_COMPARED = "not compared"


def verdict(comparison: ComparisonRecord) -> Verdict:
    """Draw the conclusion from a comparison."""
    if comparison.delta is None or comparison.p_value is None:
        return Verdict.NOT_COMPARED
    adjusted = comparison.p_value if comparison.p_adjusted is None else comparison.p_adjusted
    if adjusted < SIGNIFICANCE_LEVEL:
        return Verdict.BETTER if comparison.improves else Verdict.WORSE
    return Verdict.UNCLEAR if comparison.p_value < SIGNIFICANCE_LEVEL else Verdict.NO_DIFFERENCE


def question(results: StudyResults) -> str:
    """Write the study's question, with its methods and baseline."""
    others = [method for method in results.methods if method not in _baselines(results)]
    noisy = next((c for c in reversed(results.conditions) if c.kind != "none"), None)
    if not others or not results.comparisons:
        do = "does" if len(results.methods) == 1 else "do"
        return f"How well {do} {join_names(results.methods)} rank the test images?"
    when = " when training labels are noisy" if noisy else ""
    methods = join_names(others, "or") if len(others) <= MAX_NAMED else f"any of {len(others)} methods"
    return f"Does {methods} rank the test images better than {_baselines(results)[0]}{when}?"


def answer(results: StudyResults) -> list[str]:
    """Write the study's answer: a sentence for the noisiest condition, and one for the first (clean, if studied).

    Where no noise was added, there is one for each condition.
    """
    if not results.comparisons:
        return ["Nothing was compared: a comparison needs the baseline and another method, each with a finished arm."]
    conditions = list(dict.fromkeys(comparison.condition for comparison in results.comparisons))
    noisiest = max(conditions, key=lambda condition: condition.rate)
    is_noisy = noisiest.kind != "none"
    chosen = list(dict.fromkeys([noisiest, conditions[0]])) if is_noisy else conditions
    return [
        _sentence(c, [comparison for comparison in results.comparisons if comparison.condition == c]) for c in chosen
    ]


def describe_condition(condition: Condition) -> str:
    """Describe a condition in words: 'with 20 % random labels for Effusion and Mass', or by its name."""
    if condition.kind == "none":
        return "without added noise" if condition.name in ("clean", condition.title) else f"under {condition.name}"
    labels = condition.labels if len(condition.labels) <= 4 else (f"{len(condition.labels)} of the labels",)
    on = f" for {join_names(labels)}" if labels else ""
    return f"with {condition.title}{on}"


def join_names(names: Sequence[str], last: str = "and") -> str:
    """Join names as in 'a, b and c'; underscores in names become spaces."""
    names = [name.replace("_", " ") for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else "nothing"


def signed(number: float, digits: int = 3) -> str:
    """Format a number with its sign: '+0.011' or '−0.004', with a minus sign (U+2212) as wide as the plus."""
    return f"{number:+.{digits}f}".replace("-", "−")


def _baselines(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(comparison.baseline for comparison in results.comparisons))


def _sentence(condition: Condition, comparisons: Sequence[ComparisonRecord]) -> str:
    """Write one sentence: significant differences, unclear ones, no difference, then what was not compared."""
    start = describe_condition(condition)
    by_verdict = {kind: [c for c in comparisons if verdict(c) is kind] for kind in Verdict}
    clauses = [_difference(c) for kind in (Verdict.BETTER, Verdict.WORSE) for c in by_verdict[kind]]
    unclear = by_verdict[Verdict.UNCLEAR]
    clauses += [_difference(c) for c in unclear] if len(unclear) <= 3 else [_many_unclear(unclear)]
    if same := by_verdict[Verdict.NO_DIFFERENCE]:
        clauses.append(f"no difference from {same[0].baseline} was seen for {_without_difference(same)}")
    clauses += [f"{c.method} could not be compared ({c.reason})" for c in by_verdict[Verdict.NOT_COMPARED]]
    return f"{start[0].upper()}{start[1:]}, {'; '.join(clauses)}."


def _without_difference(same: Sequence[ComparisonRecord]) -> str:
    if len(same) <= 3:
        return join_names([f"{c.method} ({_numbers(c)})" for c in same], "or")
    deltas = [c.delta for c in same if c.delta is not None]
    methods = join_names([c.method for c in same], "or") if len(same) <= MAX_NAMED else f"{len(same)} methods"
    return f"{methods} ({signed(min(deltas))} to {signed(max(deltas))})"


def _many_unclear(unclear: Sequence[ComparisonRecord]) -> str:
    better = [c.method for c in unclear if c.improves]
    worse = [c.method for c in unclear if c.method not in better]
    parts = [f"{join_names(names)} looked {how}" for names, how in ((better, "better"), (worse, "worse")) if names]
    return (
        f"{' and '.join(parts)} than {unclear[0].baseline}, "
        "but these differences are not significant after adjustment for the number of comparisons"
    )


def _difference(c: ComparisonRecord) -> str:
    direction = "better" if c.improves else "worse"
    if verdict(c) is Verdict.UNCLEAR:
        return (
            f"{c.method} looked {direction} than {c.baseline} ({_numbers(c)}{_disagreement(c)}), "
            "but this difference is not significant after adjustment for the number of comparisons"
        )
    return f"{c.method} was {direction} than {c.baseline} ({_numbers(c)}{_disagreement(c)})"


def _numbers(c: ComparisonRecord) -> str:
    if c.delta is None or c.lo is None or c.hi is None:
        return "no interval" if c.delta is None else signed(c.delta)
    return f"{signed(c.delta)}, 95 % interval {signed(c.lo)} to {signed(c.hi)}"


def _disagreement(c: ComparisonRecord) -> str:
    """Say in how many pairs of networks the difference has the sign of the mean, if not in all.

    Pairs with the opposite sign make the interval less convincing, so the reader must know of them.
    """
    agree = sum(seed.delta * (c.delta or 0) > 0 for seed in c.by_seed)
    pairs = "seeds" if len({seed.unit for seed in c.by_seed}) <= 1 else "pairs of networks"
    return "" if agree == c.n_pairs else f", but in only {agree} of {c.n_pairs} {pairs}"
