"""Task losses: binary cross-entropy of each task, masked where labels are unknown.

Shapes: b images, k tasks.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def task_losses(logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
    """Compute the mean binary cross-entropy of each task over its known labels, in nats.

    A task without a known label in the batch has loss 0 and zero gradient.

    Args:
        logits: (b, k), any float type; the loss is computed in float32, under autocast too.
        targets: (b, k) int8: 1 present, 0 absent, -1 unknown.
        known: (k,) number of known labels in the whole batch, if this is a part of it: the losses of the parts then
            add up to the loss of the whole batch. None: this is the whole batch.

    Returns:
        (k,) float32, at least 0.
    """
    mask = (targets >= 0).float()
    count = mask.sum(0) if known is None else known
    with torch.autocast(logits.device.type, enabled=False):
        losses = binary_cross_entropy_with_logits(logits.float(), targets.float().clamp(min=0), reduction="none")
        return (losses * mask).sum(0) / count.clamp(min=1)


def known_labels(targets: Tensor) -> Tensor:
    """Count each task's known labels: (b, k) int8 targets -> (k,) int64."""
    return (targets >= 0).sum(0)


def known_tasks(targets: Tensor) -> Tensor:
    """Find the tasks with at least one known label in the batch: (b, k) int8 targets -> (k,) bool."""
    return (targets >= 0).any(0)
