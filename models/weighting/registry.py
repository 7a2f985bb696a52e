"""Task weightings by name: every rule's settings in one union, and the rule that they name.

Shapes: k tasks.
"""

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor

from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.weighting.aggregation import Aggregation, AggregationSettings
from models.weighting.base import FeaturePass, FixedWeights, RuleSettings, Weighting
from models.weighting.oracle import Oracle, OracleSettings
from models.weighting.scalarization import ScalarizationSettings, make_scalarization
from models.weighting.svd_rules import Svd, SvdDynamic, SvdDynamicSettings, SvdSettings

__all__ = [
    "AggregationSettings",
    "FeaturePass",
    "OracleSettings",
    "ScalarizationSettings",
    "SingleTask",
    "SingleTaskSettings",
    "Svd",
    "SvdDynamicSettings",
    "SvdSettings",
    "Uniform",
    "UniformSettings",
    "Weighting",
    "WeightingSettings",
    "make_weighting",
]


class UniformSettings(RuleSettings):
    """Every task counts the same."""

    kind: Literal["uniform"] = "uniform"


class Uniform(FixedWeights):
    """Objective: the mean of the tasks' losses."""


class SingleTaskSettings(RuleSettings):
    """A network for each label, with nothing shared: what multi-task learning is held against."""

    kind: Literal["single_task"] = "single_task"

    def network(self, network: NetworkSettings) -> NetworkSettings:
        return network.model_copy(update={"separate": True})


class SingleTask(FixedWeights):
    """Objective of each label's network: that label's loss. One epoch is chosen for all of them, by mean AUC."""

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        fabric.backward(losses.sum())


WeightingSettings = Annotated[
    UniformSettings
    | SingleTaskSettings
    | SvdSettings
    | SvdDynamicSettings
    | OracleSettings
    | ScalarizationSettings
    | AggregationSettings,
    Field(discriminator="kind"),
]


def make_weighting(
    settings: WeightingSettings, tasks: int, *, seed: int = 0, label_noise: Tensor | None = None
) -> Weighting:
    """The rule that the settings name, for k tasks, at its start.

    Args:
        seed: of what the rule draws, at least 0: the training's.
        label_noise: (k, 2) shares of `models.weighting.oracle.realised_noise`; `oracle` alone reads it.

    Raises:
        SettingError: the settings do not fit the number of tasks, or need what is not there.
    """
    match settings:
        case UniformSettings():
            return Uniform(settings, tasks)
        case SingleTaskSettings():
            return SingleTask(settings, tasks)
        case SvdSettings():
            return Svd(settings, tasks)
        case SvdDynamicSettings():
            return SvdDynamic(settings, tasks)
        case OracleSettings():
            return Oracle(settings, tasks, label_noise)
        case ScalarizationSettings():
            return make_scalarization(settings, tasks, seed)
        case AggregationSettings():
            return Aggregation(settings, tasks, seed)
