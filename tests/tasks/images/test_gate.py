"""The gate: its whole truth table, and what it measures against a naive reference."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from models.evaluation.auc import Score
from models.evaluation.paired import Comparison
from tasks.images.gate import Evidence, GateSettings, Predicted, Verdict, gather, judge

LABELS = ("Mass", "Nodule", "Effusion", "Edema")


def compared(delta: float | None, half: float | None = None, p: float | None = None) -> Comparison:
    """A comparison with an interval of half a width, or without one."""
    if delta is None or half is None:
        return Comparison(delta, None, None, p, reason="no interval: made up")
    return Comparison(delta, delta - half, delta + half, p)


def evidence(
    counted: int = 4, difference: Comparison | None = None, by_label: Sequence[Comparison] = (), **changed: Any
) -> Evidence:
    named = dict(zip(LABELS, by_label, strict=False))
    given: dict[str, Any] = {"champion": "1" if difference else None, "mean": Score(0.8, 0.7, 0.9)}
    return Evidence(LABELS, LABELS[:counted], **given | changed, difference=difference, by_label=named)


def failing(verdict: Verdict) -> set[str]:
    return {condition.name.partition(" compared")[0] for condition in verdict.conditions if not condition.holds}


@given(
    rule=st.sampled_from(["better", "not_worse", "never"]),
    approve=st.sampled_from(["automatic", "manual"]),
    margin=st.floats(0, 0.1),
    share=st.floats(0, 1),
    counted=st.integers(0, 4),
    delta=st.floats(-0.2, 0.2),
    half=st.floats(0.001, 0.2),
    p_values=st.lists(st.sampled_from([0.0, 0.012, 0.014, 0.02, 0.03, 0.04, 0.06, 0.9]), max_size=4),
    alarms=st.lists(st.text(min_size=1), max_size=5),
)
def test_a_challenger_of_a_champion_passes_exactly_if_every_condition_holds(
    rule: Any,
    approve: Any,
    margin: float,
    share: float,
    counted: int,
    delta: float,
    half: float,
    p_values: list[float],
    alarms: list[str],
) -> None:
    settings = GateSettings(rule=rule, approve=approve, margin=margin, least_share=share)
    labels = [compared(-0.1 if number % 2 else 0.1, 0.05, p) for number, p in enumerate(p_values)]
    verdict = judge(settings, evidence(counted, compared(delta, half, 0.5), labels), alarms)
    ordered = sorted(p_values)
    # Holm: a p-value is significant if it and all smaller ones are below their own thresholds
    significant = [all(q * (len(ordered) - i) < 0.05 for i, q in enumerate(ordered) if q <= p) for p in p_values]
    wrong = {
        "rule": rule == "never",
        "labels that count": counted == 0 or counted < share * 4 - 1e-9,
        "mean validation AUC": delta - half <= (-margin if rule == "not_worse" else 0),
        "labels clearly worse": any(number % 2 and significant[number] for number in range(len(p_values))),
        "drift alarms": bool(alarms),
    }
    assert failing(verdict) == {name for name, is_wrong in wrong.items() if is_wrong}
    assert verdict.passes == (not any(wrong.values()))
    if verdict.passes:
        assert verdict.decision == {"automatic": "promoted", "manual": "waiting"}[approve]
    else:
        assert verdict.decision == "refused"
        assert all(c.sentence in verdict.reason for c in verdict.conditions if not c.holds)


@pytest.mark.parametrize(("lo", "counted", "alarms"), [*product([0.49, 0.5, 0.51, None], [1, 2], [(), ("drift",)])])
def test_a_first_champion_needs_labels_enough_a_mean_above_chance_and_no_alarm(
    lo: float | None, counted: int, alarms: tuple[str, ...]
) -> None:
    mean = Score(0.8, lo, 0.9 if lo else None, None if lo else "no interval: all scores are equal")
    verdict = judge(GateSettings(), evidence(counted, mean=mean), alarms)
    assert verdict.passes == (lo == 0.51 and counted == 2 and not alarms)
    assert ("mean validation AUC" in failing(verdict)) == (lo != 0.51)
    if verdict.passes:
        assert verdict.reason == (
            "promoted: mean validation AUC over 2 of 4 labels is 0.800 [0.510, 0.900]; there was no champion"
        )


def test_the_finding_that_two_labels_of_fourteen_made_a_first_champion_is_refused() -> None:
    names = tuple(f"label {number}" for number in range(14))
    verdict = judge(GateSettings(), Evidence(names, names[:2], None, Score(0.8, 0.68, 0.91)))
    assert failing(verdict) == {"labels that count"}
    assert "2 of 14; wanted: at least 7" in verdict.reason


@pytest.mark.parametrize("delta", [None, 0.3])
def test_a_difference_without_an_interval_does_not_pass(delta: float | None) -> None:
    verdict = judge(GateSettings(rule="not_worse"), evidence(4, compared(delta)))
    assert failing(verdict) == {"mean validation AUC"}
    assert "no interval: made up" in verdict.reason


@pytest.mark.parametrize(
    ("p", "labels", "worse"), [(0.04, 1, True), (0.06, 1, False), (0.012, 4, True), (0.014, 4, False)]
)
def test_a_label_is_clearly_worse_by_a_p_value_that_is_adjusted_for_the_labels(
    p: float, labels: int, worse: bool
) -> None:
    by_label = [compared(-0.1, 0.09, p), *[compared(0.1, 0.2, 0.3)] * (labels - 1)]
    assert failing(judge(GateSettings(), evidence(4, compared(0.1, 0.05), by_label))) == (
        {"labels clearly worse"} if worse else set()
    )


def test_a_label_on_which_all_patients_agree_that_it_is_worse_is_clearly_worse() -> None:
    verdict = judge(GateSettings(), evidence(4, compared(0.1, 0.05), [compared(-0.5), compared(None)]))
    assert failing(verdict) == {"labels clearly worse"}
    assert "Mass -0.500" in verdict.reason


def made_up(seed: int, labels: Sequence[str], skill: float, targets: dict[str, Any]) -> Predicted:
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(len(targets["Mass"]), len(labels)))
    return Predicted(tuple(labels), np.stack([skill * (targets[label] == 1) for label in labels], axis=1) + noise)


def test_only_labels_of_both_models_with_patients_enough_are_measured() -> None:
    generator = np.random.default_rng(0)
    patients = np.repeat(np.arange(150), 2).astype(np.str_)
    targets = {label: generator.integers(0, 2, 300).astype(np.int8) for label in LABELS}
    targets["Nodule"][:] = 0
    targets["Nodule"][:24] = 1  # twelve patients
    targets["Effusion"][:] = -1
    targets["Effusion"][:40] = np.repeat([0, 1], 20)  # ten patients with it, ten without
    challenger = made_up(1, ("Nodule", "Effusion", "Mass"), 1.5, targets)
    champion = made_up(2, ("Mass", "Edema", "Effusion", "Nodule"), 0.5, targets)
    how: dict[str, Any] = {"version": "7"}
    found = gather(targets, patients, challenger, champion, least_patients=12, **how)
    assert found.labels == ("Nodule", "Effusion", "Mass", "Edema")
    assert found.counted == ("Nodule", "Mass")
    assert found.champion == "7"
    assert gather(targets, patients, challenger, champion, least_patients=13, **how).counted == ("Mass",)
    assert gather(targets, patients, challenger, champion, least_patients=10, **how).counted == challenger.labels

    def auc(model: Predicted, label: str) -> float:
        return float(roc_auc_score(targets[label], model.probabilities[:, model.labels.index(label)]))

    assert found.mean.value == pytest.approx(np.mean([auc(challenger, label) for label in found.counted]))
    differences = {label: auc(challenger, label) - auc(champion, label) for label in found.counted}
    assert found.by_label is not None
    assert found.difference is not None
    assert {label: each.delta for label, each in found.by_label.items()} == pytest.approx(differences)
    assert found.difference.delta == pytest.approx(np.mean(list(differences.values())))

    alone = gather(targets, patients, challenger, None, version=None, least_patients=12)
    assert (alone.labels, alone.counted) == (challenger.labels, found.counted)
    assert (alone.difference, alone.mean) == (None, found.mean)


def test_models_without_a_label_in_common_are_refused() -> None:
    targets = {label: np.tile([0, 1], 50).astype(np.int8) for label in LABELS}
    one, other = made_up(1, LABELS[:1], 1.0, targets), made_up(2, LABELS[1:], 1.0, targets)
    patients = np.arange(100).astype(np.str_)
    verdict = judge(GateSettings(), gather(targets, patients, one, other, version="1", least_patients=10))
    assert failing(verdict) == {"labels that count", "mean validation AUC"}


def test_a_model_passes_against_itself_only_if_it_need_not_be_better() -> None:
    targets = {label: np.tile([0, 1], 50).astype(np.int8) for label in LABELS}
    model, patients = made_up(1, LABELS, 1.0, targets), np.arange(100).astype(np.str_)
    found = gather(targets, patients, model, model, version="1", least_patients=10)
    assert not judge(GateSettings(), found).passes
    assert judge(GateSettings(rule="not_worse"), found).passes
