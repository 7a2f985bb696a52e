"""Text examples as token numbers, and the batches of an epoch, bucketed by length; each batch is of one task.

Padding costs as much time as text. An epoch's texts are therefore sorted by length within random pools before they are
cut into batches; then the batches are put in random order. The order is a function of (seed, task, epoch).

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
from models.randomness import epoch_order, random_bits, seed_for

POOL = 50
"""Number of batches in a pool, within which texts are sorted by length. A larger pool needs less padding, but makes
the batches less random."""


class TextBatch(NamedTuple):
    """A batch of texts of one task.

    Attributes:
        ids: token numbers, (b, l) int64; 0 after the end of a text.
        lengths: tokens per text, (b,) int64, always on the CPU.
        types: segment of each token, (b, l) int64, or None.
        targets: class numbers, (b,) int64.
    """

    ids: Tensor
    lengths: Tensor
    types: Tensor | None
    targets: Tensor

    @property
    def mask(self) -> Tensor:
        """(b, l) bool, true for a token, false for padding."""
        return (torch.arange(self.ids.shape[1]) < self.lengths[:, None]).to(self.ids.device)

    def to(self, device: torch.device | str) -> "TextBatch":
        """Copy the batch to a device; the lengths stay on the CPU."""
        types = None if self.types is None else self.types.to(device)
        return TextBatch(self.ids.to(device), self.lengths, types, self.targets.to(device))

    def take(self, index: Tensor) -> "TextBatch":
        """Return the texts of an index, (m,) int64 on the CPU, in its order; the width stays."""
        return TextBatch(*(None if part is None else part[index] for part in self))  # type: ignore[arg-type]

    def split(self, size: int) -> Iterator["TextBatch"]:
        """Yield parts of at most `size` texts and nearly equal size, each padded only to its longest text."""
        count = -(-len(self.targets) // size)
        for rows in torch.arange(len(self.targets)).tensor_split(count):
            lengths = self.lengths[rows]
            part, width = slice(int(rows[0]), int(rows[-1]) + 1), int(lengths.max())
            types = None if self.types is None else self.types[part, :width]
            yield TextBatch(self.ids[part, :width], lengths, types, self.targets[part])


@dataclass(frozen=True)
class TextExamples:
    """A task's texts, on the CPU.

    Attributes:
        ids: token numbers of all texts, (t,) int32.
        offsets: (n+1,) int64; text i is ids[offsets[i]:offsets[i+1]].
        targets: class numbers, (n,) int64.
        types: segment of each token, (t,) int8, or None.
    """

    ids: Tensor
    offsets: Tensor
    targets: Tensor
    types: Tensor | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def lengths(self) -> Tensor:
        """Tokens per text, (n,) int64."""
        return self.offsets.diff()

    def batch(self, rows: Tensor) -> TextBatch:
        """Collect the texts in rows (b,) int64 of 0..n-1 into a batch, padded at their ends."""
        lengths = self.lengths[rows]
        positions = torch.arange(int(lengths.max()))
        valid = positions < lengths[:, None]
        indices = (self.offsets[rows][:, None] + positions).where(valid, 0)
        types = None if self.types is None else self.types[indices].long().where(valid, 0)
        return TextBatch(self.ids[indices].long().where(valid, 0), lengths, types, self.targets[rows])


def text_examples(ids: Any, offsets: Any, targets: Any, types: Any = None) -> TextExamples:
    """Make and check examples from arrays or tensors.

    Args:
        ids: (t,) integers, at least 0.
        offsets: (n+1,) integers from 0 to t, strictly increasing, since every text has a token.
        targets: (n,) class numbers, at least 0.
        types: (t,) integers, the segment of each token, or None.

    Raises:
        SettingError: there are no texts, a text has no token, a number is negative, or the sizes do not match.
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
            f"texts need at least one target, and one more offset than targets; got {len(made.offsets)} offsets and "
            f"{n} targets"
        )
    if made.offsets[0] != 0 or made.offsets[-1] != t or (types is not None and len(types) != t):
        raise SettingError(f"offsets and types must cover the {t} tokens exactly")
    if (made.lengths < 1).any():
        raise SettingError(f"text {int(made.lengths.argmin())} has no token: remove texts without tokens")
    if made.ids.min() < 0 or made.targets.min() < 0:
        raise SettingError("token and class numbers must be at least 0")
    return made


def bucket_by_length(lengths: Tensor, batch_size: int, *, seed: int, task: str, epoch: int) -> list[Tensor]:
    """Cut one pass over a task's texts into batches of similar length.

    Args:
        lengths: tokens per text, (n,).
        batch_size: largest number of texts in a batch.
        seed: of the training, at least 0.
        task: its name; each task has its own order, which does not depend on the other tasks.
        epoch: number of passes over this task's texts before this one.

    Returns:
        Row numbers of each batch, (b,) int64. Every text occurs once; sizes differ by at most one within a pool.
    """
    task_seed = seed_for(seed, f"order of {task}") >> 1
    order = epoch_order(task_seed, epoch, len(lengths))
    batches: list[Tensor] = []
    for pool in order.tensor_split(-(-len(order) // (POOL * batch_size))):
        by_length = pool[torch.argsort(lengths[pool], stable=True)]
        batches += by_length.tensor_split(-(-len(pool) // batch_size))
    rank = random_bits(task_seed, "order of batches", epoch, torch.arange(len(batches)), 1)[:, 0]
    return [batches[i] for i in torch.argsort(rank, stable=True)]


def sort_by_length(lengths: Tensor, batch_size: int) -> list[Tensor]:
    """Cut all texts, sorted by length, into batches of row numbers (b,) int64, for passes in any order."""
    return list(torch.argsort(lengths, stable=True).split(batch_size))


def padding_share(lengths: Tensor, batches: list[Tensor]) -> float:
    """Return the share of padding among all positions of these batches, in [0, 1)."""
    positions = sum(len(rows) * int(lengths[rows].max()) for rows in batches)
    return 1 - sum(int(lengths[rows].sum()) for rows in batches) / positions


def steps_per_task(batches: Mapping[str, int], exponent: float) -> dict[str, int]:
    """Divide an epoch's steps among the tasks; the total is the number of batches of all tasks.

    Args:
        batches: number of batches in one pass over each task.
        exponent: a task's share is proportional to its size to this power. 1: by size (one pass over each task);
            0: uniform; between: tempered.

    Returns:
        Number of steps of each task, at least one; their sum is the sum of `batches`.
    """
    total = sum(batches.values())
    weights = np.array([count**exponent for count in batches.values()])
    exact = weights / weights.sum() * total
    steps = np.maximum(1, np.floor(exact).astype(int))
    for i in np.argsort(-(exact - steps), kind="stable"):  # largest remainders first
        if steps.sum() < total:
            steps[i] += 1
    while steps.sum() > total:  # only if shares below one were rounded up
        steps[steps.argmax()] -= 1
    return dict(zip(batches, steps.tolist(), strict=True))


def task_sequence(steps: Mapping[str, int], *, seed: int, epoch: int) -> list[str]:
    """Return the task of each of an epoch's steps: each task as often as `steps` says, in random order."""
    names = [name for name, count in steps.items() for _ in range(count)]
    rank = random_bits(seed, "sequence of tasks", epoch, torch.arange(len(names)), 1)[:, 0]
    return [names[i] for i in torch.argsort(rank, stable=True)]


class TaskStep(NamedTuple):
    """A step of a training on several tasks.

    Attributes:
        task: its name.
        rows: (b,) int64, row numbers of its texts.
        passes: number of passes over the task's texts before the one that the step belongs to.
    """

    task: str
    rows: Tensor
    passes: int


class TaskBatches:
    """The training batches of several tasks, step by step.

    If an epoch does not end a pass over a task's texts, the next epoch continues that pass.

    Args:
        examples: of each task.
        batch_size: largest number of texts in a batch.
        exponent: how task sizes determine the steps; see `steps_per_task`.
        seed: of the training, at least 0.
    """

    def __init__(self, examples: Mapping[str, TextExamples], batch_size: int, exponent: float, seed: int) -> None:
        self.examples, self._batch_size, self._seed = examples, batch_size, seed
        self._lengths = {task: texts.lengths for task, texts in examples.items()}
        self._batches_per_pass = {task: len(self._one_pass(task, 0)) for task in examples}
        self.steps = steps_per_task(self._batches_per_pass, exponent)

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps of all tasks in an epoch."""
        return sum(self.steps.values())

    def epoch(self, epoch: int) -> list[TaskStep]:
        """Return the steps of an epoch, counted from 1."""
        queues = {task: iter(self._steps_of(task, epoch)) for task in self.examples}
        return [next(queues[task]) for task in task_sequence(self.steps, seed=self._seed, epoch=epoch)]

    def padding_share(self, steps: list[TaskStep]) -> float:
        """Return the share of padding among all positions of these steps, in [0, 1)."""
        lengths = [self._lengths[task][rows] for task, rows, _ in steps]
        return 1 - sum(int(part.sum()) for part in lengths) / sum(len(part) * int(part.max()) for part in lengths)

    def _steps_of(self, task: str, epoch: int) -> list[TaskStep]:
        per_pass, count = self._batches_per_pass[task], self.steps[task]
        first = (epoch - 1) * count
        passes = range(first // per_pass, math.ceil((first + count) / per_pass))
        steps = [TaskStep(task, rows, number) for number in passes for rows in self._one_pass(task, number)]
        return steps[first % per_pass : first % per_pass + count]

    def _one_pass(self, task: str, number: int) -> list[Tensor]:
        return bucket_by_length(self._lengths[task], self._batch_size, seed=self._seed, task=task, epoch=number)
