"""The changes that were drawn, applied to a batch of images: every operation to all images that have it, at once.

Geometric operations that follow one another are one resampling: the positions go through all of them, and each pixel is
interpolated once. Nothing that lies outside in between comes back. Every other operation takes and gives whole grey
values, as Pillow's do.

An image's result does not depend on the other images of the batch, to the bit.

Shapes: b images, c channels, s x s pixels, J slots of the policy, m partners of mixup.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from models.augmentation import geometry, grey_levels
from models.augmentation.cutout import cutout
from models.augmentation.draws import IDENTITY, Draw
from models.augmentation.mixup import mix_images
from models.augmentation.operations import NAMES
from models.augmentation.policies import Interpolation, Outside

_GREY_LEVELS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": lambda images, magnitudes: grey_levels.autocontrast(images),
    "equalize": lambda images, magnitudes: grey_levels.equalize(images),
    "invert": lambda images, magnitudes: grey_levels.invert(images),
    "brightness": grey_levels.brightness,
    "color": grey_levels.colour,
    "contrast": grey_levels.contrast,
    "sharpness": grey_levels.sharpness,
    "posterize": lambda images, magnitudes: grey_levels.posterize(images, magnitudes.round().clamp(min=1)),
    "solarize": grey_levels.solarize,
}

_GEOMETRIC = torch.tensor([NAMES.index(name) for name in NAMES if name in geometry.MAPS or name == "crop"])
_OUTSIDE = {"black": geometry.BLACK, "border": geometry.BORDER}


def augment(images: Tensor, drawn: Draw, partners: Tensor, sampling: tuple[Interpolation, Outside]) -> Tensor:
    """Apply to each image what was drawn for it.

    Args:
        images: (b, c, s, s) uint8, on any device.
        drawn: for these images; on the CPU.
        partners: (m, c, s, s) uint8, the images of `drawn.partner_rows`, on the same device.
        sampling: how positions between pixels, and outside the image, get a grey value.

    Returns:
        (b, c, s, s) uint8; the same tensor if nothing changes.
    """
    geometric = torch.isin(drawn.operations, _GEOMETRIC)
    # geometric operations of one run have the same number of other operations before them
    runs = (~geometric & (drawn.operations != IDENTITY)).cumsum(1)
    maps, outside = _maps(drawn, images.shape[-1], sampling)
    for j in range(drawn.operations.shape[1]):
        for operation in drawn.operations[:, j].unique().tolist():
            rows = (drawn.operations[:, j] == operation).nonzero()[:, 0]
            if operation != IDENTITY and NAMES[operation] not in geometry.MAPS and NAMES[operation] != "crop":
                images = _change(images, NAMES[operation], rows, j, drawn, partners)
        in_run = geometric & (runs == runs[:, j : j + 1])
        ends = geometric[:, j] & ~in_run[:, j + 1 :].any(1)
        rows = ends.nonzero()[:, 0]
        if len(rows):
            images = _resample(images, rows, maps[rows], outside[rows], in_run[rows], sampling[0])
    return images


def _change(images: Tensor, name: str, rows: Tensor, j: int, drawn: Draw, partners: Tensor) -> Tensor:
    """Apply one operation of slot j that moves no pixels to the images of some rows."""
    magnitudes = drawn.magnitudes[rows, j].to(images.device, non_blocking=True)
    if name == "mixup":
        positions = drawn.partner_positions[rows, j].to(images.device, non_blocking=True)
        return _on_rows(images, rows, lambda part: mix_images(part, partners[positions], magnitudes))
    if name == "cutout":
        x, y = drawn.places[rows, j].to(images.device, non_blocking=True).unbind(1)
        return _on_rows(images, rows, lambda part: cutout(part, magnitudes, x, y))
    return _on_rows(images, rows, lambda part: _GREY_LEVELS[name](part, magnitudes))


def _resample(
    images: Tensor, rows: Tensor, maps: Tensor, outside: Tensor, in_run: Tensor, interpolation: Interpolation
) -> Tensor:
    """Resample the images of some rows once, through the maps of a run; slots in no run are left out."""
    used = in_run.any(0).nonzero()[:, 0]
    chain = torch.where(in_run[:, used, None, None], maps[:, used], _IDENTITY_MAP)
    chain, codes = (part.to(images.device, non_blocking=True) for part in (chain, outside[:, used]))
    return _on_rows(images, rows, lambda part: geometry.resample(part, chain, codes, interpolation=interpolation))


def _on_rows(images: Tensor, rows: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the images of some rows; the given tensor stays as it is."""
    if len(rows) == len(images):
        return change(images)
    index = rows.to(images.device, non_blocking=True)
    return images.index_copy(0, index, change(images[index]))


_IDENTITY_MAP = torch.eye(2, 3, dtype=torch.float64)


def _maps(drawn: Draw, side: int, sampling: tuple[Interpolation, Outside]) -> tuple[Tensor, Tensor]:
    """Return each slot's map from output to input positions, (b, J, 2, 3), and what lies outside after it, (b, J)."""
    maps = _IDENTITY_MAP.repeat(*drawn.operations.shape, 1, 1)
    outside = torch.full_like(drawn.operations, _OUTSIDE[sampling[1]])
    for operation in drawn.operations.unique().tolist():
        chosen, name = drawn.operations == operation, NAMES[operation]
        magnitudes = drawn.magnitudes[chosen]
        if name == "crop":
            largest = (magnitudes * side).floor()
            x, y = ((drawn.places[chosen] * (2 * largest + 1)[:, None]).floor() - largest[:, None]).unbind(1)
            maps[chosen] = geometry.translate_x(x / side)
            maps[chosen] += geometry.translate_y(y / side) - _IDENTITY_MAP
            outside[chosen] = geometry.REFLECTED
        elif name in geometry.MAPS:
            if name.startswith("translate") and sampling[0] == "nearest":
                magnitudes = (magnitudes * side).trunc() / side  # as Pillow's users do, and torchvision
            maps[chosen] = geometry.MAPS[name](magnitudes)
    return maps, outside
