"""Paired comparison of two methods on text tasks: any metric of `models.evaluation.classification`, groups of tasks.

A unit is a group of tasks, such as a pair: its score is the mean of the tasks' scores. Groups with a common task have
common test sentences, and the interval accounts for this; it also accounts for common networks (`crossed`).

Shapes: n test sentences of a task, c classes, s seeds, p distinct sentences of all tasks.
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

    Attributes:
        tests: training seed -> task -> test set; the same for every seed, except with one cross-validation fold per
            seed.
        method: predictions of the method.
        baseline: predictions of the baseline.
    """

    tests: Mapping[int, Mapping[str, TaskTest]]
    method: Predictions
    baseline: Predictions


def compare_classes(groups: Mapping[str, Group], *, crossed: bool) -> Comparison:
    """Compare two methods over all groups; the groups are taken as given, not as a sample of others.

    Args:
        groups: by name.
        crossed: whether groups share networks (see `models.evaluation.paired.compare_units`).

    Returns:
        The mean difference with its interval.

    Raises:
        ValueError: the shapes differ, or a number is not finite.
    """
    keys = [(name, seed, task) for name, group in groups.items() for seed in group.tests for task in group.tests[seed]]
    numbers, distinct = number_sentences([groups[name].tests[seed][task] for name, seed, task in keys])
    sentence_numbers = dict(zip(keys, numbers, strict=True))
    differences = {name: _differences(name, group, sentence_numbers, distinct) for name, group in groups.items()}
    return compare_units(differences, crossed=crossed, sampled="sentences")


def _differences(
    name: str, group: Group, sentence_numbers: Mapping[tuple[str, int, str], NDArray[np.int64]], distinct: int
) -> Differences | str:
    """Compute a group's differences, or return the reason why there are none."""
    seeds = sorted(set(group.method) & set(group.baseline))
    if not seeds:
        return "no seed in common"
    deltas, influence = [], []
    for seed in seeds:
        by_task = {task: _task_difference(group, seed, task) for task in group.tests[seed]}
        deltas.append(np.mean([delta for delta, _ in by_task.values()]))
        by_sentence = [
            sum_by_sentence(row_influence, sentence_numbers[name, seed, task], distinct)
            for task, (_, row_influence) in by_task.items()
        ]
        influence.append(np.mean(by_sentence, axis=0))
    return Differences(seeds, np.array(deltas), np.stack(influence, axis=1))


def _task_difference(group: Group, seed: int, task: str) -> tuple[float, NDArray[np.float64]]:
    """Compute the difference on one task, and the influence of its test sentences on it."""
    (method, method_influence), (baseline, baseline_influence) = (
        task_score(group.tests[seed][task], predictions[seed][task]) for predictions in (group.method, group.baseline)
    )
    return method - baseline, method_influence - baseline_influence
