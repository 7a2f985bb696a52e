"""Ridge regression on digits: plain, with rotated copies, with compositions and with mixup, on held-out digits.

Real images have no known beta and no transform that keeps every label: a digit that is turned by a few degrees keeps
its own, and so a rotated copy should act as the theory's transform. Mixup should act as plain ridge with the lambda' of
`models.theory.label_mixing`: `EQUIVALENT`. As in the theory, there are fewer samples than pixels. The inputs are
centred and scaled to a mean squared length of 1; the targets are centred one-hot vectors, and the largest prediction
names the digit.

Shapes: n images of s x s pixels, N rows, k digits.
"""

from collections.abc import Iterator
from itertools import product
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy.ndimage import affine_transform

from models.errors import SettingError
from models.settings import Settings
from models.theory.augmented_ridge import CONVENTIONS, ridge_penalty
from models.theory.label_mixing import equivalent_ridge
from models.theory.linear_tasks import Floats, stream

Digit = Annotated[int, Field(ge=0, le=9)]

ARMS = PLAIN, ROTATION, COMPOSITION, MIXUP, EQUIVALENT = (
    "plain",
    "rotation",
    "rotation and shift",
    "mixup",
    "ridge that mixup acts as",
)


class DigitSettings(Settings):
    """Settings of ridge regression on digits."""

    samples: int = Field(200, ge=10, le=10_000, description="n, training digits before the augmentation")
    held_out: int = Field(2000, ge=10, le=100_000, description="digits that are scored")
    copies: int = Field(2, ge=1, le=20, description="added rows per training digit, in every augmentation")
    rotation: float = Field(10.0, gt=0, le=45, description="largest rotation in either direction, in degrees")
    shift: float = Field(1.0, gt=0, le=10, description="largest shift along each axis, in pixels")
    ridges: tuple[Annotated[float, Field(gt=0, le=1e6)], ...] = Field(
        (3e-4, 1e-3, 2e-3, 3e-3, 5e-3, 7e-3, 0.01, 0.014, 0.02, 0.03, 0.05, 0.1, 0.2),
        min_length=1,
        max_length=50,
        description="lambda, for inputs of mean square 1; close to each other, since mixup acts as a ridge 1.2 to 1.5 "
        "times as large",
    )
    label_noises: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        (0.0, 0.2, 0.4), min_length=1, max_length=20, description="share of training labels replaced by random ones"
    )
    against: tuple[Digit, Digit] | None = Field(None, description="two digits, one against the other; none: all ten")

    @model_validator(mode="after")
    def _digits_differ(self) -> Self:
        if self.against and self.against[0] == self.against[1]:
            raise ValueError(f"against must name two different digits; got {self.against[0]} twice")
        return self


def compare_on_digits(
    settings: DigitSettings, images: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int
) -> list[dict[str, Any]]:
    """Train ridge regressions on some of the digits and score them on others.

    Args:
        settings: of the comparison.
        images: (n, s, s) uint8.
        labels: (n,), 0 to 9.
        seed: chooses the digits, the transforms, the mixed rows and the label noise.

    Returns:
        One row per arm of `ARMS`, convention, ridge and label noise: 'arm', 'convention', 'ridge', 'label_noise';
        'error', the share of held-out digits that are classified wrongly; 'squared_error', the mean squared distance
        of the predictions from the one-hot targets.

    Raises:
        SettingError: there are too few digits.
    """
    digits = np.array(settings.against or range(10))
    generator = stream(seed, "digits")
    chosen = generator.permutation(np.flatnonzero(np.isin(labels, digits)))
    n, wanted = settings.samples, settings.samples + settings.held_out
    if len(chosen) < wanted:
        raise SettingError(
            f"samples and held_out ask for {wanted} digits, but there are {len(chosen)}; lower one of them"
        )
    train, test = images[chosen[:n]], images[chosen[n:wanted]].reshape(settings.held_out, -1)
    one_hot = (labels[chosen[:wanted], None] == digits).astype(np.float64)
    targets = [_with_noise(one_hot[:n], share, stream(seed, "label noise")) for share in settings.label_noises]
    means = [each.mean(0) for each in targets]
    centre = train.reshape(n, -1).mean(0)
    scale = np.sqrt(((train.reshape(n, -1) - centre) ** 2).sum(1).mean())
    scored = (test - centre) / scale
    results = []
    for arm, pixels, mixing in _augmented(settings, train, seed):
        left, values, right = np.linalg.svd((pixels - centre) / scale, full_matrices=False)
        projected = scored @ right.T
        for noise, target, mean in zip(settings.label_noises, targets, means, strict=True):
            aligned = left.T @ (mixing @ (target - mean))
            for convention, ridge in product(CONVENTIONS, settings.ridges):
                penalty = ridge_penalty(convention, ridge, n, len(pixels))
                if arm == EQUIVALENT:
                    penalty = n * ridge * equivalent_ridge(convention, n, settings.copies * n, 1.0)
                shrunk = values / (values**2 + penalty)
                predicted = mean + projected @ (shrunk[:, None] * aligned)
                cell = {"arm": arm, "convention": convention, "ridge": ridge, "label_noise": noise}
                results.append(cell | _score(predicted, one_hot[n:]))
    return results


def transform_digits(images: NDArray[np.uint8], degrees: Floats, shifts: Floats) -> Floats:
    """Rotate and shift each image by its own amounts, with bilinear interpolation; what comes in is black.

    Args:
        images: (n, s, s) uint8.
        degrees: (n,), counterclockwise as the images are shown.
        shifts: pixels down and to the right, (n, 2).

    Returns:
        (n, s, s) grey values, 0 to 255.
    """
    centre = (np.array(images.shape[1:]) - 1) / 2
    moved = np.empty(images.shape)
    for i, (angle, shift) in enumerate(zip(np.radians(degrees), shifts, strict=True)):
        inverse = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        offset = centre - inverse @ (centre + shift)
        affine_transform(images[i].astype(np.float64), inverse, offset, output=moved[i], order=1, mode="grid-constant")
    return moved


def _augmented(settings: DigitSettings, train: NDArray[np.uint8], seed: int) -> Iterator[tuple[str, Floats, Floats]]:
    """Yield each arm with its rows, (N, s * s) grey values, and the matrix that makes their targets, (N, n)."""
    n, added = len(train), settings.copies * len(train)
    flat, own = train.reshape(n, -1).astype(np.float64), np.eye(n)
    yield PLAIN, flat, own
    yield EQUIVALENT, flat, own
    generator = stream(seed, "transforms of digits")
    degrees = settings.rotation * generator.uniform(-1, 1, added)
    shifts = settings.shift * generator.uniform(-1, 1, (added, 2))
    copies = np.tile(train, (settings.copies, 1, 1))
    repeated = np.tile(own, (settings.copies + 1, 1))
    for arm, moves in ((ROTATION, np.zeros_like(shifts)), (COMPOSITION, shifts)):
        yield arm, np.vstack([flat, transform_digits(copies, degrees, moves).reshape(added, -1)]), repeated
    first, second = generator.integers(n, size=(2, added))
    weight = generator.random((added, 1))
    mixing = np.vstack([own, weight * own[first] + (1 - weight) * own[second]])
    yield MIXUP, mixing @ flat, mixing


def _with_noise(one_hot: Floats, share: float, generator: np.random.Generator) -> Floats:
    """Replace the labels of a share of the rows by random ones, right or wrong; a larger share contains a smaller."""
    order = generator.permutation(len(one_hot))
    random = np.eye(one_hot.shape[1])[generator.integers(one_hot.shape[1], size=len(one_hot))]
    return np.where((order < round(share * len(one_hot)))[:, None], random, one_hot)


def _score(predicted: Floats, one_hot: Floats) -> dict[str, float]:
    wrong = predicted.argmax(1) != one_hot.argmax(1)
    return {"error": float(wrong.mean()), "squared_error": float(((predicted - one_hot) ** 2).sum(1).mean())}
