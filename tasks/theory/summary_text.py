"""The theory's question, and its answer from the figures."""

from collections.abc import Iterable, Sequence
from enum import StrEnum

from models.theory.linear_tasks import SOURCES
from models.theory.transfer import OPTIMUM
from tasks.records.summary_text import listed
from tasks.theory.records import CellRecord, Estimate, TransferRecord

QUESTION = "When does learning a related task help, and does Figure 3's picture hold?"


class Picture(StrEnum):
    """What a cell of the map shows, by the signs of the means over seeds; the intervals are shown beside it."""

    PAPER = "the paper's picture"
    ALL_HELP = "all three help"
    TASK_2_HURTS = "task 2 hurts, 3 and 4 do not"
    MIXED = "anything else"


MEANING = {
    Picture.PAPER: "task 2 helps; tasks 3 and 4 hurt with few samples, and less, or not, with many",
    Picture.ALL_HELP: "every source helps, with few samples and with many",
    Picture.TASK_2_HURTS: "the source with the target's covariance hurts, the misaligned ones help",
    Picture.MIXED: "for instance tasks 3 and 4 hurt the more, the more samples they have",
}


def helps(change: Estimate) -> bool:
    return (change.mean if change.hi is None else change.hi) < 0


def hurts(change: Estimate) -> bool:
    return (change.mean if change.lo is None else change.lo) > 0


def picture(changes: Sequence[TransferRecord]) -> Picture:
    """changes: of one cell, three sources with few samples and with many."""
    by_source = {
        source: [record.change for record in sorted(changes, key=lambda r: r.samples) if record.source == source]
        for source in SOURCES
    }
    own_like, others = by_source[2], [by_source[3], by_source[4]]
    misaligned = [change.mean for of_source in others for change in of_source]
    if any(change.mean > 0 for change in own_like):
        return Picture.MIXED if max(misaligned) > 0 else Picture.TASK_2_HURTS
    if max(misaligned) <= 0:
        return Picture.ALL_HELP
    if all(few.mean > max(many.mean, 0) for few, *_, many in others):
        return Picture.PAPER
    return Picture.MIXED


def answer(figure_3: Iterable[TransferRecord], cells: Sequence[CellRecord]) -> tuple[str, str]:
    """One sentence for Figure 3 at the global optimum, one for the map."""
    optimum = [record for record in figure_3 if record.solver == OPTIMUM]
    return _at_the_optimum(optimum), _on_the_map(cells)


def _at_the_optimum(records: Sequence[TransferRecord]) -> str:
    few, many = min(r.samples for r in records), max(r.samples for r in records)
    spans = []
    for source in SOURCES:
        means = [r.change.mean for r in records if r.source == source]
        spans.append(f"task {source} by {percent(min(means))} to {percent(max(means))}")
    return (
        f"At the exact optimum the sources, with {few:,} to {many:,} samples, change task 1's error: {listed(spans)}."
    )


def _on_the_map(cells: Sequence[CellRecord]) -> str:
    solvers = list(dict.fromkeys(cell.solver for cell in cells))
    counts = {s: sum(picture(c.changes) is Picture.PAPER for c in cells if c.solver == s) for s in solvers}
    of = len(cells) // len(solvers)
    parts = [f"in {count} {_solver(solver)}" for solver, count in counts.items()]
    return (
        f"The paper's picture, a source with the same covariance helping and the misaligned ones hurting until they "
        f"are large, appears, by the means over seeds, of {of} settings {listed(parts)}."
    )


def _solver(name: str) -> str:
    kind, _, count = name.partition(", ")
    if kind == "alternating":
        return f"with alternating least squares stopped after {count} sweeps"
    return {"optimum": "at the global optimum", "descent": "after descent from a random start"}.get(name, name)


def percent(change: float) -> str:
    """'+230 %' or '−83 %'."""
    return f"{100 * change:+,.0f} %".replace("-", "−")
