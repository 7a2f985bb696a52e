"""Label trust as a task weighting (`trust`): labels that look noisy get less weight.

The estimate itself is in `models.weighting.label_trust`, the weights from noise in `models.weighting.oracle`.

Shapes: n images, k tasks.
"""

from dataclasses import asdict, fields
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.weighting.base import FeatureBatch, FeaturePass, RuleSettings
from models.weighting.feature_weights import MOST_ROWS, ROWS, FeatureWeights, Rows, join_batches
from models.weighting.label_trust import LabelTrust, ReplacedBy, label_trust
from models.weighting.oracle import Formula, noise_weights, random_share_noise

FORMULA = "weight of a label from its estimated noise: information or signal; see oracle"


class TrustSettings(RuleSettings):
    """Weights from label trust: the noise of each label, estimated from cross-fitted features.

    The formula is signal, although `oracle` has information by default: of a label that the features do not show, all
    positives look random, and information switches it off. On validation patients `benchmarks/choose_weights.py` saw
    +0.015 +- 0.004 AUC over uniform weights by signal, and -0.014 +- 0.009 by information.
    """

    kind: Literal["trust"] = "trust"
    features: Literal["cross_fitted"] = Field(
        "cross_fitted",
        description="network whose features give the weights: cross_fitted, for each image a network that was trained "
        "with uniform weights without its patient",
    )
    formula: Formula = Field("signal", description=FORMULA)
    replaced_by: ReplacedBy = Field(
        "coin", description="assumed distribution of a random label: a fair coin, or the label's own prevalence"
    )
    rows: Rows = Field(MOST_ROWS, description=ROWS)

    @property
    def estimates_trust(self) -> bool:
        """See the base class."""
        return True


class Trust(FeatureWeights):
    """Objective: the mean of alpha_i L_i, with alpha from label trust as `models.weighting.oracle` from true noise."""

    settings: TrustSettings

    def __init__(self, settings: TrustSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        self._trust: LabelTrust | None = None

    def compute(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None) -> None:
        """See the base class."""
        batch = join_batches(feature_pass(self.settings.rows))
        self._trust = estimate_trust(batch, self.settings.replaced_by)
        self._set_weights(trust_weights(self._trust, batch.targets, self.settings.replaced_by, self.settings.formula))

    def trust(self) -> LabelTrust | None:
        """Return the label trust."""
        return self._trust

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights and the label trust."""
        return super().state_dict() | trust_state(self._trust)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._trust = read_trust(state)


def trust_weights(trust: LabelTrust, targets: Tensor, replaced_by: ReplacedBy, formula: Formula) -> Tensor:
    """Compute weights (k,) with sum k from label trust and the noisy targets (n, k); an unknown noise counts as 0."""
    known = targets >= 0
    after = ((targets == 1).sum(0).double() / known.sum(0).clamp(min=1)).cpu()
    share = torch.tensor(trust.noise, dtype=torch.float64).nan_to_num(0.0)
    ones = torch.full_like(share, 0.5) if replaced_by == "coin" else None
    return noise_weights(random_share_noise(share, after, ones), formula)


def estimate_trust(batch: FeatureBatch, replaced_by: ReplacedBy) -> LabelTrust:
    """Estimate label trust from features and targets on any device."""
    features, targets, patients, networks = (part.cpu().numpy() for part in batch)
    return label_trust(features, targets, patients, networks=networks, replaced_by=replaced_by)


def trust_state(trust: LabelTrust | None) -> dict[str, Tensor]:
    """Return label trust as tensors, for a state to resume from."""
    columns = asdict(trust) if trust else {}
    # via numpy: torch.tensor would make the numbers float32
    return {f"trust/{name}": torch.as_tensor(np.array(column)) for name, column in columns.items()}


def read_trust(state: dict[str, Tensor]) -> LabelTrust | None:
    """Return the label trust of a `trust_state`; None if there is none."""
    names = [field.name for field in fields(LabelTrust) if f"trust/{field.name}" in state]
    return LabelTrust(*(tuple(state[f"trust/{name}"].tolist()) for name in names)) if names else None
