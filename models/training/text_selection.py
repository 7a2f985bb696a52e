"""The texts of each step of a training under a policy: candidates with replaced words, and the choice among them.

Source: Algorithm 1 of Wu, Zhang, Valiant, Ré (ICML 2020, arXiv:2005.00695); the choice is that of images,
`models.training.selection.select`. The score is the cross-entropy of the current network, in evaluation mode and
without gradients. A batch is of one task, so that the tasks' weights have no place in it.

Shapes: b texts, C candidates of each, S of them trained; candidates are ordered by number, then by text.
"""

from collections.abc import Mapping
from typing import assert_never

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.augmentation.policies import NoPolicy
from models.augmentation.word_replacement import (
    WORD_OPERATIONS,
    TextPolicySettings,
    UncertainWordPolicy,
    WordPolicy,
    WordStatistics,
    replace_words,
)
from models.data.text_batches import TaskStep, TextBatch, TextExamples
from models.networks.text import SPECIAL_ROWS
from models.randomness import seed_for
from models.training.selection import select
from models.training.text_step import TextStep


class TextSelection:
    """Makes the batch of each step of a training.

    Args:
        step: of the training.
        policy: of the training.
        examples: training texts of each task, from which alone the words' statistics are taken.
        steps: of the whole training.
    """

    def __init__(
        self, step: TextStep, policy: TextPolicySettings, examples: Mapping[str, TextExamples], *, steps: int
    ) -> None:
        self._step, self._policy, self._examples, self._steps = step, policy, examples, steps
        self._statistics = {
            task: WordStatistics.of(texts.ids, texts.offsets, first_word=SPECIAL_ROWS)
            for task, texts in examples.items()
            if not isinstance(policy, NoPolicy)
        }
        self.begin_epoch()

    def begin_epoch(self) -> None:
        """Count the operations of the candidates anew."""
        self._drawn, self._chosen = torch.zeros(2, len(WORD_OPERATIONS), dtype=torch.int64)

    def counts(self) -> dict[str, tuple[int, ...]]:
        """Return how often each operation was drawn and chosen in this epoch's selections; empty if there were none."""
        drawn, chosen = self._drawn.tolist(), self._chosen.tolist()
        return {"drawn": tuple(drawn), "chosen": tuple(chosen)} if any(drawn) else {}

    def __call__(self, step: TaskStep, *, seed: int, number: int) -> TextBatch:
        """Make the batch of a step: S candidates of each text, one after another.

        Args:
            step: task, texts and pass.
            seed: of the phase of the training.
            number: of the step, counted from 0 in the whole training.
        """
        policy, (task, rows, _) = self._policy, step
        batch = self._examples[task].batch(rows)
        match policy:
            case NoPolicy():
                return batch
            case WordPolicy():
                return self._candidates(policy, step, batch, seed, 1)[0]
            case UncertainWordPolicy():
                if policy.selects(number, self._steps):
                    return self._select(policy, step, batch, seed)
                return self._candidates(policy, step, batch, seed, policy.selected)[0]
        assert_never(policy)

    def _candidates(
        self, policy: WordPolicy | UncertainWordPolicy, step: TaskStep, batch: TextBatch, seed: int, count: int
    ) -> tuple[TextBatch, Tensor]:
        """Return the first candidates of each text, as one batch, and their operations, (C b,)."""
        how = {"seed": _task_seed(seed, step.task), "epoch": step.passes}
        statistics = self._statistics[step.task]
        found = [replace_words(policy, statistics, batch.ids, step.rows, candidate=c, **how) for c in range(count)]
        ids, operations = (torch.cat(parts) for parts in zip(*found, strict=True))
        types = None if batch.types is None else batch.types.repeat(count, 1)
        return TextBatch(ids, batch.lengths.repeat(count), types, batch.targets.repeat(count)), operations

    def _select(self, policy: UncertainWordPolicy, step: TaskStep, batch: TextBatch, seed: int) -> TextBatch:
        candidates, operations = self._candidates(policy, step, batch, seed, policy.candidates)
        logits = self._step.evaluate(step.task, candidates)
        scores = cross_entropy(logits, candidates.targets.to(logits.device), reduction="none").cpu()
        scores, of_task = scores.view(policy.candidates, -1), _task_seed(seed, step.task)
        chosen = select(policy, scores, seed=of_task, epoch=step.passes, samples=step.rows)
        index = (chosen * len(step.rows) + torch.arange(len(step.rows))).flatten()
        self._drawn += torch.bincount(operations, minlength=len(WORD_OPERATIONS))
        self._chosen += torch.bincount(operations[index], minlength=len(WORD_OPERATIONS))
        return candidates.take(index)


def _task_seed(seed: int, task: str) -> int:
    """Derive a task's own seed: the first text of one task is drawn independently of the first of another."""
    return seed_for(seed, f"augmentation of {task}")
