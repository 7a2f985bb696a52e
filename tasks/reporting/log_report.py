"""Show a report where its run is shown: in MLflow's run of the study, and as an artifact of the Prefect run."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefect.artifacts import create_markdown_artifact

from tasks.arms import mlflow_runs
from tasks.reporting.page import without_pictures
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import CONFIG, RESULTS


def log_report(
    report: Path, figures: Mapping[str, str | None], scores: Mapping[str, float], run_id: str, summary: str
) -> None:
    """Log a report, results.json and config.yaml beside it, its figures and the arms' mean scores to the study's run.

    `figures` is the SVG by name, None for a figure with nothing to show; `scores` are metrics by name; the `summary` is
    that of `show_report`. The example images stay in the report's own folder.
    """
    for path in (report.with_name(RESULTS), report.with_name(CONFIG)):
        mlflow_runs.log_artifact(str(path))
    mlflow_runs.log_text(without_pictures(report.read_text(encoding="utf-8")), report.name)
    for name, svg in figures.items():
        if svg:
            mlflow_runs.log_text(svg, f"figures/{name}.svg")
    started = mlflow_runs.start_time_ms(run_id)  # so that a report written again has the same time
    mlflow_runs.log_metrics(run_id, scores, step=0, timestamp_ms=started)
    show_report(report, summary, run_id)


def show_report(report: Path, summary: str, run_id: str | None = None) -> None:
    """Show what a report says as an artifact of the Prefect run, and where the report is.

    A browser opens no file of another machine. So it links to MLflow's page of the report where MLflow is a server.

    Args:
        report: the HTML file.
        summary: the answer and the main table, in Markdown.
        run_id: the MLflow run that holds the report; None: none does.
    """
    page = mlflow_runs.run_url(run_id) if run_id else None
    place = f"[The whole report]({page}/artifacts/{report.name})" if page else f"The whole report: `{report}`"
    create_markdown_artifact(f"{summary}\n\n{place}\n", key="report", description="what the report says")
    LOGGER.info("report: %s", report)


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, of plain text."""
    lines = [heads, *rows]
    cells = ["| " + " | ".join(map(escape_markdown, line)) + " |" for line in lines]
    return "\n".join([cells[0], "|" + "---|" * len(heads), *cells[1:]])


def escape_markdown(text: str) -> str:
    """Return plain text in Markdown: a name from outside becomes no link and no HTML."""
    return re.sub(r"([\\`*_{}\[\]<>#+\-.!|~&:@=$])", r"\\\1", " ".join(text.split()))
