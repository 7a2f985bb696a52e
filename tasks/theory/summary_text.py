"""The question of the theory's report, its answer in sentences, and the pattern that a cell of the map shows."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from models.theory.linear_tasks import SOURCES
from models.theory.transfer import OPTIMUM
from tasks.records.summary_text import join_names
from tasks.theory.estimate_text import percent
from tasks.theory.records import CellRecord, TransferRecord

QUESTION = "When does training with a related task help, and when does the paper's Figure 3 hold?"


class Pattern(StrEnum):
    """Which sources help and which hurt in a cell of the map, by the signs of the means over seeds."""

    PAPER = "the paper's pattern"
    ALL_HELP = "all three help"
    TASK_2_HURTS = "task 2 hurts, 3 and 4 do not"
    MIXED = "other pattern"


MEANING = {
    Pattern.PAPER: "task 2 helps; tasks 3 and 4 hurt with few samples, and hurt less or help with many",
    Pattern.ALL_HELP: "every source helps, with few samples and with many",
    Pattern.TASK_2_HURTS: "the source with the target's covariance hurts, the misaligned sources help",
    Pattern.MIXED: "for example tasks 3 and 4 hurt more with many samples than with few",
}


def classify_pattern(changes: Sequence[TransferRecord]) -> Pattern:
    """Return the pattern of one cell from its changes: three sources, each with few and with many samples."""
    by_source = {
        source: [record.change for record in sorted(changes, key=lambda r: r.samples) if record.source == source]
        for source in SOURCES
    }
    same_covariance, others = by_source[2], [by_source[3], by_source[4]]
    misaligned = [change.mean for of_source in others for change in of_source]
    if any(change.mean > 0 for change in same_covariance):
        return Pattern.MIXED if max(misaligned) > 0 else Pattern.TASK_2_HURTS
    if max(misaligned) <= 0:
        return Pattern.ALL_HELP
    if all(few.mean > max(many.mean, 0) for few, *_, many in others):
        return Pattern.PAPER
    return Pattern.MIXED


def answer(figure_3: Iterable[TransferRecord], cells: Sequence[CellRecord]) -> tuple[str, str]:
    """Return two sentences: on Figure 3 at the global optimum, and on the map."""
    optimum = [record for record in figure_3 if record.solver == OPTIMUM]
    sizes = [record.samples for record in optimum]
    spans = []
    for source in SOURCES:
        means = [record.change.mean for record in optimum if record.source == source]
        spans.append(f"task {source} by {percent(min(means))} to {percent(max(means))}")
    solvers = list(dict.fromkeys(cell.solver for cell in cells))
    patterns = [(cell.solver, classify_pattern(cell.changes)) for cell in cells]
    parts = [f"in {patterns.count((solver, Pattern.PAPER))} {_solver_phrase(solver)}" for solver in solvers]
    return (
        f"At the global optimum, sources with {min(sizes):,} to {max(sizes):,} samples change task 1's error: "
        f"{join_names(spans)}.",
        f"Of {len(cells) // len(solvers)} settings, the paper's pattern (the source with the same covariance helps; "
        "the misaligned sources hurt with few samples, and less or not with many) appears, by the means over seeds, "
        f"{join_names(parts)}.",
    )


def _solver_phrase(name: str) -> str:
    kind, _, count = name.partition(", ")
    if kind == "alternating":
        return f"with alternating least squares stopped after {count} sweeps"
    return {"optimum": "at the global optimum", "descent": "after descent from a random start"}.get(name, name)
