"""A control for weights: the rule's own weights, dealt to the labels at random.

If a rule wins by giving the right labels more weight, its weights dealt at random must do worse. If they do as well,
the gain has another cause, such as the spread of the weights itself.

Shapes: k tasks.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field

from models.randomness import seed_for
from models.weighting.base import FeaturePass, Features, FixedWeights, RuleSettings, SampleSize
from models.weighting.label_trust import LabelTrust
from models.weighting.oracle import OracleSettings
from models.weighting.svd_rules import SvdDynamicSettings, SvdSettings
from models.weighting.trust import TrustSettings


class PermutedWeightsSettings(RuleSettings):
    """The weights of another rule, dealt to the labels at random: a control for that rule."""

    kind: Literal["permuted_weights"] = "permuted_weights"
    of: Annotated[SvdSettings | SvdDynamicSettings | TrustSettings | OracleSettings, Field(discriminator="kind")] = (
        Field(SvdSettings(), description="rule whose weights are dealt at random")
    )

    @property
    def feature_source(self) -> Features:
        """See the base class."""
        return self.of.feature_source

    @property
    def controls(self) -> str | None:
        """See the base class."""
        return self.of.name

    @property
    def sample(self) -> SampleSize:
        """See the base class."""
        return self.of.sample

    @property
    def estimates_trust(self) -> bool:
        """See the base class."""
        return self.of.estimates_trust

    def check(self, epochs: int, *, pretrained: bool = False, splits_batch: bool = False) -> None:
        """Check what the rule under control checks."""
        self.of.check(epochs, pretrained=pretrained, splits_batch=splits_batch)

    @property
    def name(self) -> str:
        """The kind with the rule under control: `permuted_weights(svd)`."""
        return f"permuted_weights({self.of.name})"


class PermutedWeights(FixedWeights):
    """Objective: the mean of alpha_p(i) L_i, with alpha of another rule and a random permutation p of the labels.

    Args:
        settings: of the control.
        rule: whose weights are permuted.
        tasks: k.
        seed: of the permutation, at least 0.
    """

    def __init__(self, settings: PermutedWeightsSettings, rule: FixedWeights, tasks: int, seed: int) -> None:
        super().__init__(settings, tasks)
        generator = torch.Generator().manual_seed(seed_for(seed, "permuted weights"))
        self._rule, self._order = rule, torch.randperm(tasks, generator=generator)
        self._permute()

    def _permute(self) -> None:
        self._set_weights(self._rule.weights()[self._order])

    def start(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Let the rule compute its weights, and permute them."""
        self._rule.start(feature_pass, validation_pass)
        self._permute()

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Let the rule react to the epoch, and permute its weights."""
        self._rule.after_epoch(epoch, feature_pass, validation_pass)
        self._permute()

    def diagnostics(self) -> dict[str, float]:
        """Return what the rule chose."""
        return self._rule.diagnostics()

    def trust(self) -> LabelTrust | None:
        """Return the rule's label trust."""
        return self._rule.trust()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the state of the rule."""
        return self._rule.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the state of the rule, and permute its weights."""
        self._rule.load_state_dict(state)
        self._permute()
