"""Sentences that stand in two data sets: a test sentence of one task must not be trained on as another's.

SST was made from MR's reviews: 1,431 of SST's 1,821 test sentences also stand in MR, 1,376 with the same label. So
were SUBJ's subjective sentences: 4,179 of them stand in MR. Copies differ in spaces, capitals, accents' encodings
and punctuation, so sentences are compared by their letters and digits alone.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from data_prep.text.task import Texts, TextTask

_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")


class Shared(NamedTuple):
    """How many sentences of one set also stand in another, and how many of them with the same label."""

    sentences: int
    same_label: int


def normalised(text: str) -> str:
    """Return the letters and digits of `text` in lower case: what sentences are compared by."""
    return _NEITHER_LETTER_NOR_DIGIT.sub("", text.lower())


def shared_sentences(these: Texts, others: Iterable[Texts]) -> Shared:
    """Count those of `these` that also stand in `others`; labels are compared by their numbers."""
    labels: dict[str, set[int]] = {}
    for texts in others:
        for key, label in zip(_keys(texts), texts.labels.tolist(), strict=True):
            labels.setdefault(key, set()).add(label)
    found = [(key, label) for key, label in zip(_keys(these), these.labels.tolist(), strict=True) if key in labels]
    return Shared(len(found), sum(label in labels[key] for key, label in found))


def without_overlap(tasks: Mapping[str, TextTask]) -> dict[str, TextTask]:
    """Return the tasks without the sentences that would let one be trained or chosen on another's test part.

    A training part loses what stands in the validation or test part of another task, a validation part what stands
    in another's test part. Test parts stay whole, so that their scores compare with those of the literature. What is
    removed is counted in the task's notes.
    """
    judged = {name: (set(_keys(task.val)), set(_keys(task.test))) for name, task in tasks.items()}
    return {
        name: _without(task, {other: sets for other, sets in judged.items() if other != name})
        for name, task in tasks.items()
    }


def _without(task: TextTask, others: dict[str, tuple[set[str], set[str]]]) -> TextTask:
    """others: the keys of the validation and the test part of each other task."""
    train, val = _keys(task.train), _keys(task.val)
    tested = set().union(*(test for _, test in others.values()))
    judged = tested.union(*(chosen_on for chosen_on, _ in others.values()))
    keep_train = np.array([key not in judged for key in train], dtype=bool)
    keep_val = np.array([key not in tested for key in val], dtype=bool)
    if keep_train.all() and keep_val.all():
        return task
    where = [name for name, (chosen_on, test) in others.items() if not test.union(chosen_on).isdisjoint(train + val)]
    note = (
        f"{np.count_nonzero(~keep_train)} of {len(train)} training and {np.count_nonzero(~keep_val)} of {len(val)} "
        f"validation sentences left out: other tasks ({', '.join(where)}) are validated or tested on them"
    )
    return task.with_note(note, train=task.train.take(keep_train), val=task.val.take(keep_val))


def _keys(texts: Texts) -> list[str]:
    """Return n normalised sentences; one without a letter or digit stands as it is."""
    second = texts.second or ("",) * len(texts)
    return [normalised(a + b) or a for a, b in zip(texts.first, second, strict=True)]
