"""Report of a model evaluation: results.json for programs, report.html for people."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.images.gate import Verdict
from tasks.images.promotion import EvaluationRecord, EvaluationResults, ModelRecord
from tasks.records.base import write_results
from tasks.records.scores import ScoreRecord
from tasks.reporting.log_report import escape_markdown, markdown_table, show_report
from tasks.reporting.page import write_page
from tasks.runtime.run_folder import REPORT, RESULTS

_PARTS = {"val": "validation", "test": "test"}


@task(name="write evaluation report", cache_policy=NO_CACHE)
def report_evaluation(found: EvaluationRecord, model_name: str, config: dict[str, Any], folder: Path) -> Path:
    """Write results.json and report.html into `folder` and return the path of report.html.

    Args:
        found: the scores and the verdict.
        model_name: in MLflow's registry.
        config: the complete settings.
        folder: for the files.
    """
    results = EvaluationResults(config=config, model_name=model_name, **dict(found))
    write_results(results, folder / RESULTS)
    columns, rows = score_table(results.models)
    shown = json.dumps(results.config, indent=2, ensure_ascii=False)
    contents = {"results": results, "columns": columns, "rows": rows, "config": shown}
    page = write_page("evaluation.html.j2", contents, (np.empty((0, 1, 1), np.uint8), ()), folder / REPORT)
    decision = f"## {escape_markdown(model_name)}: {escape_markdown(found.verdict.reason)}"
    show_report(page, f"{decision}\n\n{conditions_table(found.verdict)}")
    return page


def conditions_table(verdict: Verdict) -> str:
    """Return the conditions that a verdict follows from as a table in Markdown."""
    rows = [[c.name, "yes" if c.holds else "no", c.found, c.wanted] for c in verdict.conditions]
    return markdown_table(["condition", "holds", "found", "wanted"], rows) if rows else ""


def score_table(models: Sequence[ModelRecord]) -> tuple[list[str], list[tuple[str, list[ScoreRecord | None]]]]:
    """Make a table of scores: the heads of its columns, a model and a part each, and its rows, the mean last."""
    columns = [(model, part) for model in models for part in model.scores]
    heads = [f"{model.role} {model.version or f'of run {model.run_id[:8]}'}, {_PARTS[part]}" for model, part in columns]
    labels = dict.fromkeys(label for model, part in columns for label in model.scores[part])
    rows = [(label, [model.scores[part].get(label) for model, part in columns]) for label in labels]
    return heads, [*rows, ("mean", [model.mean[part] for model, part in columns])]
