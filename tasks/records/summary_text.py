"""A study's question, and its answer in two sentences that say no more than the numbers do."""

from collections.abc import Sequence
from enum import StrEnum

from tasks.records.study import ComparisonRecord, NoiseCondition, StudyResults

LEVEL = 0.05
NAMED = 6  # methods that a sentence names; of more it says how many there are


class Verdict(StrEnum):
    """What one comparison allows to be said, by its p-value after Holm's adjustment."""

    BETTER = "better"
    WORSE = "worse"
    UNSURE = "unclear once adjusted"  # below the level alone, not among as many comparisons as were made
    NO_DIFFERENCE = "no difference seen"
    NOT_COMPARED = "not compared"


def verdict(comparison: ComparisonRecord) -> Verdict:
    if comparison.delta is None or comparison.p_value is None:
        return Verdict.NOT_COMPARED
    adjusted = comparison.p_value if comparison.p_adjusted is None else comparison.p_adjusted
    if adjusted < LEVEL:
        return Verdict.BETTER if comparison.delta > 0 else Verdict.WORSE
    return Verdict.UNSURE if comparison.p_value < LEVEL else Verdict.NO_DIFFERENCE


def question(results: StudyResults) -> str:
    """What the study asks, in its own methods and labels."""
    others = [method for method in results.methods if method not in _baselines(results)]
    noisy = next((c for c in reversed(results.conditions) if c.kind != "none"), None)
    if not others or not results.comparisons:
        return f"How well does {listed(results.methods)} rank the test images?"
    under = " when training labels are noisy" if noisy else ""
    named = listed(others, "or") if len(others) <= NAMED else f"any of {len(others)} methods"
    return f"Does {named} rank the test images better than {_baselines(results)[0]}{under}?"


def answer(results: StudyResults) -> list[str]:
    """One sentence for the noisiest condition and one for the first (clean, if it was studied)."""
    if not results.comparisons:
        return ["Nothing was compared: that takes the baseline and another method, each with a finished arm."]
    conditions = list(dict.fromkeys(comparison.noise for comparison in results.comparisons))
    noisiest = max(conditions, key=lambda condition: condition.rate)
    chosen = list(dict.fromkeys([noisiest, conditions[0]]))
    return [_sentence(c, [comparison for comparison in results.comparisons if comparison.noise == c]) for c in chosen]


def described(condition: NoiseCondition) -> str:
    """'with 20 % random labels for Effusion and Mass', to begin or to end a sentence."""
    if condition.kind == "none":
        return "without added noise"
    named = condition.labels if len(condition.labels) <= 4 else (f"{len(condition.labels)} of the labels",)
    on = f" for {listed(named)}" if named else ""
    return f"with {condition.title}{on}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """'a, b and c'; underscores in names become spaces."""
    names = [name.replace("_", " ") for name in names]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}" if names else "nothing"


def signed(number: float, digits: int = 3) -> str:
    """'+0.011' or '−0.004', with a minus that is as wide as the plus."""
    return f"{number:+.{digits}f}".replace("-", "−")


def _baselines(results: StudyResults) -> list[str]:
    return list(dict.fromkeys(comparison.baseline for comparison in results.comparisons))


def _sentence(condition: NoiseCondition, comparisons: Sequence[ComparisonRecord]) -> str:
    """Those that differ first, one by one; then those that do not, together; then those that could not be
    compared.
    """
    start = described(condition)
    found = {kind: [c for c in comparisons if verdict(c) is kind] for kind in Verdict}
    clauses = [_differs(c) for kind in (Verdict.BETTER, Verdict.WORSE) for c in found[kind]]
    unsure = found[Verdict.UNSURE]
    clauses += [_differs(c) for c in unsure] if len(unsure) <= 3 else [_unsure(unsure)]
    if same := found[Verdict.NO_DIFFERENCE]:
        clauses.append(f"no difference from {same[0].baseline} was seen for {_none_of(same)}")
    clauses += [f"{c.method} could not be compared ({c.reason})" for c in found[Verdict.NOT_COMPARED]]
    return f"{start[0].upper()}{start[1:]}, {'; '.join(clauses)}."


def _none_of(same: Sequence[ComparisonRecord]) -> str:
    if len(same) <= 3:
        return listed([f"{c.method} ({_numbers(c)})" for c in same], "or")
    deltas = [c.delta for c in same if c.delta is not None]
    named = listed([c.method for c in same], "or") if len(same) <= NAMED else f"{len(same)} methods"
    return f"{named} ({signed(min(deltas))} to {signed(max(deltas))})"


def _unsure(found: Sequence[ComparisonRecord]) -> str:
    """Many that looked different, in one clause."""
    better = [c.method for c in found if c.delta is not None and c.delta > 0]
    worse = [c.method for c in found if c.method not in better]
    looked = [f"{listed(names)} looked {how}" for names, how in ((better, "better"), (worse, "worse")) if names]
    return f"{' and '.join(looked)} than {found[0].baseline}, but not clearly enough among so many comparisons"


def _differs(c: ComparisonRecord) -> str:
    direction = "better" if c.delta is not None and c.delta > 0 else "worse"
    if verdict(c) is Verdict.UNSURE:
        return (
            f"{c.method} looked {direction} than {c.baseline} ({_numbers(c)}{_dissent(c)}), "
            "but not clearly enough among so many comparisons"
        )
    return f"{c.method} was {direction} than {c.baseline} ({_numbers(c)}{_dissent(c)})"


def _numbers(c: ComparisonRecord) -> str:
    if c.delta is None or c.lo is None or c.hi is None:
        return "no interval" if c.delta is None else signed(c.delta)
    return f"{signed(c.delta)}, 95 % interval {signed(c.lo)} to {signed(c.hi)}"


def _dissent(c: ComparisonRecord) -> str:
    """Networks that point the other way weaken what the interval says, and must be named."""
    agree = sum(seed.delta * (c.delta or 0) > 0 for seed in c.by_seed)
    what = "seeds" if len({seed.unit for seed in c.by_seed}) <= 1 else "pairs of networks"
    return "" if agree == c.n_pairs else f", though in only {agree} of {c.n_pairs} {what}"
