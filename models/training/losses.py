"""Cross-entropy of binary tasks or of one class of several, masked where labels are unknown.

Shapes: b images, k tasks, q classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def image_losses(logits: Tensor, targets: Tensor, *, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Compute the cross-entropy of each image and task, in nats.

    Args:
        logits: (b, k), or (b, q) with classes; any float type: the loss is computed in float32, under autocast too.
        targets: (b, k): 1 present, 0 absent, -1 unknown; floating point if they may lie between, as after mixup. With
            classes (b, 1): the class, -1 unknown; or (b, q) floating point: a distribution, all -1 if it is unknown.
        classes: q, if the one task is to choose one of several classes; None for k binary tasks.

    Returns:
        (b, k) float32 losses, at least 0 and 0 where the label is unknown; and (b, k) bool: where it is known.
    """
    possible, known = targets.clamp(min=0), targets >= 0
    with torch.autocast(logits.device.type, enabled=False):
        if classes is None:
            losses = binary_cross_entropy_with_logits(logits.float(), possible.float(), reduction="none")
        else:
            known = known[:, :1]
            wanted = possible if targets.is_floating_point() else possible[:, 0].long()
            losses = cross_entropy(logits.float(), wanted, reduction="none")[:, None]
        return losses * known.float(), known


def label_entropy(targets: Tensor, *, classes: int | None = None) -> Tensor:
    """Compute the entropy of each target, in nats: (b, k) float32, 0 for targets that are not mixed.

    It is the least cross-entropy that any prediction reaches. Arguments as for `image_losses`.
    """
    if not targets.is_floating_point():
        return torch.zeros(len(targets), 1 if classes else targets.shape[1], device=targets.device)
    share = targets.clamp(min=0)
    if classes is not None:
        return -torch.xlogy(share, share).sum(1, keepdim=True)
    return -torch.xlogy(share, share) - torch.xlogy(1 - share, 1 - share)


def task_losses(logits: Tensor, targets: Tensor, known: Tensor | None = None, *, classes: int | None = None) -> Tensor:
    """Compute the mean cross-entropy of each task over its known labels, in nats.

    A task without a known label in the batch has loss 0 and zero gradient.

    Args:
        logits: as for `image_losses`.
        targets: as for `image_losses`.
        known: (k,) number of known labels in the whole batch, if this is a part of it: the losses of the parts then
            add up to the loss of the whole batch. None: this is the whole batch.
        classes: as for `image_losses`.

    Returns:
        (k,) float32, at least 0.
    """
    losses, mask = image_losses(logits, targets, classes=classes)
    count = mask.sum(0) if known is None else known
    return losses.sum(0) / count.clamp(min=1)


def known_labels(targets: Tensor, *, classes: int | None = None) -> Tensor:
    """Count each task's known labels: targets as for `image_losses` -> (k,) int64."""
    return (targets[:, :1] if classes else targets).ge(0).sum(0)
