"""Task losses, masked where labels are unknown: binary cross-entropy, or cross-entropy of one class of several.

Shapes: b images, k tasks, c classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def task_losses(logits: Tensor, targets: Tensor, known: Tensor | None = None, *, classes: int | None = None) -> Tensor:
    """Compute the mean cross-entropy of each task over its known labels, in nats.

    A task without a known label in the batch has loss 0 and zero gradient.

    Args:
        logits: (b, k), or (b, c) with classes; any float type: the loss is computed in float32, under autocast too.
        targets: (b, k) integers: 1 present, 0 absent, -1 unknown; with classes (b, 1): the class, -1 unknown.
        known: (k,) number of known labels in the whole batch, if this is a part of it: the losses of the parts then
            add up to the loss of the whole batch. None: this is the whole batch.
        classes: c, if the one task is to choose one of several classes; None for k binary tasks.

    Returns:
        (k,) float32, at least 0.
    """
    mask = (targets >= 0).float()
    count = mask.sum(0) if known is None else known
    possible = targets.clamp(min=0)
    with torch.autocast(logits.device.type, enabled=False):
        if classes is None:
            losses = binary_cross_entropy_with_logits(logits.float(), possible.float(), reduction="none")
        else:
            losses = cross_entropy(logits.float(), possible[:, 0].long(), reduction="none")[:, None]
        return (losses * mask).sum(0) / count.clamp(min=1)


def known_labels(targets: Tensor) -> Tensor:
    """Count each task's known labels: (b, k) targets -> (k,) int64."""
    return (targets >= 0).sum(0)


def known_tasks(targets: Tensor) -> Tensor:
    """Find the tasks with at least one known label in the batch: (b, k) targets -> (k,) bool."""
    return (targets >= 0).any(0)
