"""The report of a study on texts, kept with its run in MLflow."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.images.publish import log_report
from tasks.records.study import StudyResults, read_results
from tasks.runtime.run_folder import REPORT
from tasks.text.report import draw_text_figures, write_text_report


@task(name="write report", cache_policy=NO_CACHE)
def publish_texts(results: Path, run_id: str) -> Path:
    """Write report.html beside results.json, and log both, the config and the mean scores to the study's run."""
    read = read_results(results)
    drawn = draw_text_figures(read)
    report = write_text_report(read, drawn, results.with_name(REPORT))
    log_report(report, drawn, _mean_scores(read), run_id)
    return report


def _mean_scores(results: StudyResults) -> dict[str, float]:
    return {
        f"test_score_mean/{arm.method}/{arm.noise.name}/seed {arm.seed}": arm.mean.value
        for arm in results.arms
        if arm.mean.value is not None
    }
