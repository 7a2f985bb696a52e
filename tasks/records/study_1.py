"""Read results of the schema `medmtl/study/1`: turn what it says into the form of `medmtl/study/2`.

The earlier schema has the arm's method and condition (under the key "noise") beside its other keys, further factors
under "factors", and the weights of the labels beside the key "step". It has no noise floor, no controls and no spread.
"""

from collections.abc import Mapping
from typing import Any

SCHEMA_1 = "medmtl/study/1"
_CONDITION_1 = "noise"  # the key of a condition


def is_of_study_1(record: Mapping[str, Any]) -> bool:
    """Tell whether the record of an arm, a comparison or an adjudicated score has the earlier form."""
    return _CONDITION_1 in record


def arm_of_study_1(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of an arm in the present form.

    Raises:
        ValueError: it does not have the earlier form either.
    """
    new = _with_condition(arm)
    try:
        names = {"method": new.pop("method"), "condition": new["condition"].get("name", "clean")}
        new["factors"] = names | new.pop("factors", {})
        scores = {label: _with_reason(score) for label, score in new.pop("scores").items()}
        new["labels"] = {label: {"score": scores[label]} for label in new["labels"]}
        new["mean"] = _with_reason(new["mean"])
        new["weights"] = [
            {"step": row["step"], "labels": {label: weight for label, weight in row.items() if label != "step"}}
            for row in new.get("weights", ())
        ]
        new["items_per_second"] = new.pop("images_per_second")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an arm of {SCHEMA_1}: {error!r}") from error
    return new


def study_of_study_1(study: Mapping[str, Any], schema: str) -> dict[str, Any]:
    """Return the results of a study in the present form but for its arms, whose record reads the earlier form itself.

    Raises:
        ValueError: they do not have the earlier form either.
    """
    new = dict(study) | {"schema": schema}
    try:
        new["comparisons"] = [_with_condition(record) for record in study.get("comparisons", ())]
        if adjudicated := study.get("adjudicated"):
            scores = [
                _with_condition(row) | {which: _with_reason(row[which]) for which in ("noisy", "adjudicated")}
                for row in adjudicated["scores"]
            ]
            new["adjudicated"] = dict(adjudicated) | {"scores": scores}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a study of {SCHEMA_1}: {error!r}") from error
    return new


def _with_condition(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"condition" if key == _CONDITION_1 else key: value for key, value in record.items()}


def _with_reason(score: Mapping[str, Any]) -> dict[str, Any]:
    """Give a score without a value or an interval a reason; the earlier schema did not insist on one."""
    incomplete = None in (score.get("value"), score.get("lo"), score.get("hi"))
    return dict(score) | ({"reason": score.get("reason") or "no reason was recorded"} if incomplete else {})
