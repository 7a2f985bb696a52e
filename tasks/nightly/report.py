"""The pages of a night and of its series, the night's record in MLflow, and what Prefect shows of it."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.images.evaluation_report import conditions_table, score_table
from tasks.nightly.figures import draw_series
from tasks.nightly.records import NightResults
from tasks.nightly.series import read_nights
from tasks.records.base import write_results
from tasks.reporting.log_report import escape_markdown, log_report, markdown_table
from tasks.reporting.page import thousands, write_page
from tasks.runtime.run_folder import REPORT, RESULTS

SERIES_PAGE = "series.html"
HEADLINES = {
    "promoted": "A new champion: version {after}",
    "waiting": "A challenger waits for approval",
    "refused": "No new champion",
    "unchanged": "Nothing new",
}
NO_IMAGES: tuple[Any, Any] = (np.empty((0, 1, 1), np.uint8), ())


@task(name="write night report", cache_policy=NO_CACHE)
def report_night(results: NightResults, folder: Path, run_id: str) -> Path:
    """Write results.json and report.html of a night, and the page of its series in the folder above; log all to MLflow.

    Args:
        results: of the night.
        folder: of the night.
        run_id: of the night's MLflow run.

    Returns:
        The path of the night's report.
    """
    write_results(results, folder / RESULTS)
    nights = read_nights(folder.parent)
    figure = draw_series(nights)
    page = write_page("night.html.j2", _contents(results, nights) | {"figure": figure}, NO_IMAGES, folder / REPORT)
    write_series(results.series, nights, folder.parent)
    log_report(page, {"series": figure}, _metrics(results), run_id, _summary(results))
    return page


def write_series(series: str, nights: Sequence[NightResults], folder: Path) -> Path:
    """Write the page over all nights of a series, of which there is at least one; return its path."""
    contents = {
        "series": series,
        "nights": nights,
        "last": nights[-1],
        "counts": Counter(night.outcome for night in nights),
        "alarms": [night for night in nights if night.drift and night.drift.alarms],
        "champion_patients": _champion_patients(nights),
        "figure": draw_series(nights),
    }
    return write_page("series.html.j2", contents, NO_IMAGES, folder / SERIES_PAGE)


def _contents(results: NightResults, nights: Sequence[NightResults]) -> dict[str, Any]:
    columns, rows = score_table(results.evaluation.models) if results.evaluation else ([], [])
    return {
        "results": results,
        "evaluation": results.evaluation,
        "headline": HEADLINES[results.outcome].format(after=results.champion_after),
        "columns": columns,
        "rows": rows,
        "champion_patients": _champion_patients(nights),
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }


def _summary(results: NightResults) -> str:
    """Return what a night found, in Markdown: the outcome, the gate's conditions and the alarms of drift."""
    parts = [f"## {results.night}: {escape_markdown(results.summary)}"]
    if results.evaluation:
        parts.append(conditions_table(results.evaluation.verdict))
    if results.drift:
        parts.append(f"**Drift.** {escape_markdown(results.drift.summary)}")
    heads = ["new images", "images", "patients", "decoded by this run", "champion now"]
    arrivals = results.arrivals
    counts = [arrivals.new_images, arrivals.images, arrivals.patients, arrivals.decoded]
    parts.append(markdown_table(heads, [[*map(thousands, counts), results.champion_after or "none"]]))
    return "\n\n".join(parts)


def _champion_patients(nights: Sequence[NightResults]) -> int | None:
    return next((night.champion.patients for night in reversed(nights) if night.champion), None)


def _metrics(results: NightResults) -> dict[str, float]:
    """Return the figures of a night by which MLflow compares nights."""
    found: dict[str, float | None] = {
        "images": results.arrivals.images,
        "new_images": results.arrivals.new_images,
        "decoded": results.arrivals.decoded,
        "drift_alarms": len(results.drift.alarms) if results.drift else None,
        "champion_auc_first_night": results.champion.mean.value if results.champion else None,
        "challenger_minus_champion": results.evaluation.delta if results.evaluation else None,
        "promoted": float(results.outcome == "promoted"),
    }
    return {name: value for name, value in found.items() if value is not None}
