"""The theory's results.json and report.html, written and logged to MLflow."""

import json
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.theory.linear_tasks import SOURCES
from models.theory.transfer_map import GRID
from tasks.arms import mlflow_runs
from tasks.records.base import write_results
from tasks.reporting.log_report import escape_markdown, log_report, markdown_table
from tasks.reporting.page import write_page
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import REPORT, RESULTS
from tasks.runtime.versions import git_commit, versions
from tasks.theory.augmentation_figures import draw_augmentation_figures
from tasks.theory.augmentation_page import augmentation_contents, augmentation_lines
from tasks.theory.augmentation_summary import summarise_augmentation
from tasks.theory.computations import ComputationsSettings
from tasks.theory.digits import Digits
from tasks.theory.estimate import Estimate
from tasks.theory.estimate_text import change_text, css_class, percent, points_text
from tasks.theory.figures import draw_figures
from tasks.theory.records import CellRecord, TheoryResults
from tasks.theory.summary import summarise
from tasks.theory.summary_text import MEANING, QUESTION, answer, classify_pattern

TITLE = "When do related tasks help, and when do transformed samples?"


@task(name="report theory", cache_policy=NO_CACHE)
def report_theory(
    computed: Mapping[str, Sequence[Any]],
    reused: int,
    settings: ComputationsSettings,
    digits: Digits | None,
    config: Mapping[str, Any],
    run_id: str,
    started: float,
    folder: Path,
) -> Path:
    """Write results.json and report.html and log them, with the changes as metrics, to the MLflow run.

    `computed` and `reused` are what `tasks.theory.parts.compute` returned for both papers, the first one's with
    `settings` and the second one's with `digits`; `config` holds all settings of the run, which `started` at that
    `time.monotonic()`; config.yaml is written beside them.

    Returns:
        The path of report.html.
    """
    summary = summarise(computed, settings)
    results = TheoryResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        seconds=round(time.monotonic() - started, 1),
        reused=reused,
        question=QUESTION,
        answer=answer(summary["figure_3"], summary["cells"]),
        augmentation=summarise_augmentation(computed, digits),
        **summary,
    )
    write_results(results, folder / RESULTS)
    page = write_theory_page(results, folder / REPORT)
    for samples in _source_samples(results):
        records = [r for r in results.figure_3 if r.samples == samples]
        metrics = {f"change/{r.solver}/task {r.source}": r.change.mean for r in records}
        mlflow_runs.log_metrics(run_id, metrics, step=samples, timestamp_ms=page.stat().st_mtime_ns // 1_000_000)
    _log_results(results)
    for line in augmentation_lines(results.augmentation):
        LOGGER.info("%s", line)
    heads = ["method", "source", *(f"{n} samples" for n in _source_samples(results))]
    rows = [
        [solver, f"task {source}", *map(change_text, changes)]
        for solver, table in _figure_3_tables(results)
        for source, changes in table
    ]
    found = "\n\n".join(map(escape_markdown, results.answer))
    log_report(page, {}, {}, run_id, f"## {results.question}\n\n{found}\n\n{markdown_table(heads, rows)}")
    return page


def _log_results(results: TheoryResults) -> None:
    """Log the main numbers of transfer between tasks, one line each."""
    for sentence in results.answer:
        LOGGER.info("%s", sentence)
    for solver, rows in _figure_3_tables(results):
        for source, changes in rows:
            LOGGER.info("%s, task %d: %s", solver, source, "; ".join(change_text(change) for change in changes))
    for solver, counts, total in _pattern_counts(results):
        LOGGER.info("map, %s, of %d cells: %s", solver, total, ", ".join(f"{name} {n}" for name, n in counts.items()))
    for capacity in results.capacity:
        LOGGER.info("shared width %d: %s", capacity.width, change_text(capacity.change))
    for row in results.theorem_2.rows:
        LOGGER.info("Theorem 2, %d source samples: error %.4f of ‖θ‖", row.samples, row.off.mean)
    for boundary in results.figure_2:
        LOGGER.info(
            "Figure 2, %s, %s: %s percentage points", boundary.link, boundary.source, points_text(boundary.change)
        )
    for check in results.checks:
        LOGGER.info("%s: %s (%s)", check.result, check.rule, check.found)


def write_theory_page(results: TheoryResults, out: Path) -> Path:
    """Write the page to the file `out` and return its path; the same results give the same bytes."""
    cells, samples = [cell for cell in results.cells if cell.varied != GRID], _source_samples(results)
    contents = {
        "title": TITLE,
        "results": results,
        "settings": results.config["experiments"],
        "settings_of_augmentation": results.config["augmentation"],
        "figures": draw_figures(results) | draw_augmentation_figures(results.augmentation),
        "figure_3_tables": _figure_3_tables(results),
        "samples": samples,
        "minima": [(source, [results.minima[f"{source} {m}"].mean for m in samples]) for source in SOURCES],
        "pattern_counts": _pattern_counts(results),
        "meaning": MEANING,
        "cells": [(cell, _describe(cell), classify_pattern(cell.changes)) for cell in cells],
        "seeds_of_slow": results.cells[0].changes[0].change.seeds,
        "change_text": change_text,
        "points_text": points_text,
        "percent": percent,
        "css_class": css_class,
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }
    contents |= augmentation_contents(results.augmentation)
    return write_page("theory.html.j2", contents, (np.empty((0, 1, 1), np.uint8), ()), out)


def _source_samples(results: TheoryResults) -> list[int]:
    return sorted({r.samples for r in results.figure_3})


def _figure_3_tables(results: TheoryResults) -> list[tuple[str, list[tuple[int, list[Estimate]]]]]:
    """Return for every solver and source the changes, by rising number of samples."""
    solvers = dict.fromkeys(r.solver for r in results.figure_3)
    return [
        (solver, [(s, [r.change for r in results.figure_3 if (r.solver, r.source) == (solver, s)]) for s in SOURCES])
        for solver in solvers
    ]


def _pattern_counts(results: TheoryResults) -> list[tuple[str, dict[str, int], int]]:
    """Return for every solver the number of the map's cells per pattern, and the number of all cells."""
    rows = []
    for solver in dict.fromkeys(cell.solver for cell in results.cells):
        patterns = [classify_pattern(cell.changes) for cell in results.cells if cell.solver == solver]
        rows.append((solver, {pattern.value: patterns.count(pattern) for pattern in MEANING}, len(patterns)))
    return rows


def _describe(cell: CellRecord) -> str:
    return {
        "condition": f"κ = {cell.condition:g}",
        "target_samples": f"{cell.target_samples} target samples",
        "scaling": "loss: sum of the tasks' means",
    }[cell.varied]
