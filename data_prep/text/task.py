"""A text classification task: sentences or pairs of them, their classes, and three parts that never mix.

n sentences (or pairs) of one part.

What is drawn here is drawn by name from a seed: the same seed gives the same parts, whatever else is read.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_prep.errors import DataError

VALIDATION_SHARE = TEST_SHARE = 0.1  # of the training part, where there is no official part (Kim 2014, section 3)


@dataclass(frozen=True, eq=False)
class Texts:
    """n sentences or pairs of sentences as they stand in the file, and their classes.

    first: n sentences. second: n sentences that belong to the first ones, or None where a task has no pairs.
    labels: (n,) int64, places in the task's `classes`.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: np.ndarray

    def __len__(self) -> int:
        """Return n."""
        return len(self.first)

    def take(self, rows: np.ndarray) -> "Texts":
        """Return the sentences of `rows` in that order; rows: (m,) whole numbers, or (n,) bool."""
        chosen = np.arange(len(self))[rows]
        second = None if self.second is None else tuple(self.second[row] for row in chosen)
        return Texts(tuple(self.first[row] for row in chosen), second, self.labels[chosen])

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:...`` of every sentence and label."""
        content = [self.first, self.second, self.labels.tolist()]
        return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class TextTask:
    """One task. The test part is the official one where there is one.

    name: as a person writes it ("mr", "cola"). classes: their names, in the order of the labels.
    metrics: the official ones by the names of `models/evaluation/metrics.py`; a task with two is scored by their mean.
    skipped: lines without a text, left out of the parts. notes: what a report should say of these data, one line each.
    """

    name: str
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    train: Texts
    val: Texts
    test: Texts
    skipped: int = 0
    notes: tuple[str, ...] = ()

    @cached_property
    def fingerprint(self) -> str:
        """``sha256:...`` of name, classes and all three parts, so that another split has another fingerprint."""
        parts = [part.fingerprint for part in (self.train, self.val, self.test)]
        return "sha256:" + hashlib.sha256(json.dumps([self.name, self.classes, parts]).encode()).hexdigest()

    def with_note(self, note: str, **changes: Texts) -> "TextTask":
        """Return the task with some parts changed, and the line that says so."""
        return dataclasses.replace(self, notes=(*self.notes, note), **changes)  # type: ignore[arg-type]


def text_generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of everything that is drawn for `purpose`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def split_off(
    texts: Texts, share: float, seed: int, purpose: str, groups: Sequence[str] | None = None
) -> tuple[Texts, Texts]:
    """Return (what stays, a plainly random `share` of the sentences), each in the order of the file.

    groups: n names; sentences of the same name go the same way, and the share is one of names.
    """
    names = np.arange(len(texts)) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
    count = int(names.max()) + 1 if len(names) else 0
    if count < 2:
        raise DataError(f"{purpose}: {count} sentences cannot be split; give at least 2")
    taken = min(max(round(share * count), 1), count - 1)
    chosen = text_generator(seed, purpose).permutation(count)[:taken]
    away = np.isin(names, chosen)
    return texts.take(~away), texts.take(away)


def split_off_fold(texts: Texts, fold: tuple[int, int], seed: int, purpose: str) -> tuple[Texts, Texts]:
    """Return (the other folds, fold i) of a seeded cut into `of` folds of nearly equal size; fold: (i, of).

    Raises DataError unless 0 <= i < of and 2 <= of <= n.
    """
    which, of = fold
    if not 2 <= of <= len(texts):
        raise DataError(f"{purpose}: {of} folds of {len(texts)} sentences; choose 2 to {len(texts)}")
    if not 0 <= which < of:
        raise DataError(f"{purpose}: there is no fold {which}; the folds are 0 to {of - 1}")
    order = text_generator(seed, purpose).permutation(len(texts))
    away = np.zeros(len(texts), dtype=bool)
    away[np.array_split(order, of)[which]] = True
    return texts.take(~away), texts.take(away)


def capped(task: TextTask, limit: int | None, seed: int) -> TextTask:
    """Return the task with at most `limit` training sentences; validation and test stay as they are.

    The sentences are plainly random, without regard to their classes; those of a smaller limit are among those of
    a larger one. Raises DataError for a limit below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} training sentences; give at least 1, or none")
    if limit is None or limit >= len(task.train):
        return task
    kept = np.sort(text_generator(seed, f"limit {task.name}").permutation(len(task.train))[:limit])
    note = f"{limit} of {len(task.train)} training sentences, drawn with seed {seed}"
    return task.with_note(note, train=task.train.take(kept))
