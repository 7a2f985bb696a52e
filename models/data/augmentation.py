"""Image augmentation as batched tensor operations; each image's changes are a function of (seed, epoch, sample).

Shapes: b images, c channels, s x s pixels.
"""

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import grid_sample

from models.randomness import random_uniform
from models.settings import Settings


class AugmentationSettings(Settings):
    """How much a training image may change; each amount is drawn uniformly for every image in every epoch."""

    flip: float = Field(
        0.0,
        ge=0,
        le=1,
        description="probability of a left-right flip (common, although it puts the heart on the wrong side)",
    )
    rotation: float = Field(0.0, ge=0, le=180, description="largest rotation in either direction, in degrees")
    shift: float = Field(0.0, ge=0, lt=1, description="largest shift along each axis, as a share of the image's side")
    scale: float = Field(0.0, ge=0, lt=1, description="largest change of size in either direction, as a share")
    brightness: float = Field(
        0.0, ge=0, le=1, description="largest change of brightness in either direction, as a share of the full range"
    )
    contrast: float = Field(0.0, ge=0, lt=1, description="largest change of contrast in either direction, as a share")

    @property
    def moves(self) -> bool:
        """Whether pixels may change their positions."""
        return any((self.flip, self.rotation, self.shift, self.scale))

    @property
    def recolours(self) -> bool:
        """Whether grey values may change."""
        return any((self.brightness, self.contrast))


def augment(pixels: Tensor, settings: AugmentationSettings, *, seed: int, epoch: int, samples: Tensor) -> Tensor:
    """Augment a batch of images.

    Args:
        pixels: (b, c, s, s) uint8.
        settings: the largest change of each kind.
        seed: of the training, at least 0.
        epoch: at least 0.
        samples: (b,) int64, row numbers of the images in the training set, on the pixels' device.

    Returns:
        (b, c, s, s) grey values from 0 to 255: the same uint8 tensor if the settings change nothing, else float32.
        An image's result is the same to the bit in any batch.
    """
    if not (settings.moves or settings.recolours):
        return pixels
    flip, *amounts = random_uniform(seed, "augmentation", epoch, samples, 7).unbind(1)
    turn, right, down, grow, light, contrast = (2 * amount - 1 for amount in amounts)
    images = pixels.float()
    if settings.moves:
        angle = turn * math.radians(settings.rotation)
        zoom = 1 + grow * settings.scale
        mirror = 1 - 2 * (flip < settings.flip).float()
        # the coordinates run from -1 to 1, so a shift by the whole side is 2
        images = _resample(images, angle, zoom, mirror, 2 * settings.shift * right, 2 * settings.shift * down)
    if settings.recolours:
        gain = (1 + settings.contrast * contrast)[:, None, None, None]
        offset = (255 * settings.brightness * light)[:, None, None, None]
        images = ((images - 127.5) * gain + 127.5 + offset).clamp(0, 255)
    return images


def _resample(images: Tensor, angle: Tensor, zoom: Tensor, mirror: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Rotate, scale, flip and shift; border pixels are repeated. All arguments but the images are (b,)."""
    s = images.shape[-1]
    centres = (2 * torch.arange(s, device=images.device, dtype=torch.float32) + 1) / s - 1
    x, y = centres[None, None, :], centres[None, :, None]
    cos, sin = (angle.cos() / zoom)[:, None, None], (angle.sin() / zoom)[:, None, None]
    mirror, right, down = mirror[:, None, None], right[:, None, None], down[:, None, None]
    # Not affine_grid: its matrix product may round differently in a batch of another size. Terms that depend on one
    # axis are computed for that axis only, and the grid is written once.
    grid = torch.empty(len(images), s, s, 2, device=images.device)
    torch.sub(x * cos * mirror - right, y * sin * mirror, out=grid[..., 0])
    torch.add(x * sin - down, y * cos, out=grid[..., 1])
    return grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
