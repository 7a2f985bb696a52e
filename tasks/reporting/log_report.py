"""Log a report with its figures and results to the MLflow run of its study."""

from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient
from prefect.artifacts import create_markdown_artifact

from tasks.arms import mlflow_runs
from tasks.reporting.page import without_pictures
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import CONFIG, RESULTS


def log_report(report: Path, figures: Mapping[str, str | None], scores: Mapping[str, float], run_id: str) -> None:
    """Log a report, results.json and config.yaml beside it, its figures and the arms' mean scores to the study's run.

    `figures` is the SVG by name, None for a figure with nothing to show; `scores` are metrics by name. The example
    images stay in the report's own folder.
    """
    for path in (report.with_name(RESULTS), report.with_name(CONFIG)):
        mlflow.log_artifact(str(path))
    mlflow.log_text(without_pictures(report.read_text(encoding="utf-8")), report.name)
    for name, svg in figures.items():
        if svg:
            mlflow.log_text(svg, f"figures/{name}.svg")
    started = MlflowClient().get_run(run_id).info.start_time  # so that a report written again has the same time
    mlflow_runs.log_metrics(run_id, scores, step=0, timestamp_ms=started)
    create_markdown_artifact(f"<{report.as_uri()}>", key="report", description="the study's report")
    LOGGER.info("report: %s", report)
