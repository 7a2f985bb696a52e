"""Ridge regression on digits: plain, with rotated copies, with compositions and with mixup, on held-out digits.

Real images have no beta and no exactly label-invariant transform: a digit turned by a few degrees keeps its label, and
so a rotated copy should act as the theory's transform, mixup as a stronger ridge. As the theory, the regression has
fewer samples than dimensions.

Shapes: n images of s x s pixels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.settings import Settings

ARMS = ("plain", "rotation", "rotation and shift", "mixup")


class DigitSettings(Settings):
    """Settings of ridge regression on digits."""

    samples: int = Field(200, ge=10, le=10_000, description="training digits, before the augmentation")
    held_out: int = Field(2000, ge=10, le=100_000, description="held-out digits; at most as many as there are left")
    copies: int = Field(2, ge=1, le=20, description="added rows for each training digit, of every augmentation")
    rotation: float = Field(10.0, gt=0, le=45, description="largest rotation in either direction, in degrees")
    shift: float = Field(1.0, gt=0, le=10, description="largest shift along each axis, in pixels")
    ridges: tuple[float, ...] = Field(
        (1e-5, 1e-4, 1e-3, 1e-2, 1e-1), min_length=1, max_length=50, description="lambda; the inputs have mean square 1"
    )
    label_noises: tuple[float, ...] = Field(
        (0.0, 0.2, 0.4), min_length=1, max_length=20, description="share of training labels replaced by random ones"
    )
    against: tuple[int, int] | None = Field(
        None, description="two digits, one against the other; none: all ten, with one-hot targets"
    )


def compare_on_digits(
    settings: DigitSettings, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int
) -> list[dict[str, Any]]:
    """Train ridge regressions on some of the digits and score them on others.

    Args:
        settings: of the comparison.
        images: (n, s, s) uint8.
        labels: (n,), 0 to 9.
        seed: chooses the digits, the rotations, the mixed rows and the label noise.

    Returns:
        One row per arm of `ARMS`, convention, ridge and label noise: 'arm', 'convention', 'ridge', 'label_noise';
        'error', the share of held-out digits that are classified wrongly; 'squared_error', the mean squared distance
        from the targets.

    Raises:
        SettingError: there are too few digits.
    """
    raise NotImplementedError
