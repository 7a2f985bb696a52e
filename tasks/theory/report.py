"""What the theory's experiments found, for programs (results.json) and for people (report.html)."""

import json
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from models.theory.linear_tasks import SOURCES
from models.theory.transfer_map import GRID
from tasks.arms import mlflow_runs
from tasks.reporting.page import write_page
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import CONFIG, REPORT, RESULTS
from tasks.runtime.versions import git_commit, versions
from tasks.theory.experiments import TheoryExperimentsSettings
from tasks.theory.figures import draw_figures
from tasks.theory.records import CellRecord, Estimate, TheoryResults, TransferRecord
from tasks.theory.summary import summarise
from tasks.theory.summary_text import MEANING, QUESTION, answer, helps, hurts, percent, picture


@task(name="report theory", cache_policy=NO_CACHE)
def report_theory(
    found: Mapping[str, Sequence[Any]],
    reused: int,
    experiments: TheoryExperimentsSettings,
    config: Mapping[str, Any],
    run_id: str,
    begun: float,
    folder: Path,
) -> Path:
    """Write results.json and report.html into `folder`, log them to the run; returns the page's path.

    found: by experiment and seed, see `tasks.theory.experiments.compute`. begun: `time.monotonic()` at the start.
    """
    summary = summarise(found, experiments)
    results = TheoryResults(
        config=dict(config), version=version("medmtl"), git=git_commit(), environment=versions(),
        seconds=round(time.monotonic() - begun, 1), reused=reused, question=QUESTION,
        answer=answer(summary["figure_3"], summary["cells"]), **summary,
    )  # fmt: skip
    text = json.dumps(results.model_dump(mode="json", by_alias=True), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(folder / RESULTS, (text + "\n").encode())
    page = write_theory_page(results, folder / REPORT)
    for path in (folder / RESULTS, page, folder / CONFIG):
        mlflow.log_artifact(str(path))
    changes = {f"change/{r.solver}/task {r.source}": r for r in results.figure_3}
    for samples in sorted({r.samples for r in results.figure_3}):
        of = {name: _at(results, r, samples) for name, r in changes.items()}
        mlflow_runs.log_metrics(run_id, of, step=samples, timestamp_ms=page.stat().st_mtime_ns // 1_000_000)
    create_markdown_artifact(f"[{page}]({page.as_uri()})", key="theory", description="theory against optimisation")
    _say(results, page)
    return page


def _at(results: TheoryResults, like: TransferRecord, samples: int) -> float:
    return next(
        r.change.mean
        for r in results.figure_3
        if (r.solver, r.source, r.samples) == (like.solver, like.source, samples)
    )


def _say(results: TheoryResults, page: Path) -> None:
    """The figures that matter, as lines."""
    for sentence in results.answer:
        LOGGER.info("%s", sentence)
    for solver, rows in _figure_3_tables(results):
        for source, changes in rows:
            LOGGER.info("%s, task %d: %s", solver, source, "; ".join(_in_words(change) for change in changes))
    for solver, kinds, of in _counts(results):
        LOGGER.info("map, %s: %s of %d cells", solver, ", ".join(f"{kind} {n}" for kind, n in kinds.items()), of)
    for width in results.capacity:
        LOGGER.info("shared width %d: %s", width.width, _in_words(width.change))
    for row in results.theorem_2.rows:
        LOGGER.info("Theorem 2, %d source samples: error %.4f of ‖θ‖", row.samples, row.off.mean)
    for boundary in results.figure_2:
        LOGGER.info("Figure 2, %s, %s: %s points", boundary.link, boundary.source, _points(boundary.change))
    for check in results.checks:
        LOGGER.info("%s: %s (%s)", check.result, check.rule, check.found)
    LOGGER.info("report: %s", page)


def write_theory_page(results: TheoryResults, out: Path) -> Path:
    """Write the report to the file `out` and return it; the same results give the same bytes."""
    cells = [cell for cell in results.cells if cell.varied != GRID]
    contents = {
        "results": results,
        "experiments": results.config["experiments"],
        "figures": draw_figures(results),
        "tables": _figure_3_tables(results),
        "samples": sorted({r.samples for r in results.figure_3}),
        "minima": [(source, [_minima(results, source, m) for m in _samples(results)]) for source in SOURCES],
        "counts": _counts(results),
        "meaning": MEANING,
        "cells": [(cell, _described(cell), picture(cell.changes)) for cell in cells],
        "seeds_of_slow": results.cells[0].changes[0].change.seeds,
        "in_words": _in_words,
        "points": _points,
        "class_of": _class_of,
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }
    return write_page("theory.html.j2", contents, (np.empty((0, 1, 1), np.uint8), ()), out)


def _samples(results: TheoryResults) -> list[int]:
    return sorted({r.samples for r in results.figure_3})


def _figure_3_tables(results: TheoryResults) -> list[tuple[str, list[tuple[int, list[Estimate]]]]]:
    """Solver -> source -> changes, by rising samples."""
    solvers = dict.fromkeys(r.solver for r in results.figure_3)
    return [
        (solver, [(s, [r.change for r in results.figure_3 if (r.solver, r.source) == (solver, s)]) for s in SOURCES])
        for solver in solvers
    ]


def _minima(results: TheoryResults, source: int, samples: int) -> float:
    return results.minima[f"{source} {samples}"].mean


def _counts(results: TheoryResults) -> list[tuple[str, dict[str, int], int]]:
    """Solver, how many of the map's cells show each picture, and how many cells there are."""
    rows = []
    for solver in dict.fromkeys(cell.solver for cell in results.cells):
        kinds = [picture(cell.changes) for cell in results.cells if cell.solver == solver]
        rows.append((solver, {kind.value: kinds.count(kind) for kind in MEANING}, len(kinds)))
    return rows


def _described(cell: CellRecord) -> str:
    return {
        "condition": f"κ = {cell.condition:g}",
        "target_samples": f"{cell.target_samples} target samples",
        "scaling": "loss: sum of the tasks' means",
    }[cell.varied]


def _in_words(change: Estimate) -> str:
    """'−83 % (−86 to −80)'."""
    if change.lo is None or change.hi is None:
        return percent(change.mean)
    lo, hi = (percent(end).removesuffix(" %") for end in (change.lo, change.hi))
    return f"{percent(change.mean)} ({lo} to {hi})"


def _points(change: Estimate) -> str:
    """Percentage points: '−2.3 (−3.0 to −1.6)'."""
    ends = [change.mean, *(end for end in (change.lo, change.hi) if end is not None)]
    mean, *interval = (f"{100 * end:+.1f}".replace("-", "−") for end in ends)
    return f"{mean} ({' to '.join(interval)})" if interval else mean


def _class_of(change: Estimate) -> str:
    return "better" if helps(change) else "worse" if hurts(change) else ""
