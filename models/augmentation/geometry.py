"""Moves of a batch's pixels: chains of affine maps, each image under its own, with one resampling per image.

A chain is worked out on positions: from the position of a pixel of the result back through its stages to a position
of the image. Only there is a grey value read, so a chain blurs no more than one of its stages does.

Shapes: b images, c channels, s x s pixels, L stages. Positions run from -1 to 1 over the image (`grid_sample`'s, with
align_corners=False): the outermost pixel centres are at -1 + 1/s and 1 - 1/s.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from models.augmentation.batch_parts import in_parts

BLACK, BORDER, REFLECTED = 0, 1, 2
"""What a position outside the image stands for: grey value 0, the nearest pixel at the border, or the mirrored one."""


@in_parts(2**16)
def resample(images: Tensor, maps: Tensor, outside: Tensor, *, interpolation: Literal["nearest", "bilinear"]) -> Tensor:
    """Move the pixels of each image by its own chain of affine maps, and read their grey values once.

    A chain equals its stages one after the other, without the interpolation in between: what a stage leaves black
    stays black, and a later stage sees the border as an earlier one left it. Whole pixels are exact: the identity,
    flips, quarter turns and shifts by whole pixels return the image's grey values to the bit.

    "bilinear" agrees with torchvision's affine transform of tensors (without fill) within one grey level; black begins
    outside the outermost pixel centres and is complete a pixel further. "nearest" is the rule of Pillow's transform,
    which works in fixed point: on average 0.1 % of an image's pixels differ, at most 0.5 % and a row or column that
    lies on the edge between two (measured over turns, shears, shifts and sizes, at 16 to 224 pixels).

    Args:
        images: (b, c, s, s) uint8.
        maps: (b, L, 2, 3) float64, from a position after the stage to the one before it. Stage 0 is the first that
            the image undergoes.
        outside: (b, L) int64, what a position outside the image stands for in each stage: BLACK; BORDER, the nearest
            position between the outermost pixel centres; or REFLECTED, mirrored about them as often as it takes.
        interpolation: how a grey value is read between pixel centres.

    Returns:
        (b, c, s, s) uint8, new. An image's result is the same to the bit in any batch.
    """
    s = images.shape[-1]
    linear, offset = _in_pixels(maps, s)
    identity = torch.eye(2, device=images.device)
    moves = _needed((linear != identity).flatten(2).any(-1) | (offset != 0).any(-1))
    blackens, reflects = _needed(outside == BLACK), _needed(outside == REFLECTED)
    positions = seen = None
    for stage in reversed(range(len(moves))):
        if not moves[stage]:
            continue
        reached = _move(positions, s, linear[:, stage], offset[:, stage])
        mode = outside[:, stage, None, None, None]
        positions = _fold(reached, s, mode == REFLECTED) if reflects[stage] else reached.clamp(0, s - 1)
        if blackens[stage]:
            share = _share_inside(reached.sub_(positions).mul_(mode == BLACK), interpolation)
            seen = share if seen is None else seen.mul_(share)
    return images.clone() if positions is None else _read(images, positions, seen, interpolation)


def rotation(degrees: Tensor) -> Tensor:
    """Turn about the image's centre, counter-clockwise for positive angles, as Pillow's `rotate`.

    Args:
        degrees: (b,) float64.

    Returns:
        Maps for `resample`, (b, 2, 3) float64.
    """
    angle = torch.deg2rad(degrees)
    cos, sin, none = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return _map((cos, -sin, none), (sin, cos, none))


def shear_x(share: Tensor) -> Tensor:
    """Shift each row to the left by `share` times its distance from the upper edge, negative: to the right.

    This is Pillow's AFFINE (1, share, 0, 0, 1, 0), and what torchvision's AutoAugment family does at that magnitude.

    Args:
        share: (b,) float64, pixels per pixel.

    Returns:
        Maps for `resample`, (b, 2, 3) float64.
    """
    one, none = torch.ones_like(share), torch.zeros_like(share)
    return _map((one, share, share), (none, one, none))


def shear_y(share: Tensor) -> Tensor:
    """Shift each column upwards by `share` times its distance from the left edge; otherwise as `shear_x`.

    This is Pillow's AFFINE (1, 0, 0, share, 1, 0).
    """
    one, none = torch.ones_like(share), torch.zeros_like(share)
    return _map((one, none, none), (share, one, share))


def translate_x(share: Tensor) -> Tensor:
    """Shift to the left by a share of the side, negative: to the right.

    This is Pillow's AFFINE (1, 0, share * s, 0, 1, 0). torchvision's TranslateX has the opposite sign: a positive
    magnitude goes to the right (and is cut to whole pixels).

    Args:
        share: (b,) float64, of the image's side.

    Returns:
        Maps for `resample`, (b, 2, 3) float64.
    """
    one, none = torch.ones_like(share), torch.zeros_like(share)
    return _map((one, none, 2 * share), (none, one, none))


def translate_y(share: Tensor) -> Tensor:
    """Shift upwards by a share of the side; otherwise as `translate_x`: Pillow's AFFINE (1, 0, 0, 0, 1, share * s)."""
    one, none = torch.ones_like(share), torch.zeros_like(share)
    return _map((one, none, none), (none, one, 2 * share))


def scale(change: Tensor) -> Tensor:
    """Change the size of what is seen about the image's centre to 1 + `change` times what it was.

    Args:
        change: (b,) float64, above -1.

    Returns:
        Maps for `resample`, (b, 2, 3) float64.
    """
    step, none = 1 / (1 + change), torch.zeros_like(change)
    return _map((step, none, none), (none, step, none))


def horizontal_flip(b: int, device: torch.device) -> Tensor:
    """Return maps that mirror b images left to right, (b, 2, 3) float64 on the device."""
    one = torch.ones(b, dtype=torch.float64, device=device)
    return _map((-one, 0 * one, 0 * one), (0 * one, one, 0 * one))


def vertical_flip(b: int, device: torch.device) -> Tensor:
    """Return maps that mirror b images top to bottom, (b, 2, 3) float64 on the device."""
    one = torch.ones(b, dtype=torch.float64, device=device)
    return _map((one, 0 * one, 0 * one), (0 * one, -one, 0 * one))


MAPS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "rotate": rotation,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "scale": scale,
    "horizontal_flip": lambda magnitudes: horizontal_flip(len(magnitudes), magnitudes.device),
    "vertical_flip": lambda magnitudes: vertical_flip(len(magnitudes), magnitudes.device),
}
"""The operations of `models.augmentation.operations` that are one map, from (b,) magnitudes; flips have none."""


def _map(x: tuple[Tensor, Tensor, Tensor], y: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the maps with these coefficients: x's and y's new positions from x, y and 1."""
    return torch.stack((torch.stack(x, -1), torch.stack(y, -1)), -2)


def _in_pixels(maps: Tensor, s: int) -> tuple[Tensor, Tensor]:
    """Translate maps to positions in pixels, where the outermost centres are at 0 and s - 1.

    In these units flips and shifts by whole pixels are whole numbers, and exact in float32.

    Returns:
        The linear part (b, L, 2, 2) and the offset (b, L, 2), float32.
    """
    linear, offset = maps[..., :2], maps[..., 2]
    offset = offset * (s / 2) + (1 - linear[..., 0] - linear[..., 1]) * ((s - 1) / 2)
    return linear.float(), offset.float()


def _needed(wanted: Tensor) -> list[bool]:
    """Tell for each stage whether a step changes something of any image: (b, L) bool to L values.

    On a GPU every step is taken: to ask would make the host wait. A step that is not needed changes no bit.
    """
    return wanted.any(0).tolist() if wanted.device.type == "cpu" else [True] * wanted.shape[1]


def _move(positions: Tensor | None, s: int, linear: Tensor, offset: Tensor) -> Tensor:
    """Apply one map to positions (b, 2, s, s), None: the pixel centres; linear (b, 2, 2), offset (b, 2).

    No matrix product and no fused multiply-add: they may round differently in another batch.
    """
    along_x, along_y, offset = linear[..., 0, None], linear[..., 1, None], offset[..., None]
    if positions is None:
        centres = torch.arange(s, device=linear.device, dtype=linear.dtype)
        return (centres * along_x + offset)[:, :, None, :] + (centres * along_y)[:, :, :, None]
    moved = positions[:, :1] * along_x[..., None]
    moved += positions[:, 1:] * along_y[..., None]
    return moved.add_(offset[..., None])


def _fold(positions: Tensor, s: int, reflected: Tensor) -> Tensor:
    """Reflect positions (b, 2, s, s) about 0 and s - 1 where (b, 1, 1, 1) says so; clamp the others."""
    period = 2 * max(s - 1, 1)
    folded = positions - (positions * (reflected / period)).round_().mul_(period)
    return folded.maximum(folded * -reflected.float()).clamp_(0, s - 1)


def _share_inside(excess: Tensor, interpolation: str) -> Tensor:
    """Return how much of the image, and how much of the black around it, is seen: (b, s, s), 1 inside.

    Args:
        excess: (b, 2, s, s), distance from the outermost pixel centres in pixels, negative to the left and above; is
            overwritten.
        interpolation: "nearest" sees the image as far as its pixels reach; "bilinear" fades over a pixel.
    """
    if interpolation == "nearest":
        excess.add_(0.5).floor_()
    share = excess.abs_().neg_().add_(1).clamp_(min=0)
    return share[:, 0] * share[:, 1]


def _read(images: Tensor, positions: Tensor, seen: Tensor | None, interpolation: str) -> Tensor:
    """Return the grey values at positions (b, 2, s, s), which are overwritten, darkened to the share (b, s, s) seen."""
    s = images.shape[-1]
    if interpolation == "nearest":
        positions.add_(0.5).floor_()  # not left to grid_sample, which rounds halves to even and Pillow up
    # The grid stays planar in memory. That is faster than pairs, here and in grid_sample.
    grid = positions.mul_(2 / s).add_(1 / s - 1).permute(0, 2, 3, 1)
    grey = grid_sample(images.float(), grid, mode=interpolation, padding_mode="border", align_corners=False)
    if seen is not None:
        grey.mul_(seen[:, None])
    return grey.round_().short().byte()  # on a CPU several times as fast as from float32 to uint8 at once
