"""Paired differences for tasks on sentences: any metric of `models.evaluation.classification`, over groups of tasks.

n test sentences of a task, c classes, s seeds, p distinct sentences of all tasks.

A unit is a group of tasks, such as a pair: its score is the mean over the tasks' scores. Groups that share a task share
its test sentences, and that is taken into account; so are networks that they share (`crossed`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.classification import TaskTest, number_sentences, sum_by_sentence, task_score
from models.evaluation.paired import Comparison, Differences, compare_units

Predictions = Mapping[int, Mapping[str, NDArray]]
"""Training seed -> task -> (n, c) probabilities."""


@dataclass(frozen=True)
class Group:
    """The predictions of two methods for the tasks of a unit.

    tests: training seed -> task -> test part; the same of every seed, unless each seed has a fold of its own.
    """

    tests: Mapping[int, Mapping[str, TaskTest]]
    method: Predictions
    baseline: Predictions


def compare_classes(groups: Mapping[str, Group], *, crossed: bool) -> Comparison:
    """Compare two methods over all groups at once; the groups are taken as they are, not as a sample of others.

    crossed: groups share networks (see `models.evaluation.paired.compare_units`).
    """
    places = [
        (name, seed, task) for name, group in groups.items() for seed in group.tests for task in group.tests[seed]
    ]
    numbers, distinct = number_sentences([groups[name].tests[seed][task] for name, seed, task in places])
    numbered = dict(zip(places, numbers, strict=True))
    found = {name: _differences(name, group, numbered, distinct) for name, group in groups.items()}
    return compare_units(found, crossed=crossed, tested="sentences")


def _differences(
    name: str, group: Group, numbered: Mapping[tuple[str, int, str], NDArray[np.int64]], distinct: int
) -> Differences | str:
    seeds = sorted(set(group.method) & set(group.baseline))
    if not seeds:
        return "no seed in common"
    deltas, influence = [], []
    for seed in seeds:
        parts = {task: _of_task(group, seed, task) for task in group.tests[seed]}
        deltas.append(np.mean([delta for delta, _ in parts.values()]))
        by_sentence = [
            sum_by_sentence(shares, numbered[name, seed, task], distinct) for task, (_, shares) in parts.items()
        ]
        influence.append(np.mean(by_sentence, axis=0))
    return Differences(seeds, np.array(deltas), np.stack(influence, axis=1))


def _of_task(group: Group, seed: int, task: str) -> tuple[float, NDArray[np.float64]]:
    """The difference on one task, and the shares of its test sentences in it."""
    (method, of_method), (baseline, of_baseline) = (
        task_score(group.tests[seed][task], predictions[seed][task]) for predictions in (group.method, group.baseline)
    )
    return method - baseline, of_method - of_baseline
