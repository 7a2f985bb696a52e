"""What the report of a classification study shows: a section by length of training, and tables."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from data_prep.labels.splits import PARTS
from tasks.classes.outcomes import at_length, lengths_of, means_over_seeds
from tasks.engine.publish import by_condition
from tasks.images.report import chosen_table
from tasks.records.scores import average_scores
from tasks.records.study import StudyResults


def contents(results: StudyResults, figures: Mapping[str, Markup | None]) -> dict[str, Any]:
    """Return what the template shows of a classification, by name."""
    lengths = lengths_of(results)
    parts = {length: at_length(results, length) for length in lengths}
    return {
        "lengths": [
            {
                "title": length,
                "part": part,
                "figure": figures.get(f"differences-{number}"),
                "interactions": figures.get(f"interactions-{number}"),
                "groups": by_condition((*part.comparisons, *part.floor, *part.interactions)),
                "rows": _rows(part),
                "chosen": chosen_table(part),
            }
            for number, (length, part) in enumerate(parts.items())
        ],
        "classes": [
            (name, [results.data.positives[part][name] for part in PARTS]) for name in results.data.positives["train"]
        ],
        "parts": PARTS,
    }


def _rows(part: StudyResults) -> list[dict[str, Any]]:
    """Return a row for each condition and policy: its accuracy and the facts of its trainings, averaged over seeds."""
    facts = {
        name: means_over_seeds(part.arms, name)
        for name in ("chosen_on_test", "wrong_labels_learnt", "training_seconds")
    }
    levels = dict.fromkeys(tuple(arm.factors.values()) for arm in part.arms)
    rows = []
    for of_arm in levels:
        arms = [arm for arm in part.arms if tuple(arm.factors.values()) == of_arm and arm.status == "finished"]
        if not arms:
            continue
        baseline = [
            facts["training_seconds"][other]
            for other in levels
            if other[1:] == of_arm[1:] and other[0] == part.baseline and other in facts["training_seconds"]
        ]
        seconds = facts["training_seconds"].get(of_arm)
        rows.append(
            {
                "condition": arms[0].condition.title,
                "policy": arms[0].method,
                "score": average_scores([arm.mean for arm in arms]),
                "relative_seconds": seconds.value / baseline[0].value if seconds and baseline else None,
                **{name: of_fact.get(of_arm) for name, of_fact in facts.items()},
            }
        )
    return rows
