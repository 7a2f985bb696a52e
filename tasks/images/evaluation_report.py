"""Report of a model evaluation: results.json for programs, report.html for people."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from tasks.images.promotion import EvaluationResults
from tasks.records.base import write_results
from tasks.records.scores import ScoreRecord
from tasks.reporting.page import write_page
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import REPORT, RESULTS

_PARTS = {"val": "validation", "test": "test"}


@task(name="write evaluation report", cache_policy=NO_CACHE)
def report_evaluation(results: EvaluationResults, folder: Path) -> Path:
    """Write results.json and report.html into `folder` and return the path of report.html."""
    write_results(results, folder / RESULTS)
    contents = {
        "results": results,
        "columns": [(model, part, _PARTS[part]) for model in results.models for part in model.scores],
        "rows": _rows(results),
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }
    page = write_page("evaluation.html.j2", contents, (np.empty((0, 1, 1), np.uint8), ()), folder / REPORT)
    link = f"{results.verdict.reason}\n\n<{page.as_uri()}>"
    create_markdown_artifact(link, key="evaluation", description="whether the challenger was promoted")
    LOGGER.info("report: %s", page)
    return page


def _rows(results: EvaluationResults) -> list[tuple[str, list[ScoreRecord | None]]]:
    """Return a row per label and one for the mean, with each model's score on each part of the split."""
    labels = dict.fromkeys(label for model in results.models for label in model.scores["val"])
    rows: list[tuple[str, list[Any]]] = [
        (label, [model.scores[part].get(label) for model in results.models for part in model.scores])
        for label in labels
    ]
    return [*rows, ("mean", [model.mean[part] for model in results.models for part in model.scores])]
