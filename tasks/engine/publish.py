"""Publish a study: report.html beside results.json, and both in MLflow."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.engine.kind import Kind
from tasks.records.arms import Condition
from tasks.records.comparisons import ComparisonRecord
from tasks.records.interaction_text import floor_of
from tasks.records.scores import ScoreRecord
from tasks.records.study import StudyResults, read_results
from tasks.records.summary_text import Verdict, describe_condition, describe_held, join_names, verdict, with_interval
from tasks.reporting.log_report import escape_markdown, log_report, markdown_table
from tasks.reporting.page import thousands, write_page
from tasks.runtime.run_folder import REPORT


@task(name="write report", cache_policy=NO_CACHE)
def publish(kind: Kind[Any, Any, Any], results: Path, run_id: str) -> Path:
    """Write report.html next to results.json; log both, the figures, the config and the mean scores to MLflow.

    Args:
        kind: of the study.
        results: path of results.json.
        run_id: the study's run in MLflow.

    Returns:
        Path of report.html.
    """
    study = read_results(results)
    figures = kind.report.figures(study)
    report = write_report(kind, study, figures, kind.examples(), results.with_name(REPORT))
    scores = {
        f"test_{kind.score_name}_mean/{'/'.join(arm.factors.values())}/seed {arm.seed}": arm.mean.value
        for arm in study.arms
        if arm.mean.value is not None
    }
    log_report(report, figures, scores, run_id, summarise(kind, study))
    return report


def summarise(kind: Kind[Any, Any, Any], results: StudyResults) -> str:
    """Return what a study found, in Markdown: its question, its answer, and the table of its comparisons or arms."""
    metric = kind.report.metric_title(results)
    if results.comparisons:
        heads = ["condition", "compared", "with", f"difference in {metric}", ""]
        rows = [
            [c.condition.name + describe_held(c.held), c.method, c.baseline, with_interval(c), verdict(c).value]
            for c in results.comparisons
        ]
    else:
        heads = ["arm", "seed", f"mean {metric}"]
        rows = [[", ".join(arm.factors.values()), str(arm.seed), _score_text(arm.mean)] for arm in results.arms]
    answer = "\n\n".join(map(escape_markdown, kind.report.answer(results)))
    return f"## {escape_markdown(kind.report.question(results))}\n\n{answer}\n\n{markdown_table(heads, rows)}"


def _score_text(score: ScoreRecord) -> str:
    if score.value is None or score.lo is None or score.hi is None:
        return "–" if score.value is None else f"{score.value:.3f}"
    return f"{score.value:.3f} [{score.lo:.3f}, {score.hi:.3f}]"


def write_report(
    kind: Kind[Any, Any, Any],
    results: StudyResults,
    figures: Mapping[str, Markup | None],
    examples: tuple[NDArray[np.uint8], Sequence[str]],
    out: Path,
) -> Path:
    """Write the report to the file `out`. The same input gives the same bytes.

    Names of images and labels and reasons come from outside: everything except the figures is escaped.

    Args:
        kind: of the study.
        results: of the study.
        figures: SVG by name, or None.
        examples: example images, (m, s, s) uint8, m may be 0; and m captions.
        out: the HTML file to write.

    Returns:
        `out`.
    """
    contents = {
        "results": results,
        "command": kind.command,
        "items": kind.items,
        "factors": list(dict.fromkeys(name for arm in results.arms for name in arm.factors)),
        "data": results.data,
        "metric": kind.report.metric_title(results),
        "interval_note": _interval_note(results, kind.report.metric_title(results)),
        "question": kind.report.question(results),
        "answer": kind.report.answer(results),
        "seeds": sorted({arm.seed for arm in results.arms if arm.method in results.methods}),
        "finished": [arm for arm in results.arms if arm.status == "finished"],
        "failed": [arm for arm in results.arms if arm.status == "failed"],
        "compared": [(c, verdict(c)) for c in (*results.comparisons, *results.floor)],
        "controls": by_condition(results.controls),
        "floor_words": _floor_words,
        "spread": _spread_table(results),
        "figures": figures,
        "Verdict": Verdict,
        "config": json.dumps(results.config, indent=2, ensure_ascii=False),
    }
    return write_page(kind.report.template, contents | dict(kind.report.contents(results, figures)), examples, out)


def by_condition(comparisons: Sequence[ComparisonRecord]) -> list[tuple[str, list[tuple[ComparisonRecord, Verdict]]]]:
    """Return for each condition, and what else is held fixed, in words, the comparisons with their conclusions."""
    groups: dict[tuple[Condition, str], list[tuple[ComparisonRecord, Verdict]]] = defaultdict(list)
    for comparison in comparisons:
        groups[comparison.condition, describe_held(comparison.held)].append((comparison, verdict(comparison)))
    return [(describe_condition(condition) + held, group) for (condition, held), group in groups.items()]


def policy_groups(results: StudyResults) -> list[tuple[str, list[tuple[ComparisonRecord, Verdict, str]]]]:
    """Return all comparisons of policies, at equal steps and at equal compute, and how noise changes them.

    Returns:
        A heading in words for each condition and what else is held fixed, and under it the comparisons with their
        conclusions; that of the noise floor with another conclusion, in words.
    """
    compared = [c for c in (*results.comparisons, *results.interactions) if c.factor == "policy"]
    groups: dict[tuple[Any, ...], list[ComparisonRecord]] = defaultdict(list)
    place = {method: i for i, method in enumerate(results.methods)}
    for c in sorted(compared, key=lambda c: (c.experiment is not None, place.get(c.held.get("method", ""), 0))):
        groups[c.experiment, describe_held(c.held), c.baseline, c.condition, c.minus].append(c)
    found = []
    for (experiment, held, baseline, condition, minus), of_group in groups.items():
        under = f"{describe_condition(condition)}{f', minus {describe_condition(minus)}' if minus else ''}"
        heading = f"{experiment or 'equal steps'}, {under}{held}: minus {baseline}"
        rows = [(c, verdict(c), "") for c in of_group]
        if floor := floor_of(results, of_group[0]):
            same = floor.model_copy(update={"method": f"{baseline}, other seeds", "baseline": baseline})
            rows.append((same, verdict(same), _floor_words(same)))
        found.append((heading, rows))
    return found


def _floor_words(floor: ComparisonRecord) -> str:
    """Return the conclusion from a comparison of the baseline with itself; it is neither better nor worse."""
    if floor.covers_seeds and floor.is_significant:
        return "significant, with nothing changed"
    return "noise" if floor.delta is not None else verdict(floor).value


def _spread_table(results: StudyResults) -> dict[str, Any]:
    """Return the spread of each method and condition (with further factors) as a table, None where there is no arm.

    The methods or the conditions are its rows, whichever are more, so that it fits the page.
    """
    cells = {
        (spread.factors["method"], ", ".join(v for name, v in spread.factors.items() if name != "method")): spread
        for spread in results.spread
    }
    methods, conditions = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    if len(methods) >= len(conditions):
        rows = {method: [cells.get((method, condition)) for condition in conditions] for method in methods}
        return {"of": "method", "columns": conditions, "rows": rows}
    rows = {condition: [cells.get((method, condition)) for method in methods] for condition in conditions}
    return {"of": "condition", "columns": methods, "rows": rows}


def _interval_note(results: StudyResults, metric: str) -> str:
    """Say what the differences are averaged over and what their intervals cover."""
    n_labels = max((len(arm.mean.labels) for arm in results.arms), default=0)
    n_pairs = max((comparison.n_pairs for comparison in results.comparisons), default=0)
    patients = results.data.patients.get("test")
    test_set = f" ({thousands(patients)} patients in the test set)" if patients else ""
    networks = "one pair of networks" if n_pairs == 1 else f"{n_pairs} pairs of networks"
    score = f"the {metric}" if n_labels == 1 else f"the mean {metric} of {n_labels} labels"
    over = join_names(list(dict.fromkeys(comparison.over for comparison in results.comparisons)), "or")
    limits = "".join(
        f" {limit[0].upper()}{limit[1:]}." for limit in dict.fromkeys(c.limit for c in results.comparisons) if limit
    )
    return (
        f"Differences are in {score}, averaged over {networks}; "
        "the two networks of a pair have the same seed. "
        f"Brackets: 95 % intervals; they cover the choice of {over}{test_set}.{limits}"
    )
