"""A text classification task: sentences or pairs of sentences with classes, in a train, validation and test part.

n sentences (or pairs) of one part.

Every random draw depends only on the seed and its purpose: the same seed gives the same parts, whatever else is read.
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
    """n sentences or pairs of sentences as in the file, and their classes.

    Attributes:
        first: n sentences.
        second: the n second sentences of a task of pairs, else None.
        labels: (n,) int64, indices into the task's `classes`.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: np.ndarray

    def __len__(self) -> int:
        """Return n."""
        return len(self.first)

    def take(self, rows: np.ndarray) -> "Texts":
        """Return the sentences of `rows` in that order; rows: (m,) integers, or (n,) bool."""
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
    """One task.

    Attributes:
        name: in lower case ("mr", "cola").
        classes: their names, in the order of the labels.
        metrics: the official ones, named as in `models.evaluation.metrics`; a task with two is scored by their mean.
        train: the training part.
        val: the validation part.
        test: the test part; the official one if there is one.
        skipped: number of lines without a text; they are in no part.
        notes: remarks for the report, one line each.
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
        """``sha256:...`` of name, classes and all three parts, so that every split has its own fingerprint."""
        parts = [part.fingerprint for part in (self.train, self.val, self.test)]
        return "sha256:" + hashlib.sha256(json.dumps([self.name, self.classes, parts]).encode()).hexdigest()

    def with_note(self, note: str, **changes: Texts) -> "TextTask":
        """Return the task with the parts in `changes` replaced, and a note about it."""
        return dataclasses.replace(self, notes=(*self.notes, note), **changes)  # type: ignore[arg-type]


def text_generator(seed: int, purpose: str) -> np.random.Generator:
    """Return the random generator for `purpose`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(purpose.encode())))


def split_off(
    texts: Texts, share: float, seed: int, purpose: str, groups: Sequence[str] | None = None
) -> tuple[Texts, Texts]:
    """Split off a random `share` of the sentences, without regard to their classes.

    Args:
        texts: n sentences.
        share: in (0, 1).
        seed: of the draw.
        purpose: of the draw; names its random generator.
        groups: n names; sentences of the same name stay in the same part, and `share` is of the names.

    Returns:
        (the rest, the part that was split off), each in the order of the file.

    Raises:
        DataError: there are fewer than 2 sentences or names.
    """
    names = np.arange(len(texts)) if groups is None else np.unique(np.array(groups), return_inverse=True)[1]
    count = int(names.max()) + 1 if len(names) else 0
    if count < 2:
        raise DataError(f"{purpose}: {count} sentences cannot be split; give at least 2")
    taken = min(max(round(share * count), 1), count - 1)
    chosen = text_generator(seed, purpose).permutation(count)[:taken]
    in_part = np.isin(names, chosen)
    return texts.take(~in_part), texts.take(in_part)


def split_off_fold(texts: Texts, fold: tuple[int, int], seed: int, purpose: str) -> tuple[Texts, Texts]:
    """Split off one fold of a random partition into folds of nearly equal size.

    Args:
        texts: n sentences.
        fold: (number of the fold, number of folds).
        seed: of the draw.
        purpose: of the draw; names its random generator.

    Returns:
        (the other folds, the fold), each in the order of the file.

    Raises:
        DataError: there is no such fold, or the number of folds is below 2 or above n.
    """
    number, folds = fold
    if not 2 <= folds <= len(texts):
        raise DataError(f"{purpose}: {folds} folds of {len(texts)} sentences; choose 2 to {len(texts)}")
    if not 0 <= number < folds:
        raise DataError(f"{purpose}: there is no fold {number}; the folds are 0 to {folds - 1}")
    order = text_generator(seed, purpose).permutation(len(texts))
    in_fold = np.zeros(len(texts), dtype=bool)
    in_fold[np.array_split(order, folds)[number]] = True
    return texts.take(~in_fold), texts.take(in_fold)


def limit_training(task: TextTask, limit: int | None, seed: int) -> TextTask:
    """Return the task with at most `limit` training sentences; validation and test parts stay whole.

    The sentences are drawn without regard to their classes; those of a smaller limit are a subset of those of a
    larger one.

    Raises:
        DataError: the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} training sentences; give at least 1, or none")
    if limit is None or limit >= len(task.train):
        return task
    kept = np.sort(text_generator(seed, f"limit {task.name}").permutation(len(task.train))[:limit])
    note = f"{limit} of {len(task.train)} training sentences, drawn with seed {seed}"
    return task.with_note(note, train=task.train.take(kept))
