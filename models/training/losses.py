"""The loss of each task on a batch in which not every label is known.

Shapes: b images, k tasks.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def task_losses(logits: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean binary cross-entropy of each task over its known labels, in nats.

    A task without a known label in the batch has loss 0 and sends no gradient back.

    Args:
        logits: (b, k), any float type; the loss is computed in float32, under autocast too.
        targets: (b, k) int8: 1 present, 0 absent, -1 unknown.
        known: (k,) number of known labels of the whole batch, where this is a part of it: the parts' results then
            add up to the whole batch's, whatever the parts lack.

    Returns:
        (k,) float32, at least 0.
    """
    mask = (targets >= 0).float()
    count = mask.sum(0) if known is None else known
    with torch.autocast(logits.device.type, enabled=False):
        every = binary_cross_entropy_with_logits(logits.float(), targets.float().clamp(min=0), reduction="none")
        return (every * mask).sum(0) / count.clamp(min=1)


def known_labels(targets: Tensor) -> Tensor:
    """(b, k) int8 targets -> (k,) int64: the number of known labels of each task."""
    return (targets >= 0).sum(0)


def known_tasks(targets: Tensor) -> Tensor:
    """(b, k) int8 targets -> (k,) bool: the tasks with at least one known label in the batch."""
    return (targets >= 0).any(0)
