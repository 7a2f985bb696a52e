"""Rules that compute weights from features: when, from which network, and on how many images.

In two stages (features `finished`), a network is first trained with uniform weights to the end. The weights are
computed from its features of the training images, and a second network trains with them, from fresh initial weights and
from its first step. The paper takes its X from a pretrained network (section 3.3). With features `running`, the
weights come from the network in training; they then change in the middle of the training, from features that are not
finished.

With features `cross_fitted`, each image's features are from a network that was trained without its patient: no network
has learnt the image's labels by heart.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field

from models.weighting.base import FeatureBatch, FeaturePass, FixedWeights

Rows = Annotated[int, Field(ge=5, le=1_000_000_000)] | Annotated[float, Field(gt=0, lt=1)] | None
ROWS = (
    "number of training images, sampled by the seed, from whose features the weights are computed: an integer (all "
    "images if there are fewer), a share below 1 (at least 512 images), or none for all"
)
FEATURES = (
    "network whose features give the weights: finished (trained before with uniform weights, same seed and noise), or "
    "running (the network in training)"
)
MOST_ROWS = 10_000
"""Images from which weights are computed by default; all, if there are fewer."""


class FeatureWeights(FixedWeights):
    """A rule that computes its weights from features: once before training, or between epochs.

    Args:
        settings: of the rule.
        tasks: k.
    """

    @abstractmethod
    def compute(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None) -> None:
        """Compute the weights from the features, and set them."""

    def due(self, epoch: int) -> bool:
        """Return whether the weights are computed from running features after this epoch."""
        return False

    def start(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Compute the weights from features before training; they stay the same during training."""
        self.compute(feature_pass, validation_pass)

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Compute new weights if the settings ask for it after this epoch."""
        if self.settings.feature_source == "running" and self.due(epoch):
            self.compute(feature_pass, validation_pass)


def join_batches(batches: Iterable[FeatureBatch]) -> FeatureBatch:
    """Return one batch with the images of all."""
    return FeatureBatch(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
