"""What the report of a study on texts shows: sections by experiment, and tables."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from tasks.records.arms import ArmRecord
from tasks.records.chosen_operations import chosen_table
from tasks.records.scores import ScoreRecord, average_scores
from tasks.records.slices import joint
from tasks.records.study import StudyResults
from tasks.records.summary_text import verdict
from tasks.text.outcomes import (
    best_single_task_widths,
    count_similarity_increases,
    experiments_of,
    numbered,
    parts_by_method,
    parts_by_policy,
    similarities,
    summarise,
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


def contents(results: StudyResults, figures: Mapping[str, Markup | None]) -> dict[str, Any]:
    """Return what the template shows of texts, by name."""
    parts = parts_by_policy(results)
    _, first = parts[0]
    others = {found.method for found in results.floor}
    finished = [arm for arm in first.arms if arm.status == "finished" and arm.method not in others]
    return {
        "interval_note": _interval_note(results),
        "adjusted_together": "the rows of one experiment (or of the policies) with the same method and baseline",
        "sections": [
            {
                "kind": kind,
                "title": TITLES[kind] + (f", policy {policy}" if policy else ""),
                "figure": figures.get(numbered(f"forest_{kind}", number)),
                "capacity": figures.get(numbered("capacity", number)),
                "effects": summarise_effects(part, kind),
                "rows": [(found, verdict(found)) for found in part.comparisons if found.experiment == kind],
                "widths": width_rows(part),
                "best_single_widths": best_single_task_widths(part),
            }
            for number, (policy, part) in enumerate(parts)
            for kind in experiments_of(part)
        ],
        "policy_parts": [
            {
                "method": method,
                "figure": figures.get(f"policies-{number}"),
                "effects": [(row, row.method in part.methods) for row in summarise((*part.comparisons, *part.floor))],
                "rows": [(found, verdict(found), found in part.floor) for found in (*part.comparisons, *part.floor)],
                "policies": part.methods,
                "scores": _scores_by_policy(part),
            }
            for number, (method, part) in enumerate(parts_by_method(results))
        ],
        "chosen": chosen_table(joint(results)),
        "singles": _singles(finished),
        "groups": _groups(finished),
        "similarities": similarities(first),
        "similarity_increases": count_similarity_increases(first),
        "speeds": _speeds(results),
    }


def _interval_note(results: StudyResults) -> str:
    """Return sentences on what the differences and their intervals are based on."""
    covers_seeds = any(found.covers_seeds for found in results.comparisons)
    clearly = (
        "“Clearly” means p < 0.05 after Holm's adjustment over the rows with the same method and baseline."
        if covers_seeds
        else "With fewer than three seeds they cannot show whether another training would do the same."
    )
    over = ", or ".join(dict.fromkeys(found.over for found in results.comparisons))
    limits = " ".join(f"{limit}." for limit in dict.fromkeys(found.limit for found in results.comparisons) if limit)
    return (
        f"Differences are paired: same seed, same training sentences, same test sentences. The 95 % intervals are over "
        f"{over}. {clearly} {limits}"
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


def _groups(finished: Sequence[ArmRecord]) -> list[tuple[str, str, dict[str, ScoreRecord]]]:
    """Return condition, method and scores (by task, and "mean"), averaged over seeds, of the multi-task networks."""
    kinds = dict.fromkeys((arm.condition.name, arm.method) for arm in finished if len(arm.labels) > 1)
    rows = []
    for condition, method in kinds:
        arms = [arm for arm in finished if arm.condition.name == condition and arm.method == method]
        scores = {label: average_scores([arm.scores[label] for arm in arms]) for label in arms[0].labels}
        rows.append((condition, method, scores | {"mean": average_scores([arm.mean for arm in arms])}))
    return rows


def _scores_by_policy(results: StudyResults) -> list[tuple[str, list[ScoreRecord | None]]]:
    """Return each condition with the score under each policy, averaged over seeds; None where no arm finished."""
    rows: list[tuple[str, list[ScoreRecord | None]]] = []
    for condition in results.conditions:
        arms = [results.finished_arms(policy, condition) for policy in results.methods]
        rows.append((condition.name, [average_scores([arm.mean for arm in each]) if each else None for each in arms]))
    return rows


def _speeds(results: StudyResults) -> list[tuple[str, float, float]]:
    """Return for each method, and policy, the training texts per second (median over arms) and the share of padding."""
    named: dict[str, list[ArmRecord]] = defaultdict(list)
    for arm in results.arms:
        if arm.status == "finished" and arm.items_per_second:
            named[f"{arm.method} · {arm.policy}" if len(results.policies) > 1 else arm.method].append(arm)
    rows = []
    for method, arms in named.items():
        speed = float(np.median([arm.items_per_second or 0.0 for arm in arms]))
        rows.append((method, speed, float(np.mean([arm.facts["padding"] for arm in arms]))))
    return rows
