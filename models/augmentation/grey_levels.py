"""Changes of grey levels that leave every pixel in its place: Pillow's ImageEnhance and ImageOps, a batch at a time.

All give Pillow's values to the bit: sums are sums of whole numbers, and blends are Pillow's in float32, whose last step
cuts the fraction off. So an image's result is the same in any batch.

Shapes: b images, c channels (1 or 3; red, green, blue), s x s pixels. Images are (b, c, s, s) uint8 on any device, and
what is returned is a new tensor of that shape. Magnitudes are (b,) float64 on the images' device.
"""

import torch
from torch import Tensor

from models.augmentation.batch_parts import in_parts

_LUMA = (19595, 38470, 7471)
"""Parts of red, green and blue in grey, of 2**16: ITU-R BT.601, as Pillow rounds them."""


@in_parts(2**18)
def brightness(images: Tensor, change: Tensor) -> Tensor:
    """Blend with black by Pillow's factor 1 + `change`; change from -1 (black) upwards, 0 changes nothing."""
    return _blend(torch.zeros((), device=images.device), images, change)


@in_parts(2**18)
def colour(images: Tensor, change: Tensor) -> Tensor:
    """Blend with the grey image by the factor 1 + `change`, as `brightness`; images of one channel are copied."""
    if images.shape[1] == 1:
        return images.clone()
    return _blend(_grey(images).float(), images, change)


@in_parts(2**18)
def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Blend with the mean of the grey image, rounded to a grey level, by the factor 1 + `change`, as `brightness`."""
    return _blend(rounded_mean(_grey(images)).float(), images, change)


@in_parts(2**18)
def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Blend with the smoothed image by the factor 1 + `change`, as `brightness`.

    Pillow's SMOOTH weights a pixel by 5/13 and its eight neighbours by 1/13 each; the outermost pixels stay as they
    are.
    """
    smooth = images.float()
    rows = smooth[..., :-2, :] + smooth[..., 1:-1, :]
    rows += smooth[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1]
    total += rows[..., 2:]
    total += smooth[..., 1:-1, 1:-1] * 4
    # exact: 13 divides no sum into a half, and the next value is 1/26 away from one
    smooth[..., 1:-1, 1:-1] = total.mul_(1 / 13).add_(0.5).floor_()
    return _blend(smooth, images, change)


@in_parts(2**18)
def autocontrast(images: Tensor) -> Tensor:
    """Stretch each channel so that its darkest pixel becomes 0 and its brightest 255; a constant one stays."""
    darkest, brightest = (extreme.double()[..., None] for extreme in (images.amin((2, 3)), images.amax((2, 3))))
    levels = torch.arange(256, device=images.device, dtype=torch.float64)
    stretch = levels[-1] / (brightest - darkest)  # a number divided by a tensor would be rounded twice
    table = (levels * stretch).add_(-darkest * stretch).clamp_(0, 255)
    table = torch.where(brightest > darkest, table, levels)
    return _look_up(table.short().byte().flatten(0, 1), images.flatten(2).flatten(0, 1).long(), images)


@in_parts(2**18)
def equalize(images: Tensor) -> Tensor:
    """Make the histogram of each channel as even as a table of grey levels can.

    As in Pillow, a channel stays as it is if fewer than 255 of its pixels are darker than its brightest ones.
    """
    pixels = images.flatten(2).flatten(0, 1).long()
    counts = torch.zeros(len(pixels), 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(1, pixels, torch.ones((), dtype=torch.int64, device=images.device).expand_as(pixels))
    step = (pixels.shape[1] - counts.gather(1, pixels.amax(1, keepdim=True))) // 255
    table = (counts.cumsum(1) - counts + step // 2) // step.clamp(min=1)
    table = torch.where(step > 0, table.clamp_(max=255), torch.arange(256, device=images.device))
    return _look_up(table.byte(), pixels, images)


def invert(images: Tensor) -> Tensor:
    """Replace each grey level v by 255 - v."""
    return images.bitwise_not()


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each grey level: `bits` is a whole number from 1 to 8 for each image; 8 keeps all."""
    return images & ((255 << (8 - bits.long())) & 255).byte()[:, None, None, None]


@in_parts(2**18)
def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the grey levels from `threshold` on; at 256 nothing is inverted, at 0 everything is."""
    first = threshold.ceil().long()[:, None, None, None]
    inverted = (images >= first.clamp(max=255).byte()).view(torch.uint8) * (first < 256)
    return images ^ inverted.neg_()  # with 255, all bits; a hundred times as fast on a CPU as torch.where


def rounded_mean(images: Tensor) -> Tensor:
    """Return the mean of each channel rounded to a grey level, halves up: (b, c, 1, 1) int64."""
    pixels = images.shape[-1] ** 2
    # rows first: sums of int32 are several times as fast, and no row can exceed their range
    total = images.sum(-1, keepdim=True, dtype=torch.int32).sum(-2, keepdim=True)
    return (2 * total + pixels) // (2 * pixels)


def _grey(images: Tensor) -> Tensor:
    """Return Pillow's grey image of each, (b, 1, s, s), in whole numbers from 0 to 255."""
    if images.shape[1] == 1:
        return images
    red, green, blue = (images[:, i : i + 1].int() * _LUMA[i] for i in range(3))
    return red.add_(green).add_(blue).add_(1 << 15) >> 16


def _blend(other: Tensor, images: Tensor, change: Tensor) -> Tensor:
    """Return other + (1 + change) (images - other), cut to whole grey levels from 0 to 255.

    No fused multiply-add: it may round differently in another batch, and Pillow has none.
    """
    factor = (1 + change).float()[:, None, None, None]
    blended = (images - other).mul_(factor).add_(other).clamp_(0, 255)
    return blended.short().byte()  # on a CPU several times as fast as from float32 to uint8 at once


def _look_up(table: Tensor, pixels: Tensor, images: Tensor) -> Tensor:
    """Replace grey levels by a table for each channel of each image.

    Args:
        table: (b * c, 256) uint8.
        pixels: (b * c, s * s) int64, the images' grey levels.
        images: give the shape.
    """
    return table.gather(1, pixels).reshape(images.shape)
