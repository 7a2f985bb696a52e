"""The gate: the rule by which a challenger becomes the champion, as a function of what was measured.

The intervals cover the choice of the validation patients only: both networks are taken as given, and both selected
their best epoch on these patients. With the rule `better`, a challenger that is no better passes about once in 40
times: the upper tail of a 95 % interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.evaluation.auc import (
    MIN_PATIENTS,
    MIN_PATIENTS_INTERVAL,
    Score,
    holm,
    scorable_labels,
    score,
)
from models.evaluation.intervals import number_patients
from models.evaluation.paired import Comparison, Unit, auc_differences, compare_units
from tasks.records.base import Record
from tasks.runtime.settings import Settings

CHANCE = 0.5
"""The AUC of a model that knows nothing."""

LEVEL = 0.05
"""Of the adjusted p-value below which a label is clearly worse."""

_MOST_NAMED = 3  # labels or alarms in a sentence


class GateSettings(Settings):
    """The rule by which a challenger becomes the champion."""

    rule: Literal["better", "not_worse", "never"] = Field(
        "better",
        description="better: the whole 95 % interval of the difference in mean validation AUC lies above 0; "
        "not_worse: above minus the margin; never: only report",
    )
    margin: float = Field(0.01, ge=0, le=1, description="for not_worse: the loss of mean AUC that is accepted")
    least_share: float = Field(
        0.5, ge=0, le=1, description="least share of the labels of both models that must count, or none is promoted"
    )
    least_patients: int = Field(
        MIN_PATIENTS_INTERVAL,
        ge=MIN_PATIENTS,
        le=1_000_000,
        description="least number of validation patients with the finding, and without it, for a label to count",
    )
    approve: Literal["automatic", "manual"] = Field(
        "automatic",
        description="automatic: what passes becomes the champion; manual: it waits for medmtl promote",
    )


class ConditionRecord(Record):
    """A condition of the gate: what was found, and what the gate wants."""

    name: str
    found: str
    wanted: str
    holds: bool

    @property
    def sentence(self) -> str:
        """The condition in a line."""
        return f"{self.name}: {self.found}; wanted: {self.wanted}"


class Verdict(Record):
    """The decision of the gate, with the reason in one sentence, and all its conditions."""

    decision: Literal["promoted", "waiting", "refused", "no_challenger"]
    reason: str
    conditions: tuple[ConditionRecord, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether all conditions hold: the challenger is promoted, or waits for approval."""
        return self.decision in ("promoted", "waiting")


NO_CHALLENGER = Verdict(decision="no_challenger", reason="not promoted: there is no challenger, the champion stays")


@dataclass(frozen=True)
class Predicted:
    """A model's probabilities (n, k) on the validation images, in the order of its labels."""

    labels: tuple[str, ...]
    probabilities: NDArray


@dataclass(frozen=True)
class Evidence:
    """What was measured on the validation patients.

    Attributes:
        labels: of the two models together, or of the challenger if there is no champion.
        counted: those of both models with enough patients; all scores here are of them.
        champion: its version; None if there is no champion.
        mean: the challenger's mean AUC.
        difference: challenger minus champion, mean AUC; None if there is no champion.
        by_label: the same of each label by itself; empty if there is no champion.
    """

    labels: tuple[str, ...]
    counted: tuple[str, ...]
    champion: str | None
    mean: Score
    difference: Comparison | None = None
    by_label: Mapping[str, Comparison] | None = None


def gather(
    targets: Mapping[str, NDArray[np.int8]],
    patients: NDArray,
    challenger: Predicted,
    champion: Predicted | None,
    *,
    version: str | None,
    least_patients: int,
) -> Evidence:
    """Measure a challenger, and compare it with the champion if there is one.

    Args:
        targets: label -> (n,) int8: 1 present, 0 absent, -1 unknown; of all labels of both models.
        patients: (n,) keys.
        challenger: its predictions on the n images.
        champion: its predictions on the same images.
        version: of the champion.
        least_patients: with the finding, and without it, for a label to count.
    """
    others = champion.labels if champion else ()
    shared = [label for label in challenger.labels if not champion or label in others]
    columns, _ = scorable_labels(_stack(targets, shared), number_patients(patients), least_patients)
    counted = [shared[column] for column in columns]
    together = tuple(dict.fromkeys([*challenger.labels, *others]))
    mean = score(_stack(targets, counted), _of(challenger, counted), patients, counted).mean
    if champion is None:
        return Evidence(together, tuple(counted), None, mean)

    def compare(labels: Sequence[str]) -> Comparison:
        unit = Unit(_stack(targets, labels), {0: _of(challenger, labels)}, {0: _of(champion, labels)})
        return compare_units(auc_differences({"validation": unit}, patients))

    by_label = {label: compare([label]) for label in counted}
    return Evidence(together, tuple(counted), version, mean, compare(counted), by_label)


def judge(settings: GateSettings, evidence: Evidence, alarms: Sequence[str] = ()) -> Verdict:
    """Decide by the rule.

    Args:
        settings: the rule.
        evidence: what was measured.
        alarms: of a drift of the data, a few words each; any blocks.
    """
    conditions = tuple(_conditions(settings, evidence, alarms))
    failing = [condition.sentence for condition in conditions if not condition.holds]
    if failing:
        return Verdict(decision="refused", reason="refused: " + "; ".join(failing), conditions=conditions)
    decision, words = "promoted", "promoted"
    if settings.approve == "manual":
        decision, words = "waiting", "waiting for approval"
    counted = f"over {len(evidence.counted)} of {len(evidence.labels)} labels"
    if evidence.difference is None:
        measured = f"{_interval(evidence.mean.value, evidence.mean.lo, evidence.mean.hi, '.3f')}; there was no champion"
    else:
        delta = evidence.difference
        measured = f"{_interval(delta.delta, delta.lo, delta.hi, '+.4f')} compared with version {evidence.champion}"
    reason = f"{words}: mean validation AUC {counted} is {measured}"
    return Verdict(decision=decision, reason=reason, conditions=conditions)


def _conditions(settings: GateSettings, evidence: Evidence, alarms: Sequence[str]) -> list[ConditionRecord]:
    found = [] if settings.rule != "never" else [_condition("rule", "never, which only reports", "another rule", False)]
    count, all_labels = len(evidence.counted), len(evidence.labels)
    least = max(1, math.ceil(settings.least_share * all_labels - 1e-9))  # a share such as 0.7 of 10 is 7, not 7.0000…1
    found.append(
        _condition(
            "labels that count",
            f"{count} of {all_labels}",
            f"at least {least}, each with {settings.least_patients} validation patients with the finding and as many "
            "without",
            count >= least,
        )
    )
    if evidence.difference is None:
        found.append(_above("mean validation AUC", evidence.mean.value, evidence.mean, CHANCE, ".3f"))
    else:
        difference, margin = evidence.difference, settings.margin if settings.rule == "not_worse" else 0.0
        name = f"mean validation AUC compared with version {evidence.champion}"
        found.append(_above(name, difference.delta, difference, 0.0 - margin, "+.4f"))
        found.append(_none_worse(evidence.by_label or {}))
    return [*found, _condition("drift alarms", _listed(alarms), "none", not alarms)]


def _above(name: str, value: float | None, ends: Score | Comparison, threshold: float, form: str) -> ConditionRecord:
    if value is None or ends.lo is None or ends.hi is None:
        known = "no value" if value is None else format(value, form)
        return _condition(name, f"{known} ({ends.reason})", f"an interval above {threshold:g}", False)
    measured = _interval(value, ends.lo, ends.hi, form)
    return _condition(name, measured, f"an interval above {threshold:g}", ends.lo > threshold)


def _none_worse(by_label: Mapping[str, Comparison]) -> ConditionRecord:
    """Find the labels whose difference, its p-value adjusted for their number, is below 0.

    A difference without interval, because all patients agree on it, counts as certain.
    """
    known = {label: comparison for label, comparison in by_label.items() if comparison.delta is not None}
    adjusted = holm([0.0 if each.p_value is None else each.p_value for each in known.values()])
    worse = [
        f"{label} {each.delta:+.3f}, adjusted p {p:.2g}"
        for (label, each), p in zip(known.items(), adjusted, strict=True)
        if (each.delta or 0.0) < 0 and (p or 0.0) < LEVEL
    ]
    wanted = f"none with a difference below 0 at an adjusted p below {LEVEL}"
    return _condition("labels clearly worse", _listed(worse), wanted, not worse)


def _condition(name: str, found: str, wanted: str, holds: bool) -> ConditionRecord:
    return ConditionRecord(name=name, found=found, wanted=wanted, holds=holds)


def _listed(sentences: Sequence[str]) -> str:
    shown = " | ".join(sentences[:_MOST_NAMED]) or "none"
    return f"{shown} | and {len(sentences) - _MOST_NAMED} more" if len(sentences) > _MOST_NAMED else shown


def _interval(value: float | None, lo: float | None, hi: float | None, form: str) -> str:
    return f"{value:{form}} [{lo:{form}}, {hi:{form}}]"


def _stack(targets: Mapping[str, NDArray[np.int8]], labels: Sequence[str]) -> NDArray[np.int8]:
    n = len(next(iter(targets.values())))
    return np.stack([targets[label] for label in labels], axis=1) if labels else np.empty((n, 0), np.int8)


def _of(model: Predicted, labels: Sequence[str]) -> NDArray:
    return model.probabilities[:, [model.labels.index(label) for label in labels]]
