"""Uncertainty-based sampling: of several augmented candidates of each image, choose those to train on.

Source: Algorithm 1 of Wu, Zhang, Valiant, Ré: On the Generalization Effects of Linear Transformations in Data
Augmentation (ICML 2020, arXiv:2005.00695): all candidates are scored with the current network, without gradients, and a
step is made on those of highest loss. Their published code draws one in proportion to its loss instead.

Nothing is changed by scoring (`models.training.image_step.Step.evaluate`): the network is in evaluation mode, so that
running statistics stay, and no random number generator is used.

Shapes: b images, C candidates of each, S of them selected, k tasks; candidates are ordered by number, then by image.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from models.augmentation.augment import augment
from models.augmentation.candidates import CandidateSettings
from models.augmentation.draws import Draw, draw
from models.augmentation.mixup import mix_targets, soft_targets
from models.augmentation.operations import NAMES
from models.augmentation.policies import BasePolicy, UncertaintyPolicy
from models.randomness import random_uniform
from models.settings import KindSettings
from models.training.image_step import Batch, Step
from models.training.losses import image_losses, known_labels, label_entropy
from models.weighting.base import Weighting


class Candidates(NamedTuple):
    """The augmented candidates of the images of a step.

    Attributes:
        pixels: (C b, c, s, s) uint8.
        targets: (C b, k), as `models.training.losses.image_losses` takes them.
        operations: (C b, J) int64 on the CPU, positions in `models.augmentation.operations.NAMES`; None: no policy.
        samples: (b,) int64, row numbers of the images, on the pixels' device.
    """

    pixels: Tensor
    targets: Tensor
    operations: Tensor | None
    samples: Tensor


class Selection:
    """The candidates of a training: draws them, augments the images, and chooses the batch of each step.

    Args:
        step: of the training.
        policy: of the training.
        weighting: of the training, for scores under its weights.
        seed: of the training.
        steps: of the whole training.
        n: number of training images.
    """

    def __init__(self, step: Step, policy: BasePolicy, weighting: Weighting, *, seed: int, steps: int, n: int) -> None:
        self._step, self._policy, self._weighting = step, policy, weighting
        self._seed, self._steps, self._n, self._classes = seed, steps, n, step.network.classes
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Take the weighting's current weights for the scores of an epoch, and count anew."""
        self._epoch, device = epoch, self._step.device
        self._drawn = torch.zeros(len(NAMES), dtype=torch.int64)
        self._chosen = torch.zeros(len(NAMES), dtype=torch.int64, device=device)
        if isinstance(self._policy, UncertaintyPolicy):
            current = self._policy.task_weights == "current"
            weights = self._weighting.weights() if current else torch.ones(len(self._step.network.labels))
            self._task_weights = self._step.processes.broadcast(weights.float().to(device))

    def draw(self, samples: Tensor, epoch: int, number: int) -> Draw | None:
        """Draw the candidates of (b,) samples, row numbers on the CPU, for the step of a number counted from 0.

        Returns:
            The draws of C candidates of each; None if the policy changes nothing.
        """
        if not self._policy.slots:
            return None
        policy, how = self._policy, {"seed": self._seed, "epoch": epoch, "n": self._n}
        count = policy.trained
        if isinstance(policy, UncertaintyPolicy) and self._selects(number):
            count = policy.candidates
        return Draw.concatenate([draw(policy.slots, samples=samples, candidate=c, **how) for c in range(count)])

    def augment(self, drawn: Draw | None, pixels: Tensor, targets: Tensor, rows: Tensor) -> Candidates:
        """Augment the images of a step.

        Args:
            drawn: for these images.
            pixels: (b + m, c, s, s) uint8, the images and then those of `drawn.partner_rows`.
            targets: (b + m, k) integers of the same images.
            rows: (b + m,) int64, row numbers of the same images.
        """
        if drawn is None:
            return Candidates(pixels, targets, None, rows)
        own = len(rows) - len(drawn.partner_rows)
        count = len(drawn.operations) // own
        labels = targets[:own].repeat(count, 1)
        if self._policy.mixes:
            labels, others = (soft_targets(each, self._classes) for each in (labels, targets[own:]))
            labels = mix_targets(labels, drawn, others)
        images = augment(pixels[:own].repeat(count, 1, 1, 1), drawn, pixels[own:], self._policy.sampling)
        return Candidates(images, labels, drawn.operations, rows[:own])

    def __call__(self, candidates: Candidates, number: int) -> Batch:
        """Choose the batch of a step: S candidates of each image, one after another."""
        pixels, targets, _, samples = candidates
        if self._selects(number):
            chosen = self._select(candidates)
            index = (chosen * len(samples) + torch.arange(len(samples), device=chosen.device)).flatten()
            self._count(candidates, index)
            pixels, targets = pixels[index], targets[index]
        processes = self._step.processes
        known = None if processes.count == 1 else processes.all_reduce(known_labels(targets, classes=self._classes))
        return Batch(pixels, targets, known)

    def counts(self) -> dict[str, tuple[int, ...]]:
        """Return how often each operation was drawn and chosen in this epoch's selections; empty if there were none."""
        drawn = self._step.processes.all_reduce(self._drawn.to(self._chosen.device)).tolist()
        chosen = self._step.processes.all_reduce(self._chosen).tolist()
        return {"drawn": tuple(drawn), "chosen": tuple(chosen)} if any(drawn) else {}

    def _selects(self, number: int) -> bool:
        policy = self._policy
        return isinstance(policy, UncertaintyPolicy) and policy.selects(number, self._steps)

    def _select(self, candidates: Candidates) -> Tensor:
        policy, (pixels, targets, _, samples) = cast(UncertaintyPolicy, self._policy), candidates
        logits = self._step.evaluate(pixels)
        scores = score(policy, logits, targets, self._task_weights, classes=self._classes)
        return select(policy, scores.view(-1, len(samples)), seed=self._seed, epoch=self._epoch, samples=samples)

    def _count(self, candidates: Candidates, chosen: Tensor) -> None:
        present = one_hot(cast(Tensor, candidates.operations), len(NAMES)).amax(1)
        self._drawn += present.sum(0)
        self._chosen += present.to(chosen.device, non_blocking=True)[chosen].sum(0)


def chosen_over_drawn(
    policy: KindSettings, counts: Iterable[tuple[Sequence[int], Sequence[int]]], names: Sequence[str] = NAMES
) -> dict[str, float]:
    """Compute how often each operation is in a selected candidate, divided by how often it is in a candidate.

    Above 1 the selection prefers the operation; 1 is expected of a choice at random.

    Args:
        policy: of the training.
        counts: of each epoch, candidates and selected candidates with each operation, see `Selection.counts`; both
            empty without a selection.
        names: of the operations, in the order of the counts; `identity` is left out.

    Returns:
        Operation -> ratio, of the operations that were drawn; empty if nothing was selected.
    """
    selecting = [(drawn, chosen) for drawn, chosen in counts if drawn]
    if not (selecting and isinstance(policy, CandidateSettings)):
        return {}
    drawn, chosen = torch.tensor(selecting).sum(0).tolist()
    per_candidate = policy.candidates / policy.selected
    return {
        name: per_candidate * of_chosen / of_drawn
        for name, of_drawn, of_chosen in zip(names, drawn, chosen, strict=True)
        if of_drawn and name != "identity"
    }


def score(
    policy: UncertaintyPolicy, logits: Tensor, targets: Tensor, task_weights: Tensor, *, classes: int | None
) -> Tensor:
    """Score candidates by their loss: the weighted mean over the tasks whose label is known.

    Args:
        policy: says which loss.
        logits: (C b, k), or (C b, q) with classes.
        targets: as for `models.training.losses.image_losses`.
        task_weights: (k,), those below 0 count as 0.
        classes: as for `models.training.losses.image_losses`.

    Returns:
        (C b,) float32, at least 0; 0 for a candidate without a known label.
    """
    losses, known = image_losses(logits, targets, classes=classes)
    if policy.score == "kl_divergence":
        losses = (losses - label_entropy(targets, classes=classes) * known).clamp(min=0)
    weights = known * task_weights.to(losses).clamp(min=0)
    total = weights.sum(1)
    return torch.where(total > 0, (losses * weights).sum(1) / total.clamp(min=torch.finfo(torch.float32).tiny), 0.0)


def select(policy: CandidateSettings, scores: Tensor, *, seed: int, epoch: int, samples: Tensor) -> Tensor:
    """Choose candidates by their scores; of equal ones, the first.

    Args:
        policy: says how many, and how.
        scores: (C, b) float32, at least 0.
        seed: of the training.
        epoch: at least 0.
        samples: (b,) int64, row numbers of the images or texts, on the scores' device.

    Returns:
        (S, b) int64, numbers of candidates; those of `proportional` may be equal.
    """
    if policy.selection != "proportional":
        order = scores.argsort(dim=0, descending=policy.selection == "highest", stable=True)
        return order[: policy.selected]
    # a tiny share for each, so that scores of 0 are drawn uniformly
    shares = (scores.double() + 1e-12).cumsum(0)
    points = random_uniform(seed, "selection", epoch, samples, policy.selected).double().T * shares[-1]
    return (points[:, None] >= shares[None]).sum(1).clamp(max=len(scores) - 1)
