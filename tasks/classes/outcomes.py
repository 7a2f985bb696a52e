"""What a classification study found, in parts and in sentences."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from tasks.classes.spec import METHOD
from tasks.records.arms import ArmRecord
from tasks.records.comparisons import ComparisonRecord
from tasks.records.interaction_text import interaction_answer
from tasks.records.slices import policies_with
from tasks.records.study import StudyResults
from tasks.records.summary_text import answer as answer_of
from tasks.records.summary_text import describe_metric, signed


class MeanOverSeeds(NamedTuple):
    """A mean of a fact over seeds, with its 95 % interval by Student's t; none with fewer than three seeds."""

    value: float
    lo: float | None
    hi: float | None


def lengths_of(results: StudyResults) -> tuple[str, ...]:
    """Return the lengths of training, in the order of the arms."""
    return tuple(dict.fromkeys(arm.factors["length"] for arm in results.arms))


def at_length(results: StudyResults, length: str) -> StudyResults:
    """Return the results of the arms of one length."""
    fields = {
        name: tuple(_without_length(c) for c in getattr(results, name) if c.held.get("length", length) == length)
        for name in ("comparisons", "floor", "interactions")
    }
    arms = tuple(arm for arm in results.arms if arm.factors["length"] == length)
    return results.model_copy(update={**fields, "arms": arms})


def _without_length(comparison: ComparisonRecord) -> ComparisonRecord:
    held = {factor: level for factor, level in comparison.held.items() if factor != "length"}
    return comparison.model_copy(update={"held": held})


def question(results: StudyResults) -> str:
    """Write the question of the study."""
    noisy = ", with and without wrong labels" if any(c.kind != "none" for c in results.conditions) else ""
    better = f"a higher test {results.arms[0].metric} on {results.data.name} than {results.baseline_policy}"
    return f"Which augmentation policy has {better}{noisy}?"


def answer(results: StudyResults) -> list[str]:
    """Write the answer for the longest training, and what choosing the epoch on test images would have added."""
    *_, longest = lengths_of(results)
    part = at_length(results, longest)
    floor = tuple(c for c in part.floor if c.held.get("policy", part.baseline_policy) == part.baseline_policy)
    compared = policies_with(part.model_copy(update={"floor": floor}), METHOD)
    sentences = [*interaction_answer(part), *answer_of(compared)]
    if len(lengths_of(results)) > 1:
        sentences = [f"After {longest}: {sentences[0][0].lower()}{sentences[0][1:]}", *sentences[1:]]
    return [*sentences, *_choice_sentences(results)]


def _choice_sentences(results: StudyResults) -> list[str]:
    added = means_over_seeds(results.arms, "chosen_on_test")
    values = [mean.value for mean in added.values()]
    if not values:
        return []
    metric = describe_metric(results.arms[0].metric)
    return [
        f"Had each training's epoch been chosen on the test images, as published results often do, test {metric} would "
        f"have been {signed(min(values))} to {signed(max(values))} higher, by policy and condition; it was chosen on "
        "validation images."
    ]


def means_over_seeds(arms: Sequence[ArmRecord], fact: str) -> Mapping[tuple[str, ...], MeanOverSeeds]:
    """Average a fact of the finished arms over seeds, by the levels of their factors."""
    values: dict[tuple[str, ...], list[float]] = {}
    for arm in arms:
        if fact in arm.facts:
            values.setdefault(levels_of(arm), []).append(arm.facts[fact])
    return {levels: _mean(of_levels) for levels, of_levels in values.items()}


def levels_of(arm: ArmRecord, **changed: str) -> tuple[str, ...]:
    """Return the levels of an arm's factors, some of them changed."""
    return tuple((arm.factors | changed).values())


def _mean(values: Sequence[float]) -> MeanOverSeeds:
    mean, n = fmean(values), len(values)
    if n < 3:
        return MeanOverSeeds(mean, None, None)
    half = float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / n**0.5)
    return MeanOverSeeds(mean, mean - half, mean + half)
