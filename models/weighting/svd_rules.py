"""Algorithm 2 as task weightings (`svd`, `svd_dynamic`): when weights are computed, on which images, with which rank.

The algorithm itself is in `models.weighting.svd`.

Shapes: n images, d features, k tasks, r rank.
"""

from dataclasses import asdict, fields
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from models.errors import SettingError
from models.weighting.base import FeaturePass, FixedWeights, RuleSettings
from models.weighting.label_trust import LabelTrust, ReplacedBy, label_trust
from models.weighting.oracle import noise_weights
from models.weighting.rank import Moments, RankRule, rank_from_spectrum, rank_on_validation
from models.weighting.svd import Scaling, Theta, check_rank, svd_weights

Rank = Annotated[int, Field(ge=1)] | RankRule | None
_RANK = (
    "weighting rank r, from 1 to the number of labels k (with k, only the strength of a label counts); validation: "
    "chosen on the validation images; spectrum: the number of singular values above chance; none: 3, or 1 for fewer "
    "than 4 labels"
)
_ROWS = (
    "number of training images, sampled by the seed, from whose features the weights are computed: an integer, a share "
    "below 1 (at least 512 images), or none for all"
)


class SvdSettings(RuleSettings):
    """Algorithm 2 (arXiv:2005.00944): a task's weight is larger the more it shares a direction with other tasks.

    The defaults were chosen on validation images of the phantom (3,015 training images, 20 % random labels on three
    findings, two seeds). Mean AUC there was 0.818 with rank 3 and effect, 0.812 with unit, and 0.808 at rank 1; weights
    computed after one epoch were worse than after two. Uniform weights had 0.828. The weights were computed from all
    images; those from 1,024 of 3,434 images have a correlation of 0.98 with them.
    """

    kind: Literal["svd"] = "svd"
    rank: Rank = Field(None, description=_RANK)
    scaling: Scaling = Field(
        "effect",
        description="scaling of the labels: raw (as in the paper; measures prevalence), unit (favours common labels), "
        "effect (independent of prevalence, noisy for rare labels), permutation (effect minus what chance gives)",
    )
    refresh: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (2,),
        min_length=1,
        description="epochs after which the weights are computed, counted from 1; weights are uniform until the first. "
        "0: before training, from the features of a pretrained network",
    )
    rows: Annotated[int, Field(ge=2)] | Annotated[float, Field(gt=0, lt=1)] | None = Field(0.1, description=_ROWS)


class _RankedWeights(FixedWeights):
    """Weights from Algorithm 2 with a rank.

    Args:
        settings: rank, scaling, refresh epochs and number of images.
        tasks: k.

    Raises:
        SettingError: the rank is above k.
    """

    state_names = (*FixedWeights.state_names, "rank")

    def __init__(self, settings: "SvdSettings | SvdDynamicSettings", tasks: int) -> None:
        super().__init__(settings, tasks)
        if isinstance(settings.rank, int):
            check_rank(settings.rank, tasks)
        self._rank = 0  # of the last refresh; 0: no refresh yet

    def diagnostics(self) -> dict[str, float]:
        """Return `rank`, r at the last refresh; nothing before it."""
        return {"rank": float(self._rank)} if self._rank else {}


class Svd(_RankedWeights):
    """Objective: the mean of alpha_i L_i, with alpha from Algorithm 2 on the features of the network so far.

    A refresh costs one forward pass over `rows` images, and the sums of `models.weighting.svd.Theta`, a few percent of
    that. A rank of `spectrum` or `validation` adds the features' covariance; `validation` also adds a pass over the
    validation images.
    """

    settings: SvdSettings

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Compute new weights if the settings ask for a refresh after this epoch."""
        if epoch in self.settings.refresh:
            theta, moments = Theta(), Moments()
            for features, targets in feature_pass(self.settings.rows):
                theta.add(features, targets, targets >= 0)
                if isinstance(self.settings.rank, str):
                    moments.add(features, targets, targets >= 0)
            matrix = theta.matrix(self.settings.scaling)
            self._rank = choose_rank(self.settings.rank, theta, matrix, moments, validation_pass)
            self._set_weights(svd_weights(matrix, self._rank))

    def check(self, epochs: int, pretrained: bool = False) -> None:
        """Check that weights before training have a pretrained network, and that an epoch follows the first refresh."""
        first = min(self.settings.refresh)
        if first == 0 and not pretrained:
            raise SettingError(
                "svd weights are to be computed before training (refresh 0), but the network starts from random "
                "weights: set pretrained: true, or set refresh to 1 or more"
            )
        if first >= epochs:
            raise SettingError(
                f"svd weights are first computed after epoch {first}, but training has {epochs} epoch(s), so no epoch "
                "would use them: train longer, or set refresh to at least 1 and less than the number of epochs"
            )


def choose_rank(rank: Rank, theta: Theta, matrix: Tensor, moments: Moments, validation_pass: FeaturePass | None) -> int:
    """Return the rank that the setting means: a number as it is, a default, or the result of a rule.

    Args:
        rank: the setting.
        theta: sums over the sampled training images.
        matrix: Theta in the scaling of the weights, (d, k).
        moments: sums over the same images; empty unless `rank` is a rule.
        validation_pass: over the validation images, for the rule `validation`.

    Raises:
        SettingError: the rank is to be chosen on validation images, but there are none.
    """
    k = matrix.shape[1]
    match rank:
        case None:
            return 3 if k > 3 else 1
        case "spectrum":
            return rank_from_spectrum(theta.matrix("unit"), moments)
        case "validation":
            if validation_pass is None:
                raise SettingError("rank validation needs validation images: set rank to a number or to spectrum")
            return rank_on_validation(matrix, moments, validation_pass(None))
        case int():
            return rank


class SvdDynamicSettings(RuleSettings):
    """Weights that are computed anew after every epoch, from label trust, from Algorithm 2, or from both."""

    kind: Literal["svd_dynamic"] = "svd_dynamic"
    by: Literal["trust", "svd", "both"] = Field(
        "trust",
        description="weights from label trust (estimated noise p: (1 - p)^2), Algorithm 2 (svd), or their product",
    )
    first: int = Field(
        1, ge=1, description="epoch after which the weights are first computed; weights are uniform until then"
    )
    memory: float = Field(
        0.5, ge=0, lt=1, description="share of the previous running Theta in the new one, at each refresh; 0: no memory"
    )
    replaced_by: ReplacedBy = Field(
        "coin", description="assumed distribution of a random label: a fair coin, or the label's own prevalence"
    )
    rank: Rank = Field(None, description=_RANK)
    scaling: Scaling = Field("effect", description="scaling of the labels; see svd")
    rows: Annotated[int, Field(ge=5)] | Annotated[float, Field(gt=0, lt=1)] | None = Field(1024, description=_ROWS)


class SvdDynamic(_RankedWeights):
    """Objective: the mean of alpha_i L_i, with alpha computed anew after every epoch.

    Theta is an exponential moving average over the refreshes; the label trust is that of the last refresh. From the
    estimated noise p_i of `models.weighting.label_trust` a task gets the weight (1 - p_i)^2, as in
    `models.weighting.oracle` from the true noise. A refresh costs a forward pass over `rows` images, whose features are
    in memory meanwhile.
    """

    settings: SvdDynamicSettings

    def __init__(self, settings: SvdDynamicSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        self._theta: Tensor | None = None
        self._trust: LabelTrust | None = None

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Compute new weights from the epoch `first` on."""
        if epoch < self.settings.first:
            return
        batches = list(feature_pass(self.settings.rows))
        features, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        known = targets >= 0
        theta, moments = Theta().add(features, targets, known), Moments().add(features, targets, known)
        matrix, memory = theta.matrix(self.settings.scaling).cpu(), self.settings.memory
        self._theta = matrix if self._theta is None else memory * self._theta + (1 - memory) * matrix
        self._rank = choose_rank(self.settings.rank, theta, self._theta.to(features.device), moments, validation_pass)
        self._trust = label_trust(
            features.float().cpu().numpy(), targets.cpu().numpy(), replaced_by=self.settings.replaced_by
        )
        self._set_weights(self._combine_weights())

    def _combine_weights(self) -> Tensor:
        """Return the weights (k,) from label trust, Algorithm 2, or their product."""
        alpha = torch.ones_like(self._alpha)
        if self.settings.by != "trust" and self._theta is not None:
            alpha = svd_weights(self._theta, self._rank)
        if self.settings.by != "svd" and self._trust is not None:
            alpha = alpha * noise_weights(torch.tensor(self._trust.noise, dtype=torch.float64).nan_to_num(0.0))
        return alpha * (len(alpha) / alpha.sum()) if alpha.sum() > 0 else torch.ones_like(alpha)

    def check(self, epochs: int, pretrained: bool = False) -> None:
        """Check that an epoch follows the first computation of weights."""
        if self.settings.first >= epochs:
            raise SettingError(
                f"svd_dynamic weights are first computed after epoch {self.settings.first}, but training has {epochs} "
                "epoch(s), so no epoch would use them: train longer, or set first below the number of epochs"
            )

    def trust(self) -> LabelTrust | None:
        """Return the label trust of the last refresh."""
        return self._trust

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, the rank, the running Theta and the label trust."""
        state = super().state_dict()
        if self._theta is not None and self._trust is not None:
            state["theta"] = self._theta.clone()
            # via numpy: torch.tensor would make the numbers float32
            state |= {f"trust/{name}": torch.as_tensor(np.array(c)) for name, c in asdict(self._trust).items()}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        if "theta" in state:
            self._theta = state["theta"].clone()
            names = (field.name for field in fields(LabelTrust))
            self._trust = LabelTrust(*(tuple(state[f"trust/{name}"].tolist()) for name in names))
