"""Algorithm 2 as task weightings (`svd`, `svd_dynamic`): with which rank and scaling, and how the weights are used.

The algorithm itself is in `models.weighting.svd`; when weights are computed, and from which network's features, is in
`models.weighting.feature_weights`.

Shapes: n images, d features, k tasks, r rank.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.errors import SettingError
from models.weighting.base import FeaturePass, FixedWeights, RuleSettings
from models.weighting.feature_weights import FEATURES, MOST_ROWS, ROWS, FeatureWeights, Rows, join_batches
from models.weighting.label_trust import ReplacedBy
from models.weighting.oracle import Formula
from models.weighting.rank import Moments, RankRule, rank_from_spectrum, rank_on_validation
from models.weighting.svd import Scaling, Theta, check_rank, svd_weights
from models.weighting.trust import FORMULA, estimate_trust, trust_weights

Rank = Annotated[int, Field(ge=1, le=10_000)] | RankRule | None
_RANK = (
    "weighting rank r, from 1 to the number of labels k (with k, only the strength of a label counts); validation: "
    "chosen on the validation images; spectrum: the number of singular values above chance; none: 3, or 1 for fewer "
    "than 4 labels"
)


class SvdSettings(RuleSettings):
    """Algorithm 2 (arXiv:2005.00944): a task's weight is larger the more it shares a direction with other tasks.

    With `features: running` and `power: 1` the weights are those of the algorithm's letter, computed in mid-training.
    The power was chosen on validation patients of three phantoms (`benchmarks/choose_weights.py`: 0.5 gained more than
    0.25 and 1). Rank and scaling are those of an earlier choice with running features, not measured anew.
    """

    kind: Literal["svd"] = "svd"
    features: Literal["finished", "running"] = Field("finished", description=FEATURES)
    power: float = Field(
        0.5, gt=0, le=1, description="exponent of the algorithm's weights; 1: as published; smaller: nearer to uniform"
    )
    rank: Rank = Field(None, description=_RANK)
    scaling: Scaling = Field(
        "effect",
        description="scaling of the labels: raw (as in the paper; measures prevalence), unit (favours common labels), "
        "effect (independent of prevalence, noisy for rare labels), permutation (effect minus what chance gives)",
    )
    refresh: tuple[Annotated[int, Field(ge=0, le=100_000)], ...] = Field(
        (2,),
        min_length=1,
        max_length=1000,
        description="with running features: epochs after which the weights are computed, counted from 1; weights are "
        "uniform until the first. 0: before training, from the features of a pretrained network",
    )
    rows: Rows = Field(MOST_ROWS, description=ROWS)

    def check(self, epochs: int, *, pretrained: bool = False, splits_batch: bool = False) -> None:
        """Check that weights before training have a pretrained network, and that an epoch follows the first refresh."""
        super().check(epochs, pretrained=pretrained, splits_batch=splits_batch)
        first = min(self.refresh)
        if self.features == "finished":
            return
        if first == 0 and not pretrained:
            raise SettingError(
                "svd weights are to be computed before training (refresh 0), but the network starts from random "
                "weights: set pretrained: true, or features: finished, or set refresh to 1 or more"
            )
        if first >= epochs:
            raise SettingError(
                f"svd weights are first computed after epoch {first}, but training has {epochs} epoch(s), so no epoch "
                "would use them: train longer, or set features: finished, or set refresh to at least 1 and less than "
                "the number of epochs"
            )


class _RankedWeights(FeatureWeights):
    """Weights from Algorithm 2 with a rank.

    Args:
        settings: rank, scaling, features and number of images.
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
    """Objective: the mean of alpha_i L_i, with alpha from Algorithm 2.

    It costs one forward pass over `rows` images, and the sums of `models.weighting.svd.Theta`, a few percent of that. A
    rank of `spectrum` or `validation` adds the features' covariance; `validation` also adds a pass over the validation
    images.
    """

    settings: SvdSettings

    def due(self, epoch: int) -> bool:
        """See the base class."""
        return epoch in self.settings.refresh

    def compute(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None) -> None:
        """See the base class."""
        theta, moments = Theta(), Moments()
        for features, targets, *_ in feature_pass(self.settings.rows):
            theta.add(features, targets, targets >= 0)
            if isinstance(self.settings.rank, str):
                moments.add(features, targets, targets >= 0)
        matrix = theta.matrix(self.settings.scaling)
        self._rank = choose_rank(self.settings.rank, theta, matrix, moments, validation_pass)
        alpha = svd_weights(matrix, self._rank) ** self.settings.power
        self._set_weights(alpha * (len(alpha) / alpha.sum()))


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
            return rank_on_validation(matrix, moments, (batch[:2] for batch in validation_pass(None)))
        case int():
            return rank


class SvdDynamicSettings(RuleSettings):
    """Weights from label trust, from Algorithm 2, or from both; computed anew after every epoch, or once before.

    The features are from a network that was trained on the labels, so the label trust is too high where it learnt them
    by heart. It serves for the weights only; `trust` reports it, from other features.
    """

    kind: Literal["svd_dynamic"] = "svd_dynamic"
    features: Literal["finished", "running"] = Field("running", description=FEATURES)
    by: Literal["trust", "svd", "both"] = Field(
        "trust", description="weights from label trust, from Algorithm 2 (svd), or their product"
    )
    formula: Formula = Field("signal", description=FORMULA)
    first: int = Field(
        1,
        ge=1,
        le=100_000,
        description="with running features: epoch after which the weights are first computed; weights are uniform "
        "until then",
    )
    memory: float = Field(
        0.5, ge=0, lt=1, description="share of the previous running Theta in the new one, at each refresh; 0: no memory"
    )
    replaced_by: ReplacedBy = Field(
        "coin", description="assumed distribution of a random label: a fair coin, or the label's own prevalence"
    )
    rank: Rank = Field(None, description=_RANK)
    scaling: Scaling = Field("effect", description="scaling of the labels; see svd")
    rows: Rows = Field(MOST_ROWS, description=ROWS)

    @property
    def estimates_trust(self) -> bool:
        """See the base class."""
        return self.by != "svd"

    def check(self, epochs: int, *, pretrained: bool = False, splits_batch: bool = False) -> None:
        """Check that an epoch follows the first computation of weights."""
        super().check(epochs, pretrained=pretrained, splits_batch=splits_batch)
        if self.features == "running" and self.first >= epochs:
            raise SettingError(
                f"svd_dynamic weights are first computed after epoch {self.first}, but training has {epochs} "
                "epoch(s), so no epoch would use them: train longer, or set first below the number of epochs, or set "
                "features: finished"
            )


class SvdDynamic(_RankedWeights):
    """Objective: the mean of alpha_i L_i, with alpha computed anew after every epoch, or once from a finished network.

    Theta is an exponential moving average over the refreshes. A refresh
    costs a forward pass over `rows` images, whose features are in memory meanwhile.
    """

    settings: SvdDynamicSettings

    def __init__(self, settings: SvdDynamicSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        self._theta: Tensor | None = None

    def due(self, epoch: int) -> bool:
        """See the base class."""
        return epoch >= self.settings.first

    def compute(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None) -> None:
        """See the base class."""
        batch = join_batches(feature_pass(self.settings.rows))
        features, targets, *_ = batch
        known = targets >= 0
        theta, moments = Theta().add(features, targets, known), Moments().add(features, targets, known)
        matrix, memory = theta.matrix(self.settings.scaling).cpu(), self.settings.memory
        self._theta = matrix if self._theta is None else memory * self._theta + (1 - memory) * matrix
        self._rank = choose_rank(self.settings.rank, theta, self._theta.to(features.device), moments, validation_pass)
        alpha = torch.ones_like(self._alpha)
        if self.settings.by != "trust":
            alpha = svd_weights(self._theta, self._rank)
        if self.settings.by != "svd":
            trust = estimate_trust(batch, self.settings.replaced_by)
            alpha = alpha * trust_weights(trust, targets, self.settings.replaced_by, self.settings.formula)
        self._set_weights(alpha * (len(alpha) / alpha.sum()) if alpha.sum() > 0 else torch.ones_like(alpha))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights, the rank and the running Theta."""
        theta = {} if self._theta is None else {"theta": self._theta.clone()}
        return super().state_dict() | theta

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._theta = state["theta"].clone() if "theta" in state else None
