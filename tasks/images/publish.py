"""The report of a study, written for people and kept with its run in MLflow."""

from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow.tracking import MlflowClient
from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import SplitSettings, make_split
from data_prep.store.store import Store
from tasks.arms import mlflow_runs
from tasks.data.ingest import StoreRef
from tasks.images.report import draw_figures, write_report
from tasks.records.study import StudyResults, read_results
from tasks.reporting.page import example_images
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import CONFIG, REPORT, RESULTS


@task(name="write report", cache_policy=NO_CACHE)
def publish(results: Path, store: StoreRef, split: SplitSettings, run_id: str) -> Path:
    """Write report.html beside results.json, and log both, the config and the mean scores to the study's run."""
    read = read_results(results)
    opened = Store.open(store.path)
    examples = example_images(opened, make_split(split, opened.images, opened.patients).train)
    drawn = draw_figures(read)
    report = write_report(read, drawn, *examples, results.with_name(REPORT))
    log_report(report, drawn, _mean_scores(read), run_id)
    return report


def log_report(report: Path, figures: Mapping[str, str | None], scores: Mapping[str, float], run_id: str) -> None:
    """Log the report, what lies beside it, its figures (SVG) and the arms' mean scores to the study's run."""
    for path in (report.with_name(RESULTS), report, report.with_name(CONFIG)):
        mlflow.log_artifact(str(path))
    for name, svg in figures.items():
        if svg:
            mlflow.log_text(svg, f"figures/{name}.svg")
    started = MlflowClient().get_run(run_id).info.start_time  # the same when a killed study writes its report again
    mlflow_runs.log_metrics(run_id, scores, step=0, timestamp_ms=started)
    create_markdown_artifact(f"[{report}]({report.as_uri()})", key="report", description="the study's report")
    LOGGER.info("report: %s", report)


def _mean_scores(results: StudyResults) -> dict[str, float]:
    return {
        f"test_auc_mean/{arm.method}/{arm.noise.title}/seed {arm.seed}": arm.mean.value
        for arm in results.arms
        if arm.mean.value is not None
    }
