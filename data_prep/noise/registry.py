"""The registry of label noise models, and the draw of a noise mask over the training labels.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.

A noise model selects an exact share of the known entries of the labels it names, and replaces them:

* ``random``, ``shuffled``, ``flipped``, ``missing``, ``class_conditional``: label by label
  (`data_prep.noise.entries`);
* ``confusion``, ``row_and_label``: across the labels of a row (`data_prep.noise.rows`).

Every kind has a `rate`, `labels`, a `name` for runs and figures, a `title` without the labels, and a `level` that
orders conditions of one kind.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from data_prep.noise.entries import ClassConditionalNoise, FlippedNoise, MissingNoise, RandomNoise, ShuffledNoise
from data_prep.noise.mask import NoiseMask
from data_prep.noise.rows import ConfusionNoise, RowAndLabelNoise
from data_prep.settings import Settings


class NoNoise(Settings):
    """No noise: training on the labels as they are."""

    kind: Literal["none"] = Field("none", description="no noise")

    @property
    def name(self) -> str:
        """A short name for runs and figures."""
        return "clean"

    @property
    def title(self) -> str:
        """The noise, for display."""
        return "no added noise"

    @property
    def level(self) -> float:
        """0, less than the level of any noise."""
        return 0.0


_Added = (
    RandomNoise
    | ShuffledNoise
    | FlippedNoise
    | ClassConditionalNoise
    | ConfusionNoise
    | RowAndLabelNoise
    | MissingNoise
)
AddedNoise = Annotated[_Added, Field(discriminator="kind")]
NoiseSettings = Annotated[NoNoise | _Added, Field(discriminator="kind")]


def draw_noise(settings: NoiseSettings, targets: np.ndarray, labels: Sequence[str], seed: int) -> NoiseMask:
    """Draw the noise for the training rows; unknown entries are never selected.

    Args:
        settings: the noise model.
        targets: (m, k) int8, of the training rows only.
        labels: names of the k labels.
        seed: of the draw.

    Raises:
        DataError: the noise names a label that is not among `labels`.
    """
    if isinstance(settings, NoNoise):
        return NoiseMask(tuple(labels), targets.copy(), np.zeros(targets.shape, dtype=bool), targets.copy())
    selected, noisy = settings.draw(targets, labels, seed)
    return NoiseMask(tuple(labels), targets.copy(), selected, noisy)
