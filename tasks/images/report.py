"""What the report of an image study shows: figures and tables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from data_prep.labels.splits import PARTS
from models.evaluation.auc import MIN_PATIENTS, MIN_PATIENTS_INTERVAL
from tasks.engine.publish import by_condition, policy_groups
from tasks.images.adjudication import MEAN
from tasks.records.arms import Condition, NoiseOnLabel
from tasks.records.chosen_operations import chosen_table
from tasks.records.cost import method_costs
from tasks.records.interaction_text import interaction_answer
from tasks.records.scores import ScoreRecord, average_scores
from tasks.records.slices import asked, joint, policies_with
from tasks.records.study import StudyResults
from tasks.records.summary_text import answer, question
from tasks.reporting.difference_figures import cost_against_benefit, differences
from tasks.reporting.figure_style import MAX_METHODS_PER_PANEL, first_and_noisiest
from tasks.reporting.label_figures import labels_by_method
from tasks.reporting.noise_figures import prevalence_under_noise, score_against_noise
from tasks.reporting.policy_figures import policies_and_noise
from tasks.reporting.weight_figures import weights_over_training


def study_question(results: StudyResults) -> str:
    """Write the question of a study of methods, of augmentation policies, or of both."""
    return question(*asked(results))


def study_answer(results: StudyResults) -> list[str]:
    """Write the answer to what the study asks, in sentences: first what noise changes of the worth of a policy."""
    first, *more = asked(results)
    others = [sentence for part in more for sentence in answer(part.model_copy(update={"floor": ()}))]
    return list(dict.fromkeys([*interaction_answer(results), *answer(first), *others]))


def contents(results: StudyResults, figures: Mapping[str, Markup | None]) -> dict[str, Any]:
    """Return what the template shows of images, by name."""
    positives = {part: results.data.positives.get(part, {}) for part in PARTS}
    with_trust = [arm for arm in results.arms if arm.trust]
    first, shown = asked(results)[0], joint(results)
    compared = [c for c in results.comparisons if c.factor == first.factor]
    return {
        "first": first,
        "shown": shown,
        "noisiest": first_and_noisiest(results)[-1] if results.arms else None,
        "comparisons": by_condition((*compared, *first.floor)),
        "policy_parts": [
            (method, part, by_condition((*part.comparisons, *part.floor))) for method, part in _policy_parts(results)
        ],
        "policy_groups": policy_groups(results) if figures.get("policies") else [],
        "chosen": chosen_table(shown),
        "costs": method_costs(shown),
        "many_methods": len(shown.methods) > MAX_METHODS_PER_PANEL,
        "label_tables": _label_tables(shown),
        "condition_rows": _condition_rows(shown),
        "trust_tables": sorted(with_trust, key=lambda arm: -arm.condition.rate),
        "noise_rows": _noise_rows(results),
        "adjudicated_tables": _adjudicated_tables(shown),
        "positives": [
            (label, {part: of.get(label) for part, of in positives.items()}) for label in results.data.labels
        ],
        "parts": [part for part in PARTS if part in results.data.n],
        "min_patients": MIN_PATIENTS,
        "min_patients_interval": MIN_PATIENTS_INTERVAL,
    }


def draw_figures(results: StudyResults) -> dict[str, Markup | None]:
    """Draw the report's figures as SVG by name, every text in them escaped; None for a figure with nothing to show."""
    of_shared_labels: dict[str, Callable[[StudyResults], str | None]] = {
        "against_noise": score_against_noise,
        "labels": labels_by_method,
        "weights": weights_over_training,
        "prevalence": prevalence_under_noise,
    }
    shown = joint(results)
    drawn = {name: None if results.labels_differ else draw(shown) for name, draw in of_shared_labels.items()}
    drawn |= {"differences": differences(asked(results)[0]), "cost": cost_against_benefit(shown)}
    drawn["policies"] = policies_and_noise(results)
    for number, (_, part) in enumerate(_policy_parts(results)):
        drawn[f"policies-{number}"] = differences(part, f"policies-{number}")
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}


def _policy_parts(results: StudyResults) -> list[tuple[str, StudyResults]]:
    """Return each method and its policies, if the study asks about methods and about policies."""
    controls = results.control_of.values()
    methods = [method for method in results.methods if method not in controls]
    return [(method, policies_with(results, method)) for method in methods] if len(asked(results)) > 1 else []


def _condition_rows(results: StudyResults) -> list[tuple[str, list[ScoreRecord]]]:
    """Return a row per condition with each method's mean score over seeds; empty if the labels are shared."""
    conditions = results.conditions if results.labels_differ else ()
    return [(condition.name, _means(results, condition)) for condition in conditions]


def _means(results: StudyResults, condition: Condition) -> list[ScoreRecord]:
    """Return the mean score of each method under a condition, averaged over seeds."""
    arms = [results.finished_arms(method, condition) for method in results.methods]
    return [average_scores([arm.mean for arm in of_method]) for of_method in arms]


def _label_tables(results: StudyResults) -> list[dict[str, Any]]:
    """Return one table per condition: a row per label with a score per method, averaged over seeds."""
    tables: list[dict[str, Any]] = []
    conditions = () if results.labels_differ else results.conditions
    for condition in conditions:
        arms = [results.finished_arms(method, condition) for method in results.methods]
        rows = []
        for label in results.labels:
            scores = [average_scores([arm.scores[label] for arm in of_method]) for of_method in arms]
            rows.append({"label": label, "noisy": label in condition.labels, "scores": scores})
        tables.append({"title": condition.title, "rows": rows, "means": _means(results, condition)})
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
