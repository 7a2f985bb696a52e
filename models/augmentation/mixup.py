"""Mixup: an image and its targets, mixed with those of another training image.

Source: Zhang et al.: mixup: Beyond Empirical Risk Minimization (ICLR 2018, arXiv:1710.09412), with Beta(1, 1), which is
uniform. A mixed target of a binary task is a number in [0, 1], and unknown if either label is; of several classes it is
a distribution.

Shapes: b images, c channels, s x s pixels, k tasks, m partners, q classes.
"""

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from models.augmentation.draws import Draw


def mix_images(images: Tensor, partners: Tensor, share: Tensor) -> Tensor:
    """Mix images with their partners: share x image + (1 - share) x partner, rounded.

    Args:
        images: (b, c, s, s) uint8.
        partners: (b, c, s, s) uint8.
        share: (b,) in [0, 1], of the image.
    """
    kept = share.float()[:, None, None, None]
    return (images * kept + partners * (1 - kept)).round().to(torch.uint8)


def mix_targets(targets: Tensor, drawn: Draw, partners: Tensor) -> Tensor:
    """Mix the targets as `models.augmentation.augment.augment` mixes the images, slot by slot.

    Args:
        targets: (b, k) float32 as `soft_targets` gives them.
        drawn: for these images.
        partners: (m, k) float32, the targets of `drawn.partner_rows`.

    Returns:
        (b, k) float32 in [0, 1]; -1: unknown.
    """
    if not len(partners):
        return targets
    mixed, positions = (drawn.partners >= 0).to(targets.device), drawn.partner_positions.to(targets.device)
    shares = drawn.magnitudes.to(targets.device, torch.float32)
    for j in range(mixed.shape[1]):
        others, kept = partners[positions[:, j]], shares[:, j, None]
        both = torch.where((targets >= 0) & (others >= 0), kept * targets + (1 - kept) * others, -1.0)
        targets = torch.where(mixed[:, j, None], both, targets)
    return targets


def soft_targets(targets: Tensor, classes: int | None) -> Tensor:
    """Return targets that can be mixed.

    Args:
        targets: (b, k) integers: 1 present, 0 absent, -1 unknown; with classes (b, 1): the class, -1 unknown.
        classes: q, if the one task is to choose one of several classes.

    Returns:
        (b, k) float32, the same values; with classes (b, q): 1 for the class, 0 for the others, all -1 if it is
        unknown.
    """
    if classes is None:
        return targets.float()
    return torch.where(targets >= 0, one_hot(targets[:, 0].long().clamp(min=0), classes).float(), -1.0)
