"""What the report of a classification study shows: a section by length of training, and tables."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from data_prep.labels.splits import PARTS
from tasks.classes.outcomes import at_length, lengths_of, levels_of, means_over_seeds
from tasks.classes.spec import METHOD
from tasks.engine.publish import policy_groups
from tasks.records.arms import ArmRecord, Condition
from tasks.records.chosen_operations import chosen_table
from tasks.records.scores import average_scores
from tasks.records.slices import policies_with
from tasks.records.study import StudyResults


def contents(results: StudyResults, figures: Mapping[str, Markup | None]) -> dict[str, Any]:
    """Return what the template shows of a classification, by name."""
    lengths = lengths_of(results)
    parts = {length: at_length(results, length) for length in lengths}
    return {
        "lengths": [
            {
                "title": length,
                "groups": policy_groups(part),
                "trained": [(condition.title, _rows(part, condition)) for condition in results.conditions],
                "chosen": chosen_table(policies_with(part, METHOD)),
            }
            for length, part in parts.items()
        ],
        "classes": [
            (name, [results.data.positives[part][name] for part in PARTS]) for name in results.data.positives["train"]
        ],
        "parts": PARTS,
    }


def _rows(part: StudyResults, condition: Condition) -> list[dict[str, Any]]:
    """Return a row for each policy under a condition: its score and the facts of its trainings, means over seeds."""
    facts = {
        name: means_over_seeds(part.arms, name)
        for name in ("chosen_on_test", "wrong_labels_learnt", "training_seconds")
    }
    trained: dict[tuple[str, ...], list[ArmRecord]] = {}
    for arm in part.arms:
        if arm.status == "finished" and arm.condition.shared() == condition:
            trained.setdefault(levels_of(arm), []).append(arm)
    seconds = facts["training_seconds"]
    rows = []
    for levels, arms in trained.items():
        first = arms[0]
        baseline = seconds.get(levels_of(first, policy=part.baseline_policy))
        rows.append(
            {
                "policy": first.policy + first.method.removeprefix(METHOD),
                "score": average_scores([arm.mean for arm in arms]),
                "relative_seconds": seconds[levels].value / baseline.value if baseline else None,
                **{name: of_fact.get(levels) for name, of_fact in facts.items()},
            }
        )
    return rows
