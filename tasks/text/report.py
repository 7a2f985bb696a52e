"""report.html of a study on texts, on one page that needs nothing beside it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.records.study import ArmRecord, ScoreRecord, StudyResults, average, read_results
from tasks.records.summary_text import Verdict, verdict
from tasks.reporting.log_report import log_report
from tasks.reporting.page import write_page
from tasks.runtime.run_folder import REPORT
from tasks.text.figures import draw
from tasks.text.plan import SINGLE
from tasks.text.tables import (
    answer,
    best_widths_alone,
    experiments_of,
    metric_name,
    question,
    risen,
    similarities,
    tallies,
    width_rows,
)

TITLES = {
    "pairs": "Pairs of tasks",
    "together": "All tasks together",
    "transfer": "From one task to another",
    "capacity": "Capacity",
    "overlap": "What a leak is worth",
}


@task(name="write report", cache_policy=NO_CACHE)
def publish_report(results: Path, run_id: str) -> Path:
    """Write report.html beside results.json, and log both, the config and the mean scores to the study's run."""
    read = read_results(results)
    drawn = draw_text_figures(read)
    report = write_text_report(read, drawn, results.with_name(REPORT))
    log_report(report, drawn, _mean_scores(read), run_id)
    return report


def write_text_report(results: StudyResults, drawn: Mapping[str, Markup | None], out: Path) -> Path:
    """Write the report to the file `out` and return it. The same input gives the same bytes.

    drawn: its figures, see `draw_text_figures`.
    """
    return write_page("texts.html.j2", _contents(results, drawn), (np.empty((0, 1, 1), np.uint8), ()), out)


def draw_text_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Our own SVG, in which matplotlib has escaped every text; None for a figure that has nothing to show."""
    return {name: Markup(svg) if svg else None for name, svg in draw(results, metric_name(results)).items()}


def _contents(results: StudyResults, drawn: Mapping[str, Markup | None]) -> dict[str, Any]:
    finished = [arm for arm in results.arms if arm.status == "finished"]
    return {
        "results": results,
        "data": results.data,
        "metric": metric_name(results),
        "question": question(results),
        "answer": answer(results),
        "covered": _covered(results),
        "seeds": sorted({arm.seed for arm in results.arms}),
        "finished": finished,
        "failed": [arm for arm in results.arms if arm.status == "failed"],
        "sections": [
            {
                "kind": kind,
                "title": TITLES[kind],
                "figure": drawn.get(f"forest_{kind}"),
                "tallies": tallies(results, kind),
                "rows": [(found, verdict(found)) for found in results.comparisons if found.experiment == kind],
            }
            for kind in experiments_of(results)
        ],
        "figures": drawn,
        "Verdict": Verdict,
        "singles": _singles(finished),
        "groups": _groups(results, finished),
        "similarities": similarities(results),
        "risen": risen(results),
        "widths": width_rows(results),
        "best_alone": best_widths_alone(results),
        "speeds": _speeds(finished),
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }


def _covered(results: StudyResults) -> str:
    """What the intervals are over."""
    over = ", or ".join(dict.fromkeys(found.over for found in results.comparisons))
    limits = " ".join(f"{limit}." for limit in dict.fromkeys(found.limit for found in results.comparisons) if limit)
    return (
        f"Differences are paired: the same seed, the same training sentences, the same test sentences. The 95 % "
        f"intervals are over {over}; “clearly” is by the p-value after Holm's adjustment among the rows of a method. "
        f"{limits}"
    )


def _singles(finished: Sequence[ArmRecord]) -> list[tuple[str, ScoreRecord, int]]:
    """Each task alone, averaged over seeds: condition, score, seeds."""
    conditions = dict.fromkeys(arm.noise.name for arm in finished if arm.method == SINGLE)
    rows = []
    for condition in conditions:
        arms = [arm for arm in finished if arm.method == SINGLE and arm.noise.name == condition]
        scores = [arm.scores[arm.labels[0]] for arm in arms]
        parts = {
            metric: float(np.mean([score.parts[metric] for score in scores])) for metric in scores[0].parts
        }  # fmt: skip
        rows.append((condition, average(scores).model_copy(update={"parts": parts}), len(arms)))
    return rows


def _groups(results: StudyResults, finished: Sequence[ArmRecord]) -> list[tuple[str, str, dict[str, ScoreRecord]]]:
    """Each network for several tasks, averaged over seeds: condition, method, score by task and their mean."""
    kinds = dict.fromkeys((arm.noise.name, arm.method) for arm in finished if len(arm.labels) > 1)
    rows = []
    for condition, method in kinds:
        arms = [arm for arm in finished if arm.noise.name == condition and arm.method == method]
        scores = {label: average([arm.scores[label] for arm in arms]) for label in arms[0].labels}
        rows.append((condition, method, scores | {"mean": average([arm.mean for arm in arms])}))
    return rows


def _speeds(finished: Sequence[ArmRecord]) -> list[tuple[str, float, float]]:
    """For each method: texts per training second (median over arms), share of padding (mean)."""
    fresh = [arm for arm in finished if arm.images_per_second]
    rows = []
    for method in dict.fromkeys(arm.method for arm in fresh):
        arms = [arm for arm in fresh if arm.method == method]
        speed = float(np.median([arm.images_per_second or 0.0 for arm in arms]))
        rows.append((method, speed, float(np.mean([arm.facts["padding"] for arm in arms]))))
    return rows


def _mean_scores(results: StudyResults) -> dict[str, float]:
    return {
        f"test_score_mean/{arm.method}/{arm.noise.name}/seed {arm.seed}": arm.mean.value
        for arm in results.arms
        if arm.mean.value is not None
    }
