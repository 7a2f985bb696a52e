"""What the training loop knows of a task weighting: its settings and the calls it answers.

A rule owns its backward step. One that scales losses forms an objective and sends it back; one that combines
gradients is given the shared features and the network and writes the gradients itself. Losses are combined as the
mean over tasks of alpha_i L_i with alpha_i = 1 for uniform weights, and weights are reported on that scale, with sum
k: a learning rate means the same under every rule.

Shapes: b images, d features, k tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.settings import Settings
from models.weighting.label_trust import LabelTrust

SampleSize = int | float | None
"""How many images of a set are enough: a number, a share below 1 (but 512 at least), or none for all of them. What
counts is the number: Algorithm 2's weights from 512 of 3,434 images of the phantom agree with those from all to 0.96
(correlation, mean of 20 subsets), from 1,024 to 0.98; a tenth of ChestX-ray14 is 8,600."""

FeaturePass = Callable[[SampleSize], Iterable[tuple[Tensor, Tensor]]]
"""Starts a pass over a set of images, or over a seeded subset of it; yields features (b, d) and targets (b, k) int8,
in evaluation mode. The subset is the same at every call."""


class RuleSettings(Settings):
    """What the settings of all rules have in common."""

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

    def network(self, network: NetworkSettings) -> NetworkSettings:
        """The network that the rule trains, given the one that was asked for."""
        return network


class Weighting(ABC):
    """What the training loop knows of a rule.

    The calls, in order: `check` and `parameters` once; `after_epoch` with epoch 0 before the first step; in every
    step `backward`, then the optimiser's step, then `after_step`; after every epoch `weights`, then `after_epoch`;
    `state_dict` between epochs.
    """

    combines_gradients: ClassVar[bool] = False
    """Whether the rule needs each task's gradient: `backward` then writes `.grad` without `fabric.backward`, and
    must be given the losses of the whole batch with their graph."""

    def __init__(self, settings: RuleSettings) -> None:
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

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Told after every epoch, counted from 1, and with 0 before the first step of a fresh run.

        Args:
            feature_pass: over the training images.
            validation_pass: over the validation images.
        """
        return None

    def check(self, epochs: int, pretrained: bool = False) -> None:
        """Raises SettingError where the rule could not come into force within so many epochs.

        Args:
            pretrained: whether the network starts from pretrained weights.
        """
        return None

    @abstractmethod
    def weights(self) -> Tensor:
        """The tasks' present weights: (k,) float64 on the CPU, sum k.

        A rule that finds new ones in every step gives their mean over the steps since `after_epoch`. They are at
        least 0, but for rules that may subtract a task's gradient (aligned_mtl, imtl_g and their like).
        """

    def diagnostics(self) -> dict[str, float]:
        """What the rule chose at its last refresh, such as `rank`; empty where it chooses nothing."""
        return {}

    def trust(self) -> LabelTrust | None:
        """How noisy each label was found to be at the last refresh; none where the rule does not estimate it."""
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """All that training must resume with."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Takes up a `state_dict`."""


class FixedWeights(Weighting):
    """Objective: the mean of alpha_i L_i, with weights that stay as they are between epochs; 1 to begin with."""

    def __init__(self, settings: RuleSettings, tasks: int) -> None:
        super().__init__(settings)
        self._set(torch.ones(tasks, dtype=torch.float64))

    def _set(self, alpha: Tensor) -> None:
        """New weights (k,), for the steps to come."""
        self._alpha = alpha.double().cpu()
        self._factors: Tensor | None = None  # the same on the losses' device: a copy in every step would wait for it

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        if self._factors is None:
            self._factors = self._alpha.to(losses)
        fabric.backward((self._factors * losses).mean())

    def weights(self) -> Tensor:
        return self._alpha.clone()

    def state_dict(self) -> dict[str, Tensor]:
        return {"alpha": self._alpha.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._set(state["alpha"].clone())


class StepWeights(Weighting):
    """A rule whose weights change in every step: keeps their mean over the epoch for the record.

    The sum stays on the losses' device, so that no step waits for it.
    """

    def __init__(self, settings: RuleSettings, tasks: int) -> None:
        super().__init__(settings)
        self._sum = torch.zeros(tasks, dtype=torch.float64)
        self._steps = torch.zeros((), dtype=torch.int64)
        self._last = torch.ones(tasks, dtype=torch.float64)

    def _record(self, alpha: Tensor) -> None:
        """Takes in a step's weights (k,), scaled to sum k; a step whose weights cancel out is passed over."""
        alpha = alpha.detach().double()
        total = alpha.sum()
        usable = total > _CANCELLED * alpha.abs().sum()
        self._sum = self._sum.to(alpha.device) + torch.where(usable, alpha * (len(alpha) / total), 0.0)
        self._steps = self._steps.to(alpha.device) + usable

    def weights(self) -> Tensor:
        return (self._sum / self._steps).cpu() if self._steps else self._last.clone()

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        self._last = self.weights()
        self._sum, self._steps = torch.zeros_like(self._sum), torch.zeros_like(self._steps)

    def state_dict(self) -> dict[str, Tensor]:
        return {"sum": self._sum.cpu().clone(), "steps": self._steps.cpu().clone(), "last": self._last.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._sum, self._steps, self._last = (state[name].clone() for name in ("sum", "steps", "last"))


_CANCELLED = 1e-3  # a sum of weights below this share of their sizes says nothing about the tasks
