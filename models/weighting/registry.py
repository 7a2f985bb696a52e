"""The registry of task weightings: the union of all their settings, and the function that makes a rule from one.

Shapes: k tasks.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

from pydantic import Field
from torch import Tensor

from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.weighting.aggregation import Aggregation, AggregationSettings
from models.weighting.base import FixedWeights, RuleSettings, Weighting
from models.weighting.oracle import LabelNoise, Oracle, OracleSettings
from models.weighting.permuted import PermutedWeights, PermutedWeightsSettings
from models.weighting.scalarization import (
    CommonFactor,
    CommonFactorSettings,
    ScalarizationSettings,
    make_scalarization,
)
from models.weighting.svd_rules import Svd, SvdDynamic, SvdDynamicSettings, SvdSettings
from models.weighting.trust import Trust, TrustSettings


class UniformSettings(RuleSettings):
    """Uniform weights: every task counts the same."""

    kind: Literal["uniform"] = "uniform"


class Uniform(FixedWeights):
    """Objective: the mean of the tasks' losses."""


class SingleTaskSettings(RuleSettings):
    """Single-task learning: a separate network for each label, with nothing shared, for comparison."""

    kind: Literal["single_task"] = "single_task"

    def network(self, network: NetworkSettings) -> NetworkSettings:
        """Return the settings with `separate` switched on."""
        return network.model_copy(update={"separate": True})


class SingleTask(FixedWeights):
    """Objective of each label's network: that label's loss. The best epoch, by mean AUC, is the same for all labels."""

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Send the sum of the losses back, so that each network gets its label's loss with the factor 1."""
        fabric.backward(losses.sum())


WeightingSettings = Annotated[
    UniformSettings
    | SingleTaskSettings
    | SvdSettings
    | SvdDynamicSettings
    | TrustSettings
    | OracleSettings
    | PermutedWeightsSettings
    | CommonFactorSettings
    | ScalarizationSettings
    | AggregationSettings,
    Field(discriminator="kind"),
]


def make_weighting(
    settings: WeightingSettings, tasks: int, *, seed: int = 0, label_noise: LabelNoise | None = None
) -> Weighting:
    """Make the rule for its settings, in its initial state.

    Args:
        settings: of any weighting.
        tasks: k.
        seed: of the training, at least 0, for rules that draw random numbers.
        label_noise: from `models.weighting.oracle.realised_noise`; only `oracle` uses it.

    Raises:
        SettingError: the settings do not fit the number of tasks, or require data or packages that are missing.
    """
    match settings:
        case OracleSettings():
            return Oracle(settings, tasks, label_noise)
        case PermutedWeightsSettings():
            rule = make_weighting(settings.of, tasks, seed=seed, label_noise=label_noise)
            return PermutedWeights(settings, cast(FixedWeights, rule), tasks, seed)
        case ScalarizationSettings():
            return make_scalarization(settings, tasks, seed)
        case AggregationSettings():
            return Aggregation(settings, tasks, seed)
    return _RULES[type(settings)](settings, tasks)


_RULES: dict[type, Callable[[Any, int], Weighting]] = {
    UniformSettings: Uniform,
    SingleTaskSettings: SingleTask,
    SvdSettings: Svd,
    SvdDynamicSettings: SvdDynamic,
    TrustSettings: Trust,
    CommonFactorSettings: CommonFactor,
}
"""The rules that need nothing but their settings and the number of tasks."""
