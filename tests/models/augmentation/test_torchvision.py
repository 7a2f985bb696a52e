"""RandAugment and TrivialAugment against torchvision: each operation gives its image at each level and sign."""

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from models.augmentation.augment import augment
from models.augmentation.draws import Draw
from models.augmentation.operations import LISTS, NAMES
from tests.models.augmentation.test_operations import TORCHVISION_NAMES

THEIRS = {ours: theirs for theirs, ours in TORCHVISION_NAMES.items()}
SIDE = 56
MOVES = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
LEAST_EQUAL = 0.99
"""Share of pixels that are equal where a picture moves."""

OFF_TIES = 0.999
"""At a shear of 0.2 every fifth row lies half-way between two pixels, and torchvision differs from Pillow too."""


def picture(channels):
    """A smooth picture with edges, for which a pixel beside the right one would mostly have another grey value."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    layers = [127 + 60 * np.sin(9 * x + i) + 50 * np.cos(7 * y - i) + 10 * (x + y > 1) for i in range(channels)]
    return torch.from_numpy(np.stack(layers).round().clip(0, 255).astype(np.uint8))


def ours(image, name, magnitude):
    drawn = Draw(
        torch.tensor([[NAMES.index(name)]]),
        torch.tensor([[magnitude]], dtype=torch.float64),
        torch.zeros(1, 1, 2, dtype=torch.float64),
        torch.full((1, 1), -1),
    )
    return augment(image[None], drawn, image[None][:0], ("nearest", "black"))[0]


def theirs(image, name, magnitude):
    if name.startswith("translate"):  # ours go the other way, as Pillow's; the sign is random in both
        magnitude *= -SIDE
    if name == "posterize":
        magnitude = round(magnitude)
    return _apply_op(image, THEIRS[name], magnitude, InterpolationMode.NEAREST, None)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("operation", LISTS["randaugment"] + LISTS["trivialaugment"], ids=lambda each: each.name)
def test_an_operation_gives_torchvisions_image_at_every_level(operation, channels):
    image = picture(channels)
    for level in np.linspace(0, 1, 31):
        magnitude = operation.low + level * (operation.high - operation.low)
        magnitude *= OFF_TIES if operation.name.startswith("shear") else 1
        for signed in {magnitude, -magnitude} if operation.signed else {magnitude}:
            expected, found = theirs(image, operation.name, signed), ours(image, operation.name, signed)
            distance = (expected.int() - found.int()).abs()
            if operation.name in MOVES:
                assert (distance == 0).float().mean() >= LEAST_EQUAL, signed
            else:
                assert distance.max() <= 1, signed
