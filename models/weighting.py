"""Task weightings: how the losses of k tasks become one backward step.

A weighting owns its backward step; the training loop knows only `Weighting`. A rule that scales losses forms one
objective and sends it back; a rule that combines gradients may send each loss back on its own (it is given the
shared features and the network for that). Losses are combined as the mean over tasks of alpha_i L_i with
alpha_i = 1 for uniform weights, and weights are reported on that scale, with sum k: a learning rate means the same
under every rule.

Shapes: b images, d features, k tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from models.errors import SettingError
from models.networks import MultiTaskNetwork
from models.svd import Scaling, Theta, check_rank, svd_weights

FeaturePass = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over the training set; yields features (b, d) and targets (b, k) int8, in evaluation mode."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def name(self) -> str:
        """The kind, with the settings that are not the default: `svd`, `svd(rank=3)`."""
        kind: str = getattr(self, "kind")  # noqa: B009  every member of the union has one
        changed = [
            f"{field}={getattr(self, field)}"
            for field, info in type(self).model_fields.items()
            if field != "kind" and getattr(self, field) != info.default
        ]
        return f"{kind}({', '.join(changed)})" if changed else kind


class UniformSettings(_Settings):
    """Every task counts the same."""

    kind: Literal["uniform"] = "uniform"


class SvdSettings(_Settings):
    """Algorithm 2 (arXiv:2005.00944): tasks count by how far they share a direction with the others.

    The defaults were chosen on validation images of the phantom (3,015 training images, 20 % random labels on three
    findings, two seeds), where mean AUC was 0.818 with rank 3 and effect, 0.812 with unit, and 0.808 at rank 1;
    weights computed after one epoch did worse than after two. Uniform weights had 0.828 there.
    """

    kind: Literal["svd"] = "svd"
    rank: int | None = Field(
        None,
        ge=1,
        description="weighting rank r, from 1 to the number of labels k (k weighs by strength alone); "
        "none: 3, or 1 where there are fewer than 4 labels",
    )
    scaling: Scaling = Field(
        "effect",
        description="scaling of the labels: raw (as printed; measures prevalence), unit (favours common labels), "
        "effect (free of prevalence, noisy for rare labels), permutation (effect less what chance gives)",
    )
    refresh: tuple[int, ...] = Field(
        (2,),
        min_length=1,
        description="epochs after which the weights are computed anew, counted from 1; uniform until the first",
    )


class UncertaintySettings(_Settings):
    """Kendall, Gal, Cipolla (CVPR 2018): learned log-variances, one per task."""

    kind: Literal["uncertainty"] = "uncertainty"


WeightingSettings = Annotated[UniformSettings | SvdSettings | UncertaintySettings, Field(discriminator="kind")]


class Weighting(ABC):
    """What the training loop knows of a rule.

    The calls, in order: `check` and `parameters` once; in every step `backward`, then the optimiser's step, then
    `after_step`; after every epoch `after_epoch`; `weights` and `state_dict` at any time between steps.
    """

    def __init__(self, settings: WeightingSettings) -> None:
        self.settings = settings

    def parameters(self, device: torch.device) -> list[nn.Parameter]:
        """What the rule learns by gradient, brought to the device; goes to the optimiser, without weight decay."""
        return []

    @abstractmethod
    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Adds this step's gradients to `.grad` of the network's and the rule's own parameters.

        Args:
            fabric: a `lightning_fabric.Fabric`; a scalar objective is sent back with `fabric.backward`.
            losses: (k,) float32 with their graph; 0 where the task is not present.
            present: (k,) bool, the tasks with a known label in the batch.
            features: (b, d) float32, the tensor from which the heads computed the losses.
            network: gives `shared_parameters()` and `heads`, one per loss.
        """

    def after_step(self, losses: Callable[[], Tensor]) -> None:
        """Told after every optimiser step, with a way to the losses (k,) of the same batch under the new weights
        (rules that learn from the change of the losses need it, such as FAMO; it costs a forward pass)."""
        return None

    def after_epoch(self, epoch: int, feature_pass: FeaturePass) -> None:
        """Told after every epoch, counted from 1. Whoever needs the features starts `feature_pass`."""
        return None

    def check(self, epochs: int) -> None:
        """Raises SettingError where the rule could not come into force within so many epochs."""
        return None

    @abstractmethod
    def weights(self) -> Tensor:
        """The tasks' present weights: (k,) float64 on the CPU, at least 0, sum k."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """All that training must resume with."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes up a `state_dict`."""


class _FixedWeights(Weighting):
    """Weights that stay as they are between epochs; 1 to begin with."""

    def __init__(self, settings: WeightingSettings, tasks: int) -> None:
        super().__init__(settings)
        self._alpha = torch.ones(tasks, dtype=torch.float64)

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        fabric.backward((self._alpha.to(losses) * losses).mean())

    def weights(self) -> Tensor:
        return self._alpha.clone()

    def state_dict(self) -> dict[str, Tensor]:
        return {"alpha": self._alpha.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._alpha = state["alpha"].clone()


class Uniform(_FixedWeights):
    """Objective: the mean of the tasks' losses."""


class Svd(_FixedWeights):
    """Objective: the mean of alpha_i L_i, with alpha from Algorithm 2 on the features of the network so far.

    A refresh costs one forward pass over the training set, about a third of an epoch, and the sums of
    `models.svd.Theta`, a few percent of that pass.
    """

    def __init__(self, settings: SvdSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        self._rank = settings.rank or (3 if tasks > 3 else 1)
        check_rank(self._rank, tasks)
        self._scaling, self._refresh = settings.scaling, settings.refresh

    def after_epoch(self, epoch: int, feature_pass: FeaturePass) -> None:
        if epoch in self._refresh:
            theta = Theta()
            for features, targets in feature_pass():
                theta.add(features, targets, targets >= 0)
            self._alpha = svd_weights(theta.matrix(self._scaling), self._rank).cpu()

    def check(self, epochs: int) -> None:
        first = min(self._refresh)
        if first < 1 or first >= epochs:
            raise SettingError(
                f"svd weights are first computed after epoch {first}, but training has {epochs} epoch(s), so no epoch "
                "would use them: train longer, or choose refresh from 1 to the number of epochs less one"
            )


class Uncertainty(Weighting):
    """Objective: the mean of exp(-s_i) L_i + s_i, with learned log-variances s_i (TorchJD's UW, times 2 / k).

    A task without a known label in a batch is left out of it, or its s_i would fall for no reason.
    """

    def __init__(self, settings: UncertaintySettings, tasks: int) -> None:
        super().__init__(settings)
        from torchjd.scalarization import UW

        self._rule = UW(tasks)

    def parameters(self, device: torch.device) -> list[nn.Parameter]:
        return list(self._rule.to(device).parameters())

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        absent = 0.5 * (self._rule.log_var * ~present).sum()
        fabric.backward((self._rule(losses) - absent) * (2 / len(losses)))

    def weights(self) -> Tensor:
        """exp(-s), scaled to sum k: the common factor is one of the learning rate."""
        alpha = torch.softmax(-self._rule.log_var.detach().double().cpu(), 0)
        return alpha * len(alpha)

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self._rule.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._rule.load_state_dict(state)


def make_weighting(settings: WeightingSettings, tasks: int) -> Weighting:
    """The rule that the settings name, for k tasks, at its start.

    Raises:
        SettingError: the settings do not fit the number of tasks.
    """
    match settings:
        case UniformSettings():
            return Uniform(settings, tasks)
        case SvdSettings():
            return Svd(settings, tasks)
        case UncertaintySettings():
            return Uncertainty(settings, tasks)
