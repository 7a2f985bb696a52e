"""Paired comparison of two methods on text tasks: any metric of `models.evaluation.classification`, groups of tasks.

A unit is a group of tasks, such as a pair: its score is the mean of the tasks' scores. Groups with a common task have
common test sentences, and the interval accounts for this; it also accounts for common networks (`crossed`).

Shapes: n test sentences of a task, c classes, s seeds, p distinct sentences of all tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation.classification import TaskTest, distinct_sentences, sum_by_sentence, task_score
from models.evaluation.paired import Differences, Scored, paired_differences

Predictions = Mapping[int, Mapping[str, NDArray]]
"""Training seed -> task -> (n, c) probabilities."""

_ScoredTasks = list[tuple[float, NDArray[np.float64], NDArray]]
"""Of each task: its score, and (n,) the influence and the key of each test sentence."""


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


def class_differences(groups: Mapping[str, Group]) -> dict[str, Differences | str]:
    """Compute each group's differences in score, the mean over its tasks, or the reason why it has none.

    Raises:
        ValueError: the shapes differ, or a number is not finite.
    """
    tests = [test for group in groups.values() for by_task in group.tests.values() for test in by_task.values()]
    distinct = distinct_sentences(tests)

    def score_tasks(group: Group, predictions: Predictions) -> dict[int, _ScoredTasks]:
        return {
            seed: [(*task_score(test, by_task[task]), test.sentences) for task, test in group.tests[seed].items()]
            for seed, by_task in predictions.items()
        }

    def difference(method: _ScoredTasks, baseline: _ScoredTasks) -> Scored:
        by_task = [
            (value - other, sum_by_sentence(influence - other_influence, sentences, distinct))
            for (value, influence, sentences), (other, other_influence, _) in zip(method, baseline, strict=True)
        ]
        deltas, influences = zip(*by_task, strict=True)
        return float(np.mean(deltas)), np.mean(influences, axis=0)

    units = {name: (score_tasks(each, each.method), score_tasks(each, each.baseline)) for name, each in groups.items()}
    return paired_differences(units, difference)
