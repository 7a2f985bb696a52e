"""Overlap: sentences that are in two data sets, which must not be trained on for one task and tested on for another.

SST was made from MR's reviews: 1,431 of SST's 1,821 test sentences are also in MR, 1,376 with the same label. SUBJ's
subjective sentences were too: 4,179 of them are in MR. What counts as the same sentence: `data_prep.text.sentence_key`.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from data_prep.text.sentence_key import sentence_keys
from data_prep.text.task import Texts, TextTask


class Overlap(NamedTuple):
    """The number of sentences of one set that are also in others, and how many of them have the same label there."""

    sentences: int
    same_label: int


def count_overlap(texts: Texts, others: Iterable[Texts]) -> Overlap:
    """Count the sentences of `texts` that are also in `others`; labels are compared by their numbers."""
    labels: dict[str, set[int]] = {}
    for other in others:
        for key, label in zip(sentence_keys(other), other.labels.tolist(), strict=True):
            labels.setdefault(key, set()).add(label)
    keys = zip(sentence_keys(texts), texts.labels.tolist(), strict=True)
    found = [(key, label) for key, label in keys if key in labels]
    return Overlap(len(found), sum(label in labels[key] for key, label in found))


def remove_overlap(tasks: Mapping[str, TextTask]) -> dict[str, TextTask]:
    """Return the tasks without the sentences by which one would be trained or selected on the test part of another.

    A training part loses the sentences of the validation and test parts of other tasks, a validation part those of
    the test parts of other tasks. Test parts stay whole, so that scores on them compare with those of the literature.
    The tasks' notes count what is removed.
    """
    held_out = {name: (set(sentence_keys(task.val)), set(sentence_keys(task.test))) for name, task in tasks.items()}
    return {
        name: _without(task, {other: parts for other, parts in held_out.items() if other != name})
        for name, task in tasks.items()
    }


def _without(task: TextTask, held_out: Mapping[str, tuple[set[str], set[str]]]) -> TextTask:
    """Return the task without the sentences that others hold out: name -> keys of the validation and the test part."""
    train, val = sentence_keys(task.train), sentence_keys(task.val)
    in_test = set[str]().union(*(test for _, test in held_out.values()))
    in_either = in_test.union(*(other_val for other_val, _ in held_out.values()))
    keep_train = np.array([key not in in_either for key in train], dtype=bool)
    keep_val = np.array([key not in in_test for key in val], dtype=bool)
    if keep_train.all() and keep_val.all():
        return task
    where = [name for name, parts in held_out.items() if not set().union(*parts).isdisjoint(train + val)]
    note = (
        f"{np.count_nonzero(~keep_train)} of {len(train)} training and {np.count_nonzero(~keep_val)} of {len(val)} "
        f"validation sentences left out: they are in the validation or test part of other tasks ({', '.join(where)})"
    )
    return task.with_note(note, train=task.train.take(keep_train), val=task.val.take(keep_val))
