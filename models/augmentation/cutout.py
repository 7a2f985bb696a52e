"""Cutout: a square of an image is hidden.

DeVries, Taylor: Improved Regularization of Convolutional Neural Networks with Cutout (arXiv:1708.04552). They fill with
0 after subtracting the mean of the data; here each image's own mean fills, which needs no statistics.
"""

import torch
from torch import Tensor

from models.augmentation.batch_parts import in_parts
from models.augmentation.grey_levels import rounded_mean


@in_parts(2**18)
def cutout(images: Tensor, size: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Fill a square of each image with the mean of each channel, rounded to a grey level.

    Args:
        images: (b, c, s, s) uint8.
        size: (b,) float64, side of the square as a share of the image's, 0 (changes nothing) to 1; rounded to whole
            pixels. What would lie outside the image is cut off.
        x: (b,) float64 in [0, 1), the centre of the square as a share of the side, from the left.
        y: (b,) float64 in [0, 1), the same from the top.

    Returns:
        (b, c, s, s) uint8, new. An image's result is the same to the bit in any batch.
    """
    s = images.shape[-1]
    side = (size * s).round()[:, None]
    pixels = torch.arange(s, device=images.device)

    def covered(centre: Tensor) -> Tensor:
        first = (centre[:, None] * s).floor() - (side / 2).floor()
        return ((first <= pixels) & (pixels < first + side)).byte() * 255

    hidden = covered(y)[:, None, :, None] & covered(x)[:, None, None, :]
    # swaps the bits that differ; a hundred times as fast on a CPU as torch.where
    return images ^ ((images ^ rounded_mean(images).byte()) & hidden)
