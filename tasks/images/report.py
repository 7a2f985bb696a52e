"""report.html: what a study found, on one page that needs nothing beside it: no script, no style, no font,
no picture.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import SplitSettings, make_split
from data_prep.store.store import Store
from models.evaluation.auc import MIN_PATIENTS
from tasks.data.ingest import StoreRef
from tasks.images.adjudication import MEAN
from tasks.records.cost import method_costs
from tasks.records.study import (
    ComparisonRecord,
    DataRecord,
    NoiseCondition,
    NoiseOnLabel,
    ScoreRecord,
    StudyResults,
    average,
    read_results,
)
from tasks.records.summary_text import Verdict, answer, described, listed, question, verdict
from tasks.reporting import figures
from tasks.reporting.log_report import log_report
from tasks.reporting.page import example_images, thousands, write_page
from tasks.runtime.run_folder import REPORT

PARTS = ("train", "val", "test")


@task(name="write report", cache_policy=NO_CACHE)
def publish_report(results: Path, store: StoreRef, split: SplitSettings, run_id: str) -> Path:
    """Write report.html beside results.json, and log both, the config and the mean scores to the study's run."""
    read = read_results(results)
    opened = Store.open(store.path)
    examples = example_images(opened, make_split(split, opened.images, opened.patients).train)
    drawn = draw_figures(read)
    report = write_report(read, drawn, *examples, results.with_name(REPORT))
    log_report(report, drawn, _mean_scores(read), run_id)
    return report


def write_report(
    results: StudyResults,
    drawn: Mapping[str, Markup | None],
    examples: NDArray[np.uint8],
    captions: Sequence[str],
    out: Path,
) -> Path:
    """Write the report to the file `out` and return it.

    drawn: their figures, see `draw_figures`.
    examples: (m, s, s) uint8, m may be 0; captions: m, what each shows. The same input gives the same bytes.
    Names of images, labels and reasons come from outside: everything but our own figures is escaped.
    """
    return write_page("study.html.j2", _contents(results, drawn), (examples, captions), out)


def _contents(results: StudyResults, drawn: Mapping[str, Markup | None]) -> dict[str, Any]:
    """All that the template shows, by name."""
    finished = [arm for arm in results.arms if arm.status == "finished"]
    return {
        "results": results,
        "data": results.data,
        "metric": figures.score_name(results),
        "question": question(results),
        "answer": answer(results),
        "covered": _covered(results),
        "seeds": sorted({arm.seed for arm in results.arms}),
        "finished": finished,
        "failed": [arm for arm in results.arms if arm.status == "failed"],
        "noisiest": figures.ends_of_noise(results)[-1] if results.arms else None,
        "figures": drawn,
        "comparisons": _comparisons(results),
        "costs": method_costs(results),
        "many": len(results.methods) > figures.TOGETHER,
        "Verdict": Verdict,
        "label_tables": _label_tables(results),
        "unit_rows": _unit_rows(results),
        "trust_tables": sorted((arm for arm in finished if arm.trust), key=lambda arm: -arm.noise.rate),
        "noise_rows": _noise_rows(results),
        "adjudicated_tables": _adjudicated_tables(results),
        "positives": _positives(results.data),
        "parts": [part for part in PARTS if part in results.data.n],
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
        "min_patients": MIN_PATIENTS,
    }


def draw_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Our own SVG, in which matplotlib has escaped every text; None for a figure that has nothing to show."""
    shared: dict[str, Callable[[StudyResults], str | None]] = {
        "against_noise": figures.score_against_noise,
        "labels": figures.labels_by_method,
        "weights": figures.weights_over_training,
        "prevalence": figures.prevalence_under_noise,
    }  # of labels that all arms share
    drawn = {name: None if results.in_units else draw(results) for name, draw in shared.items()}
    drawn |= {"differences": figures.differences(results), "cost": figures.cost_against_benefit(results)}
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}


def _covered(results: StudyResults) -> str:
    """What the intervals of the answer are over."""
    scored = max((len(arm.mean.labels) for arm in results.arms), default=0)
    pairs = max((comparison.n_pairs for comparison in results.comparisons), default=0)
    patients = results.data.patients.get("test")
    of = f" ({thousands(patients)} in the test set)" if patients else ""
    networks = "one pair of networks" if pairs == 1 else f"{pairs} pairs of networks"
    labels = "one label" if scored == 1 else f"{scored} labels"
    over = listed(list(dict.fromkeys(comparison.over for comparison in results.comparisons)), "or")
    limits = "".join(
        f" {limit[0].upper()}{limit[1:]}." for limit in dict.fromkeys(c.limit for c in results.comparisons) if limit
    )
    return (
        f"Differences are in the mean {figures.score_name(results)} of {labels}, averaged over {networks} "
        "of the same seed. "
        f"The 95 % intervals are over {over}{of}.{limits}"
    )


def _comparisons(results: StudyResults) -> list[tuple[str, list[tuple[ComparisonRecord, Verdict]]]]:
    """Condition by condition, each comparison with what may be said of it."""
    conditions = dict.fromkeys(comparison.noise for comparison in results.comparisons)
    return [
        (described(condition), [(c, verdict(c)) for c in results.comparisons if c.noise == condition])
        for condition in conditions
    ]


def _unit_rows(results: StudyResults) -> list[tuple[str, list[ScoreRecord]]]:
    """A row per condition that has labels of its own, with the mean score of each method, averaged over seeds."""
    if not results.in_units:
        return []
    return [
        (
            condition.name,
            [average([arm.mean for arm in results.finished(method, condition)]) for method in results.methods],
        )
        for condition in results.conditions
    ]


def _label_tables(results: StudyResults) -> list[dict[str, Any]]:
    """One table per condition: a row per label, a score per method, averaged over seeds; the best in bold."""
    tables: list[dict[str, Any]] = []
    if results.in_units:
        return tables
    for condition in results.conditions:
        arms = {method: results.finished(method, condition) for method in results.methods}
        rows = []
        for label in results.labels:
            scores = [average([arm.scores[label] for arm in of_method]) for of_method in arms.values()]
            rows.append({"label": label, "noisy": label in condition.labels, "scores": scores})
        means = [average([arm.mean for arm in of_method]) for of_method in arms.values()]
        tables.append({"title": condition.title, "rows": rows, "means": means})
    return tables


def _adjudicated_tables(results: StudyResults) -> list[dict[str, Any]]:
    """One table per condition: a row per finding, for each method the scores against both truths, over seeds."""
    truth = results.adjudicated
    if truth is None:
        return []

    def scores(condition: NoiseCondition, finding: str) -> list[ScoreRecord]:
        of_finding = [row for row in truth.scores if row.noise == condition and row.finding == finding]
        return [
            average([getattr(row, against) for row in of_finding if row.method == method])
            for method in results.methods
            for against in ("noisy", "adjudicated")
        ]

    findings = (*truth.findings, MEAN)
    return [
        {"title": condition.title, "rows": {finding: scores(condition, finding) for finding in findings}}
        for condition in results.conditions
    ]


def _noise_rows(results: StudyResults) -> list[dict[str, Any]]:
    """What the masks did to each label, over the seeds; the methods of a seed share its mask."""
    masks: dict[tuple[NoiseCondition, str], dict[int, NoiseOnLabel]] = {}
    for arm in results.arms:
        for label, done in arm.noise.summary.items():
            masks.setdefault((arm.noise.condition(), label), {})[arm.seed] = done
    return [
        {
            "condition": condition,
            "label": label,
            "known": _span([done.known for done in seeds.values()]),
            "selected": _span([done.selected for done in seeds.values()]),
            "changed": _span([done.changed for done in seeds.values()]),
            "before": _span([done.prevalence_before for done in seeds.values()], "{:.1%}"),
            "after": _span([done.prevalence_after for done in seeds.values()], "{:.1%}"),
        }
        for (condition, label), seeds in masks.items()
    ]


def _span(numbers: Sequence[float | None], form: str = "{:,}") -> str:
    """'257–263' over the seeds, or one number where they agree."""
    known = sorted(number for number in numbers if number is not None)
    ends = dict.fromkeys(form.format(number) for number in (known[:1] + known[-1:]))
    return "–".join(ends).replace("%", " %") or "–"


def _positives(data: DataRecord) -> list[tuple[str, dict[str, int | None]]]:
    return [(label, {part: data.positives.get(part, {}).get(label) for part in PARTS}) for label in data.labels]


def _mean_scores(results: StudyResults) -> dict[str, float]:
    return {
        f"test_auc_mean/{arm.method}/{arm.noise.title}/seed {arm.seed}": arm.mean.value
        for arm in results.arms
        if arm.mean.value is not None
    }
