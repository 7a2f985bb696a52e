"""Report of a study on texts: report.html, a single self-contained page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.records.study import ArmRecord, ScoreRecord, StudyResults, average_scores, read_results
from tasks.records.summary_text import Verdict, verdict
from tasks.reporting.log_report import log_report
from tasks.reporting.page import write_page
from tasks.runtime.run_folder import REPORT
from tasks.text.figures import draw_figures
from tasks.text.outcomes import (
    answer,
    best_single_task_widths,
    count_similarity_increases,
    experiments_of,
    metric_name,
    question,
    similarities,
    summarise_effects,
    width_rows,
)
from tasks.text.plan import SINGLE

TITLES = {
    "pairs": "Pairs of tasks",
    "together": "All tasks together",
    "transfer": "Transfer from one task to another",
    "capacity": "Capacity: width of the encoder",
    "overlap": "Effect of shared sentences (leakage)",
}


@task(name="write report", cache_policy=NO_CACHE)
def publish_report(results: Path, run_id: str) -> Path:
    """Write report.html next to results.json, and log both, the config and the mean scores to the study's MLflow run.

    Args:
        results: path of results.json.
        run_id: MLflow run of the study.

    Returns:
        Path of report.html.
    """
    read = read_results(results)
    drawn = draw_text_figures(read)
    report = write_text_report(read, drawn, results.with_name(REPORT))
    log_report(report, drawn, _mean_scores(read), run_id)
    return report


def write_text_report(results: StudyResults, drawn: Mapping[str, Markup | None], out: Path) -> Path:
    """Write the report; the same input gives the same bytes.

    Args:
        results: the results of the study.
        drawn: its figures, see `draw_text_figures`.
        out: path of the file.

    Returns:
        `out`.
    """
    return write_page("texts.html.j2", _contents(results, drawn), (np.empty((0, 1, 1), np.uint8), ()), out)


def draw_text_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Draw the figures by name: SVG in which matplotlib has escaped all text, or None for a figure without content."""
    return {name: Markup(svg) if svg else None for name, svg in draw_figures(results, metric_name(results)).items()}


def _contents(results: StudyResults, drawn: Mapping[str, Markup | None]) -> dict[str, Any]:
    finished = [arm for arm in results.arms if arm.status == "finished"]
    return {
        "results": results,
        "data": results.data,
        "metric": metric_name(results),
        "question": question(results),
        "answer": answer(results),
        "interval_note": _interval_note(results),
        "seeds": sorted({arm.seed for arm in results.arms}),
        "finished": finished,
        "failed": [arm for arm in results.arms if arm.status == "failed"],
        "sections": [
            {
                "kind": kind,
                "title": TITLES[kind],
                "figure": drawn.get(f"forest_{kind}"),
                "effects": summarise_effects(results, kind),
                "rows": [(found, verdict(found)) for found in results.comparisons if found.experiment == kind],
            }
            for kind in experiments_of(results)
        ],
        "figures": drawn,
        "Verdict": Verdict,
        "singles": _singles(finished),
        "groups": _groups(results, finished),
        "similarities": similarities(results),
        "similarity_increases": count_similarity_increases(results),
        "widths": width_rows(results),
        "best_single_widths": best_single_task_widths(results),
        "speeds": _speeds(finished),
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }


def _interval_note(results: StudyResults) -> str:
    """Return sentences on what the differences and their intervals are based on."""
    over = ", or ".join(dict.fromkeys(found.over for found in results.comparisons))
    limits = " ".join(f"{limit}." for limit in dict.fromkeys(found.limit for found in results.comparisons) if limit)
    return (
        f"Differences are paired: same seed, same training sentences, same test sentences. The 95 % intervals are over "
        f"{over}. “Clearly” means p < 0.05 after Holm's adjustment over the rows with the same method and baseline. "
        f"{limits}"
    )


def _singles(finished: Sequence[ArmRecord]) -> list[tuple[str, ScoreRecord, int]]:
    """Return condition, score averaged over seeds, and number of seeds of the single-task networks."""
    conditions = dict.fromkeys(arm.condition.name for arm in finished if arm.method == SINGLE)
    rows = []
    for condition in conditions:
        arms = [arm for arm in finished if arm.method == SINGLE and arm.condition.name == condition]
        scores = [arm.scores[arm.labels[0]] for arm in arms]
        parts = {metric: float(np.mean([score.parts[metric] for score in scores])) for metric in scores[0].parts}
        rows.append((condition, average_scores(scores).model_copy(update={"parts": parts}), len(arms)))
    return rows


def _groups(results: StudyResults, finished: Sequence[ArmRecord]) -> list[tuple[str, str, dict[str, ScoreRecord]]]:
    """Return condition, method and scores (by task, and "mean"), averaged over seeds, of the multi-task networks."""
    kinds = dict.fromkeys((arm.condition.name, arm.method) for arm in finished if len(arm.labels) > 1)
    rows = []
    for condition, method in kinds:
        arms = [arm for arm in finished if arm.condition.name == condition and arm.method == method]
        scores = {label: average_scores([arm.scores[label] for arm in arms]) for label in arms[0].labels}
        rows.append((condition, method, scores | {"mean": average_scores([arm.mean for arm in arms])}))
    return rows


def _speeds(finished: Sequence[ArmRecord]) -> list[tuple[str, float, float]]:
    """Return for each method the training texts per second (median over arms) and the mean share of padding."""
    timed = [arm for arm in finished if arm.items_per_second]
    rows = []
    for method in dict.fromkeys(arm.method for arm in timed):
        arms = [arm for arm in timed if arm.method == method]
        speed = float(np.median([arm.items_per_second or 0.0 for arm in arms]))
        rows.append((method, speed, float(np.mean([arm.facts["padding"] for arm in arms]))))
    return rows


def _mean_scores(results: StudyResults) -> dict[str, float]:
    return {
        f"test_score_mean/{arm.method}/{arm.condition.name}/seed {arm.seed}": arm.mean.value
        for arm in results.arms
        if arm.mean.value is not None
    }
