"""Texts as token numbers, and the batches of an epoch: texts of like length together, one task per batch.

Padding costs as much as text does, so an epoch's texts are sorted by length within random pools before they are cut
into batches; the batches then come in random order. Everything is a function of (seed, task, epoch).

Shapes: n texts, t tokens in all, b texts of a batch, l tokens of its longest, k tasks. Token 0 is padding.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.errors import SettingError
from models.randomness import epoch_order, hashed, seed_for

POOL = 50
"""Batches whose texts are sorted by length together. More would pad less and leave fewer chances who meets whom."""


class TextBatch(NamedTuple):
    """Texts of one task. ids: (b, l) int64; lengths: (b,) int64, always on the CPU; types: (b, l) int64, the segment
    of each token, or none; targets: (b,) int64 class numbers."""

    ids: Tensor
    lengths: Tensor
    types: Tensor | None
    targets: Tensor

    @property
    def mask(self) -> Tensor:
        """(b, l) bool: where there is a token."""
        return (torch.arange(self.ids.shape[1]) < self.lengths[:, None]).to(self.ids.device)

    def to(self, device: torch.device | str) -> "TextBatch":
        """The same on a device."""
        types = None if self.types is None else self.types.to(device)
        return TextBatch(self.ids.to(device), self.lengths, types, self.targets.to(device))

    def split(self, size: int) -> Iterator["TextBatch"]:
        """Parts of `size` texts at most, nearly equal, each as narrow as its longest text."""
        count = -(-len(self.targets) // size)
        for rows in torch.arange(len(self.targets)).tensor_split(count):
            lengths = self.lengths[rows]
            part, width = slice(int(rows[0]), int(rows[-1]) + 1), int(lengths.max())
            types = None if self.types is None else self.types[part, :width]
            yield TextBatch(self.ids[part, :width], lengths, types, self.targets[part])


@dataclass(frozen=True)
class TextExamples:
    """A task's texts, on the CPU. ids: (t,) int32; offsets: (n+1,) int64, text i being ids[offsets[i]:offsets[i+1]];
    targets: (n,) int64; types: (t,) int8 or none."""

    ids: Tensor
    offsets: Tensor
    targets: Tensor
    types: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> Tensor:
        """(n,) int64, tokens per text."""
        return self.offsets.diff()

    def batch(self, rows: Tensor) -> TextBatch:
        """The texts (b,) int64 of 0..n-1, padded at their ends."""
        lengths = self.lengths[rows]
        along = torch.arange(int(lengths.max()))
        there = along < lengths[:, None]
        places = (self.offsets[rows][:, None] + along).where(there, 0)
        types = None if self.types is None else self.types[places].long().where(there, 0)
        return TextBatch(self.ids[places].long().where(there, 0), lengths, types, self.targets[rows])


def text_examples(ids: Any, offsets: Any, targets: Any, types: Any = None) -> TextExamples:
    """Examples from arrays or tensors, checked.

    Args:
        ids: (t,) integers, at least 0.
        offsets: (n+1,) integers from 0 to t, rising: every text has a token.
        targets: (n,) class numbers.
        types: (t,) integers, or none.

    Raises:
        SettingError: there are no texts, one has no token, or the parts disagree.
    """
    made = TextExamples(
        torch.as_tensor(np.array(ids, dtype=np.int32)),
        torch.as_tensor(np.array(offsets, dtype=np.int64)),
        torch.as_tensor(np.array(targets, dtype=np.int64)),
        None if types is None else torch.as_tensor(np.array(types, dtype=np.int8)),
    )
    n, t = len(made.targets), len(made.ids)
    if n == 0 or len(made.offsets) != n + 1:
        raise SettingError(
            f"texts need one more offset than targets, of which at least one; got {len(made.offsets)}, {n}"
        )
    if made.offsets[0] != 0 or made.offsets[-1] != t or (types is not None and len(types) != t):
        raise SettingError(f"offsets and types must cover the {t} tokens exactly")
    if (made.lengths < 1).any():
        raise SettingError(f"text {int(made.lengths.argmin())} has no token: leave texts without any out")
    if made.ids.min() < 0 or made.targets.min() < 0:
        raise SettingError("token and class numbers must be at least 0")
    return made


def bucketed(lengths: Tensor, batch_size: int, *, seed: int, task: str, epoch: int) -> list[Tensor]:
    """The batches of one pass over a task's texts: (b,) int64 row numbers each.

    Every text comes once; sizes differ by at most one within a pool, and none exceeds batch_size.

    Args:
        lengths: (n,) tokens per text.
        task: its name; each task has an order of its own, whatever other tasks there are.
        epoch: passes over this task's texts before this one.
    """
    own = seed_for(seed, f"order of {task}") >> 1
    order = epoch_order(own, epoch, len(lengths))
    batches: list[Tensor] = []
    for pool in order.tensor_split(-(-len(order) // (POOL * batch_size))):
        alike = pool[torch.argsort(lengths[pool], stable=True)]
        batches += alike.tensor_split(-(-len(pool) // batch_size))
    rank = hashed(own, "order of batches", epoch, torch.arange(len(batches)), 1)[:, 0]
    return [batches[i] for i in torch.argsort(rank, stable=True)]


def by_length(lengths: Tensor, batch_size: int) -> list[Tensor]:
    """Batches for a pass in which the order does not matter: all texts by length."""
    return list(torch.argsort(lengths, stable=True).split(batch_size))


def padding_share(lengths: Tensor, batches: list[Tensor]) -> float:
    """Share of all places in the batches that hold padding, in [0, 1)."""
    places = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / places


def steps_per_task(batches: Mapping[str, int], exponent: float) -> dict[str, int]:
    """Steps each task gets in an epoch, of as many in all as the tasks have batches.

    Args:
        batches: batches in one pass over each task.
        exponent: of a task's size in its share: 1 by size (each task passes once), 0 uniform, between: tempered.

    Returns:
        At least one step each; they sum up to the sum of the batches.
    """
    total = sum(batches.values())
    weights = np.array([count**exponent for count in batches.values()])
    exact = weights / weights.sum() * total
    steps = np.maximum(1, np.floor(exact).astype(int))
    for place in np.argsort(-(exact - steps), kind="stable"):  # largest remainders first
        if steps.sum() < total:
            steps[place] += 1
    while steps.sum() > total:  # only where shares below one were rounded up
        steps[steps.argmax()] -= 1
    return dict(zip(batches, steps.tolist(), strict=True))


def task_sequence(steps: Mapping[str, int], *, seed: int, epoch: int) -> list[str]:
    """The order in which an epoch's steps visit the tasks: each as often as `steps` says, at random places."""
    names = [name for name, count in steps.items() for _ in range(count)]
    rank = hashed(seed, "sequence of tasks", epoch, torch.arange(len(names)), 1)[:, 0]
    return [names[i] for i in torch.argsort(rank, stable=True)]


class TaskBatches:
    """The batches of many tasks, step by step. Where a task gets other than a whole pass in an epoch, its passes go
    on in the next epoch where this one left off.

    Args:
        examples: of each task.
        exponent: as in `steps_per_task`.
    """

    def __init__(self, examples: Mapping[str, TextExamples], batch_size: int, exponent: float, seed: int) -> None:
        self.examples, self._batch_size, self._seed = examples, batch_size, seed
        self._lengths = {task: texts.lengths for task, texts in examples.items()}
        self._passes = {task: len(self._one_pass(task, 0)) for task in examples}
        self.steps = steps_per_task(self._passes, exponent)

    @property
    def steps_per_epoch(self) -> int:
        return sum(self.steps.values())

    def epoch(self, epoch: int) -> list[tuple[str, Tensor]]:
        """An epoch's steps, counted from 1: a task and the (b,) rows of its texts each."""
        queues = {task: iter(self._rows_of(task, epoch)) for task in self.examples}
        return [(task, next(queues[task])) for task in task_sequence(self.steps, seed=self._seed, epoch=epoch)]

    def padding_share(self, steps: list[tuple[str, Tensor]]) -> float:
        """Share of the places in these steps that hold padding, in [0, 1)."""
        taken = [self._lengths[task][rows] for task, rows in steps]
        return 1 - sum(int(own.sum()) for own in taken) / sum(len(own) * int(own.max()) for own in taken)

    def _rows_of(self, task: str, epoch: int) -> list[Tensor]:
        each, count = self._passes[task], self.steps[task]
        begin = (epoch - 1) * count
        passes = range(begin // each, math.ceil((begin + count) / each))
        rows = [batch for number in passes for batch in self._one_pass(task, number)]
        return rows[begin % each : begin % each + count]

    def _one_pass(self, task: str, number: int) -> list[Tensor]:
        return bucketed(self._lengths[task], self._batch_size, seed=self._seed, task=task, epoch=number)
