"""Report of an image study: figures, tables and report.html, one page that needs no other file."""

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
    Condition,
    NoiseOnLabel,
    ScoreRecord,
    StudyResults,
    average_scores,
    read_results,
)
from tasks.records.summary_text import Verdict, answer, describe_condition, join_names, question, verdict
from tasks.reporting.difference_figures import cost_against_benefit, differences
from tasks.reporting.figure_style import MAX_METHODS_PER_PANEL, first_and_noisiest, metric_title
from tasks.reporting.label_figures import labels_by_method
from tasks.reporting.log_report import log_report
from tasks.reporting.noise_figures import prevalence_under_noise, score_against_noise
from tasks.reporting.page import example_images, thousands, write_page
from tasks.reporting.weight_figures import weights_over_training
from tasks.runtime.run_folder import REPORT

PARTS = ("train", "val", "test")


@task(name="write report", cache_policy=NO_CACHE)
def publish_report(results: Path, store: StoreRef, split: SplitSettings, run_id: str) -> Path:
    """Write report.html next to results.json; log both, the figures, the config and the mean scores to MLflow.

    Args:
        results: path of results.json.
        store: the images, of which some are shown.
        split: the images shown are of its training part.
        run_id: the study's run in MLflow.

    Returns:
        Path of report.html.
    """
    study = read_results(results)
    opened = Store.open(store.path)
    examples = example_images(opened, make_split(split, opened.images, opened.patients).train)
    figures = draw_figures(study)
    report = write_report(study, figures, *examples, results.with_name(REPORT))
    log_report(report, figures, _mean_scores(study), run_id)
    return report


def write_report(
    results: StudyResults,
    figures: Mapping[str, Markup | None],
    examples: NDArray[np.uint8],
    captions: Sequence[str],
    out: Path,
) -> Path:
    """Write the report to the file `out`. The same input gives the same bytes.

    Names of images and labels and reasons come from outside: everything except the figures is escaped.

    Args:
        results: of the study.
        figures: see `draw_figures`.
        examples: example images, (m, s, s) uint8, m may be 0.
        captions: m, what each example shows.
        out: the HTML file to write.

    Returns:
        `out`.
    """
    return write_page("study.html.j2", _template_contents(results, figures), (examples, captions), out)


def _template_contents(results: StudyResults, figures: Mapping[str, Markup | None]) -> dict[str, Any]:
    """Return everything that the template shows, by name."""
    finished = [arm for arm in results.arms if arm.status == "finished"]
    return {
        "results": results,
        "data": results.data,
        "metric": metric_title(results),
        "question": question(results),
        "answer": answer(results),
        "interval_note": _interval_note(results),
        "seeds": sorted({arm.seed for arm in results.arms}),
        "finished": finished,
        "failed": [arm for arm in results.arms if arm.status == "failed"],
        "noisiest": first_and_noisiest(results)[-1] if results.arms else None,
        "figures": figures,
        "comparisons": _comparisons(results),
        "costs": method_costs(results),
        "many_methods": len(results.methods) > MAX_METHODS_PER_PANEL,
        "Verdict": Verdict,
        "label_tables": _label_tables(results),
        "condition_rows": _condition_rows(results),
        "trust_tables": sorted((arm for arm in finished if arm.trust), key=lambda arm: -arm.condition.rate),
        "noise_rows": _noise_rows(results),
        "adjudicated_tables": _adjudicated_tables(results),
        "positives": _positives(results.data),
        "parts": [part for part in PARTS if part in results.data.n],
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
        "min_patients": MIN_PATIENTS,
    }


def draw_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Draw the report's figures as SVG by name, every text in them escaped; None for a figure with nothing to show."""
    of_shared_labels: dict[str, Callable[[StudyResults], str | None]] = {
        "against_noise": score_against_noise,
        "labels": labels_by_method,
        "weights": weights_over_training,
        "prevalence": prevalence_under_noise,
    }
    drawn = {name: None if results.labels_differ else draw(results) for name, draw in of_shared_labels.items()}
    drawn |= {"differences": differences(results), "cost": cost_against_benefit(results)}
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}


def _interval_note(results: StudyResults) -> str:
    """Say what the differences are averaged over and what their intervals cover."""
    n_labels = max((len(arm.mean.labels) for arm in results.arms), default=0)
    n_pairs = max((comparison.n_pairs for comparison in results.comparisons), default=0)
    patients = results.data.patients.get("test")
    test_set = f" ({thousands(patients)} patients in the test set)" if patients else ""
    networks = "one pair of networks" if n_pairs == 1 else f"{n_pairs} pairs of networks"
    labels = "one label" if n_labels == 1 else f"{n_labels} labels"
    over = join_names(list(dict.fromkeys(comparison.over for comparison in results.comparisons)), "or")
    limits = "".join(
        f" {limit[0].upper()}{limit[1:]}." for limit in dict.fromkeys(c.limit for c in results.comparisons) if limit
    )
    return (
        f"Differences are in the mean {metric_title(results)} of {labels}, averaged over {networks}; "
        "the two networks of a pair have the same seed. "
        f"The 95 % intervals cover the choice of {over}{test_set}.{limits}"
    )


def _comparisons(results: StudyResults) -> list[tuple[str, list[tuple[ComparisonRecord, Verdict]]]]:
    """Return for each condition its comparisons, each with its conclusion."""
    conditions = dict.fromkeys(comparison.condition for comparison in results.comparisons)
    return [
        (describe_condition(condition), [(c, verdict(c)) for c in results.comparisons if c.condition == condition])
        for condition in conditions
    ]


def _condition_rows(results: StudyResults) -> list[tuple[str, list[ScoreRecord]]]:
    """Return a row per condition with each method's mean score over seeds; empty if the labels are shared."""
    if not results.labels_differ:
        return []
    rows = []
    for condition in results.conditions:
        arms = [results.finished_arms(method, condition) for method in results.methods]
        rows.append((condition.name, [average_scores([arm.mean for arm in of_method]) for of_method in arms]))
    return rows


def _label_tables(results: StudyResults) -> list[dict[str, Any]]:
    """Return one table per condition: a row per label with a score per method, averaged over seeds."""
    tables: list[dict[str, Any]] = []
    if results.labels_differ:
        return tables
    for condition in results.conditions:
        arms = {method: results.finished_arms(method, condition) for method in results.methods}
        rows = []
        for label in results.labels:
            scores = [average_scores([arm.scores[label] for arm in of_method]) for of_method in arms.values()]
            rows.append({"label": label, "noisy": label in condition.labels, "scores": scores})
        means = [average_scores([arm.mean for arm in of_method]) for of_method in arms.values()]
        tables.append({"title": condition.title, "rows": rows, "means": means})
    return tables


def _adjudicated_tables(results: StudyResults) -> list[dict[str, Any]]:
    """Return one table per condition: a row per finding, per method the mean scores against both sets of labels."""
    adjudicated = results.adjudicated
    if adjudicated is None:
        return []

    def scores(condition: Condition, finding: str) -> list[ScoreRecord]:
        of_finding = [row for row in adjudicated.scores if row.condition == condition and row.finding == finding]
        return [
            average_scores([getattr(row, labels) for row in of_finding if row.method == method])
            for method in results.methods
            for labels in ("noisy", "adjudicated")
        ]

    findings = (*adjudicated.findings, MEAN)
    return [
        {"title": condition.title, "rows": {finding: scores(condition, finding) for finding in findings}}
        for condition in results.conditions
    ]


def _noise_rows(results: StudyResults) -> list[dict[str, Any]]:
    """Return what the masks did to each label, as ranges over the seeds; all methods of a seed share its mask."""
    masks: dict[tuple[Condition, str], dict[int, NoiseOnLabel]] = {}
    for arm in results.arms:
        for label, summary in arm.condition.summary.items():
            masks.setdefault((arm.condition.shared(), label), {})[arm.seed] = summary
    return [
        {
            "condition": condition,
            "label": label,
            "known": _range_text([mask.known for mask in seeds.values()]),
            "selected": _range_text([mask.selected for mask in seeds.values()]),
            "changed": _range_text([mask.changed for mask in seeds.values()]),
            "before": _range_text([mask.prevalence_before for mask in seeds.values()], "{:.1%}"),
            "after": _range_text([mask.prevalence_after for mask in seeds.values()], "{:.1%}"),
        }
        for (condition, label), seeds in masks.items()
    ]


def _range_text(numbers: Sequence[float | None], form: str = "{:,}") -> str:
    """Format as '257–263', or as one number if all are the same."""
    known = sorted(number for number in numbers if number is not None)
    ends = dict.fromkeys(form.format(number) for number in (known[:1] + known[-1:]))
    return "–".join(ends).replace("%", " %") or "–"


def _positives(data: DataRecord) -> list[tuple[str, dict[str, int | None]]]:
    return [(label, {part: data.positives.get(part, {}).get(label) for part in PARTS}) for label in data.labels]


def _mean_scores(results: StudyResults) -> dict[str, float]:
    return {
        f"test_auc_mean/{arm.method}/{arm.condition.title}/seed {arm.seed}": arm.mean.value
        for arm in results.arms
        if arm.mean.value is not None
    }
