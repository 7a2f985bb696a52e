"""The answer to the primary question of a study of policies: does label noise change what a policy is worth?

An interaction is the difference between two policies under noise minus that without noise. As in
`tasks.records.summary_text`, a sentence says no more than the interval covers; brackets hold 95 % intervals.
"""

from collections.abc import Sequence

from tasks.records.comparisons import EQUAL_COMPUTE, ComparisonRecord
from tasks.records.study import StudyResults
from tasks.records.summary_text import (
    Verdict,
    describe_condition,
    describe_held,
    signed,
    verdict,
    with_interval,
)

SELECTION = "uncertainty"  # the kind of policy of the primary question, if it was compared


def interaction_answer(results: StudyResults) -> list[str]:
    """Write a sentence for each method: how far noise changes the difference of one policy from the baseline policy.

    The policy is the first of the kind `SELECTION`, or else the first that was compared; the noise is the strongest.
    Where policies were compared at equal compute too, the sentence says so of this policy. The others are in the table.
    """
    found = [c for c in results.interactions if c.factor == "policy"]
    if not found:
        return []
    noisiest = max((c.condition for c in found), key=lambda condition: condition.rate)
    found = [c for c in found if c.condition == noisiest]
    names = list(dict.fromkeys(c.method for c in found))
    policy = next((name for name in names if name.partition("(")[0] == SELECTION), names[0])
    shown = [c for c in found if c.method == policy]
    return [_sentence(results, c, shown) for c in shown if c.experiment != EQUAL_COMPUTE]


def floor_of(results: StudyResults, c: ComparisonRecord) -> ComparisonRecord | None:
    """Return the same difference, or interaction, between two trainings of the baseline with other seeds, if known."""
    given = results.floor if c.minus is None else results.interactions
    names = {floor.method for floor in results.floor}
    return next(
        (
            floor
            for floor in given
            if floor.method in names
            and floor.condition == c.condition
            and floor.baseline == c.held.get("method", floor.baseline)
            and floor.held.get("policy", c.baseline) == c.baseline
        ),
        None,
    )


def _sentence(results: StudyResults, c: ComparisonRecord, others: Sequence[ComparisonRecord]) -> str:
    start = describe_condition(c.condition, labels=False) + describe_held(c.held)
    clauses = [_change(c, f"the difference between {c.method} and {c.baseline}")]
    clauses += [
        f"at equal compute, {_change(other, f'that from {other.baseline}')}"
        for other in others
        if other.experiment == EQUAL_COMPUTE and other.held == c.held
    ]
    floor = floor_of(results, c)
    if floor and floor.delta is not None:
        clauses.append(f"two trainings of {c.baseline} with other seeds differ in this by {with_interval(floor)}")
    return f"{start[0].upper()}{start[1:]}, {'; '.join(clauses)}."


def _change(c: ComparisonRecord, difference: str) -> str:
    """Describe an interaction by its verdict."""
    without = describe_condition(c.minus, labels=False) if c.minus else ""
    conclusion = verdict(c)
    if conclusion is Verdict.NOT_COMPARED:
        return f"{difference} could not be compared with that {without} ({c.reason})"
    if conclusion is Verdict.NO_DIFFERENCE:
        return f"{difference} was not seen to differ from that {without} ({with_interval(c)})"
    if conclusion is Verdict.UNCLEAR:
        return (
            f"the change of {difference} from that {without} ({with_interval(c)}) is not significant after adjustment "
            "for the number of comparisons"
        )
    of = "" if c.covers_seeds else ", for these networks,"
    over = "" if c.covers_seeds or c.lo is None else f" over {c.over}"
    interval = "" if c.lo is None or c.hi is None else f" [{signed(c.lo)}, {signed(c.hi)}]{over}"
    size, direction = abs(c.delta or 0), "lower" if (c.delta or 0) < 0 else "higher"
    return f"{difference}{of} is {size:.3f} {direction} than {without}{interval}"
