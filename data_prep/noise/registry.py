"""Label noise: seeded, content-addressed masks over the training labels.

m training rows, k labels. Targets are int8: 1 present, 0 absent, -1 unknown.

A noise model selects known entries of the labels it names, an exact share of them, and replaces what it selected:

* ``random``, ``shuffled``, ``flipped``, ``missing``, ``class_conditional``: label by label (`noise_entries`);
* ``confusion``, ``row_and_label``: across the labels of a row (`noise_rows`).

Every kind has a `rate`, `labels`, a `name` for runs and figures, a `title` that leaves the labels out, and a `level`
by which conditions of one kind are ordered.
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
    """Train on the labels as they are."""

    kind: Literal["none"] = Field("none", description="no noise")

    @property
    def name(self) -> str:
        """Return a short name for runs and figures."""
        return "clean"

    @property
    def title(self) -> str:
        """Say what happens."""
        return "no added noise"

    @property
    def level(self) -> float:
        """Return 0: less than any noise."""
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
    """Draw the noise for the training rows.

    targets: (m, k) int8 of the training rows only. Unknown entries are never selected. Raises DataError for a label
    that is not there.
    """
    if isinstance(settings, NoNoise):
        return NoiseMask(tuple(labels), targets.copy(), np.zeros(targets.shape, dtype=bool), targets.copy())
    selected, noisy = settings.draw(targets, labels, seed)
    return NoiseMask(tuple(labels), targets.copy(), selected, noisy)
