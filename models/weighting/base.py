"""The interface of a task weighting: its settings, and the methods that the training loop calls.

To add a weighting, write two classes in a new file of this package:

* its settings, a subclass of `RuleSettings` with a `kind` of its own: `kind: Literal["mine"] = "mine"`;
* the rule, a subclass of one of these:
    * `FixedWeights`, if the weights change only between epochs: call `_set_weights` in `after_epoch`;
    * `StepWeights`, if the weights change in every step: write `backward`, and call `_record_weights` in it;
    * `Weighting`, if neither fits.

Then add both to `models.weighting.registry`.

A rule does its own backward pass. One that weights losses computes an objective and calls `fabric.backward` on it. One
that combines gradients receives the shared features and the network, and writes the gradients itself.

Scale: the objective is the mean over tasks of alpha_i L_i, with alpha_i = 1 for uniform weights. Reported weights have
this scale too, so their sum is k. A learning rate therefore means the same under every rule.

Shapes: b images, d features, k tasks.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.errors import SettingError
from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.settings import KindSettings
from models.weighting.label_trust import LabelTrust

SampleSize = int | float | None
"""Number of images in a sample of a data set: an integer; a share below 1, but at least 512 images; or None for all.
The accuracy depends on the number, not on the share. On a phantom without noise (4,846 training images, medians of 20
samples; `benchmarks/weight_sampling.py`), Algorithm 2's weights from 512 images had a correlation of 0.93 with those
from all images, from 1,024 images 0.97, from 2,048 images 0.99. A weight varied with a standard deviation of 0.15, 0.10
and 0.06. For other networks it may be worse: for one 0.81 was measured with 512 images, 0.90 with 1,024. A tenth of
ChestX-ray14 is 8,600 images."""

Features = Literal["finished", "running", "cross_fitted"]
"""The network whose features a rule uses: `finished`, a network that was trained with uniform weights to the end;
`running`, the network in training as it is at that moment; or `cross_fitted`, for each image a network that was trained
with uniform weights without its patient (`models.training.cross_fit`)."""


class FeatureBatch(NamedTuple):
    """The features of some images.

    Attributes:
        features: (b, d) float32.
        targets: (b, k) int8: 1 present, 0 absent, -1 unknown.
        patients: (b,) int64, the number of each image's patient.
        networks: (b,) int64, the number of the network that the features are from. Features of different networks have
            nothing in common but their number.
    """

    features: Tensor
    targets: Tensor
    patients: Tensor
    networks: Tensor


FeaturePass = Callable[[SampleSize], Iterable[FeatureBatch]]
"""A function that runs a network, in evaluation mode, over a data set or a seeded sample of it, and yields the features
batch by batch. The sample is the same in every call."""


class RuleSettings(KindSettings):
    """The base class of the settings of all weightings. A subclass adds a field `kind`, which identifies it."""

    @property
    def feature_source(self) -> Features:
        """The network whose features give the weights; running for a rule that computes none from features."""
        source: Features = getattr(self, "features", "running")
        return source

    @property
    def controls(self) -> str | None:
        """The name of the rule that this one is a control of; None if it is none."""
        return None

    @property
    def estimates_trust(self) -> bool:
        """Whether the rule estimates label trust from the features, which needs images of several patients."""
        return False

    @property
    def sample(self) -> SampleSize:
        """How many training images the weights are computed from."""
        size: SampleSize = getattr(self, "rows", None)
        return size

    @property
    def needs_whole_batches(self) -> str | None:
        """Why the rule needs the losses of a whole batch in one piece, in words; None if it does not."""
        return None

    def check(self, epochs: int, *, pretrained: bool = False, splits_batch: bool = False) -> None:
        """Check before training that the rule can work and will take effect.

        Args:
            epochs: number of epochs of the training.
            pretrained: whether the network starts from pretrained weights.
            splits_batch: whether batches are cut into micro-batches, or shared by several devices.

        Raises:
            SettingError: no epoch would use the rule's weights, or it needs whole batches.
        """
        self.check_batches(splits_batch)

    def check_batches(self, splits_batch: bool) -> None:
        """Check that a rule which needs whole batches gets them; raise SettingError otherwise."""
        if splits_batch and self.needs_whole_batches:
            raise SettingError(
                f"{self.name} {self.needs_whole_batches}, so the batch cannot be split: leave micro_batch out and set "
                "devices: 1, or choose another method"
            )

    def network(self, network: NetworkSettings) -> NetworkSettings:
        """Return the settings of the network that this weighting trains; by default those that the user asked for."""
        return network


class Weighting(ABC):
    """A task weighting, as the training loop uses it.

    The training loop calls the methods in this order:

    1. Once, before training: `start`, unless `settings.feature_source` is running or training resumes; then
       `parameters`; `load_state_dict` if training resumes.
    2. In a fresh run, before the first step: `after_epoch` with epoch 0.
    3. In every step: `backward`, then the optimiser's step, then `after_step`.
    4. After every epoch: `weights`, then `after_epoch`, then `state_dict` for the checkpoint.
    5. After training: `diagnostics` and `trust`, for the record of results.

    A subclass must define `backward`, `weights`, and the state: `state_names`, or `state_dict` and `load_state_dict`.
    It need not override the other methods.

    Attributes:
        settings: the settings that the weighting was made from.
    """

    combines_gradients: ClassVar[bool] = False
    """Whether the rule combines the gradients of the single tasks. If so, `backward` writes `.grad` itself, without
    `fabric.backward`, and needs the losses of the whole batch with their graph: see
    `RuleSettings.needs_whole_batches`."""

    state_names: ClassVar[tuple[str, ...]]
    """Names in the state to resume from; an attribute with the name after `_` has the value, a tensor or an integer."""

    def __init__(self, settings: RuleSettings) -> None:
        self.settings = settings

    def parameters(self, device: torch.device) -> list[nn.Parameter]:
        """Move the rule's trainable parameters to the network's device and return them; none by default.

        The optimiser trains them together with the network, without weight decay.
        """
        return []

    @abstractmethod
    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Do the step's backward pass: add gradients to `.grad` of the network's and the rule's parameters.

        A rule with `combines_gradients` off uses only `fabric`, `losses` and `present`: when a step is divided into
        micro-batches or among devices, it is called with losses that have no graph to the network, and with empty
        features (0, d), to find the derivative of its objective by the losses.

        Args:
            fabric: a `lightning_fabric.Fabric`; call `fabric.backward(objective)` with a scalar tensor.
            losses: the tasks' losses, (k,) float32, with their graph; 0 for a task that is not present.
            present: (k,) bool, true for the tasks with a known label in the batch.
            features: (b, d) float32, the tensor from which the heads computed the losses.
            network: has `shared_parameters()`, and `heads`, one per loss.
        """

    def after_step(self, losses: Callable[[], Tensor]) -> None:
        """React to an optimiser step, in a rule that learns from the change of the losses, such as FAMO.

        Args:
            losses: computes the losses (k,) of the same batch with the updated network; costs a forward pass.
        """
        return None

    def start(self, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Compute the weights from features before training; only for rules whose features are not running.

        Args:
            feature_pass: over the training images.
            validation_pass: the same over the validation images; None with cross-fitted features.
        """
        raise NotImplementedError(f"{self.settings.name} computes no weights before training")

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """React to the end of an epoch, for example by computing new weights; does nothing by default.

        Args:
            epoch: counted from 1; 0 before the first step of a fresh run.
            feature_pass: over the training images.
            validation_pass: over the validation images.
        """
        return None

    @abstractmethod
    def weights(self) -> Tensor:
        """Return the tasks' current weights: (k,) float64 on the CPU, with sum k.

        If the weights change in every step, return their mean over the steps since the last `after_epoch`. Weights are
        at least 0, except for rules that can subtract a task's gradient (aligned_mtl, imtl_g and similar ones).
        """

    def diagnostics(self) -> dict[str, float]:
        """Return the values that the rule chose at its last refresh, such as `rank`; empty by default."""
        return {}

    def trust(self) -> LabelTrust | None:
        """Return the estimated noise of each label at the last refresh; None if the rule does not estimate it."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that training needs to resume and give the same result to the bit, as CPU tensors."""
        return {name: torch.as_tensor(getattr(self, f"_{name}")).cpu().clone() for name in self.state_names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state that `state_dict` returned."""
        for name in self.state_names:
            number = isinstance(getattr(self, f"_{name}"), int)
            setattr(self, f"_{name}", int(state[name]) if number else state[name].clone())


class FixedWeights(Weighting):
    """A rule whose weights change only between epochs; objective: the mean of alpha_i L_i, alpha_i = 1 at first.

    Args:
        settings: of the rule.
        tasks: k.
    """

    state_names: ClassVar[tuple[str, ...]] = ("alpha",)

    def __init__(self, settings: RuleSettings, tasks: int) -> None:
        super().__init__(settings)
        self._set_weights(torch.ones(tasks, dtype=torch.float64))

    def _set_weights(self, alpha: Tensor) -> None:
        """Set the weights (k,), with sum k, for the next steps."""
        self._alpha = alpha.double().cpu()
        self._factors: Tensor | None = None  # alpha on the losses' device: a copy in every step would block the GPU

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Send the mean of alpha_i L_i back."""
        if self._factors is None:
            self._factors = self._alpha.to(losses)
        fabric.backward((self._factors * losses).mean())

    def weights(self) -> Tensor:
        """Return the current weights, (k,)."""
        return self._alpha.clone()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state, and use its weights in the next step."""
        super().load_state_dict(state)
        self._set_weights(self._alpha)


class StepWeights(Weighting):
    """A rule whose weights change in every step; reports their mean over the epoch.

    `backward` must call `_record_weights`. The sum of the weights stays on the losses' device, so that no step waits
    for a copy.

    Args:
        settings: of the rule.
        tasks: k.
    """

    state_names: ClassVar[tuple[str, ...]] = ("sum", "steps", "last", "factor_sum", "factor")

    def __init__(self, settings: RuleSettings, tasks: int) -> None:
        super().__init__(settings)
        self._sum = torch.zeros(tasks, dtype=torch.float64)
        self._steps = torch.zeros((), dtype=torch.int64)
        self._last = torch.ones(tasks, dtype=torch.float64)
        self._factor_sum = torch.zeros((), dtype=torch.float64)
        self._factor = torch.ones((), dtype=torch.float64)

    def _record_weights(self, alpha: Tensor) -> None:
        """Add a step's weights (k,), scaled to sum k, to the epoch's mean; skip a step whose weights cancel out.

        The mean of the weights before they are scaled is the common factor, which acts like a learning rate.
        """
        alpha = alpha.detach().double()
        total = alpha.sum()
        usable = total > _CANCELLATION * alpha.abs().sum()
        self._sum = self._sum.to(alpha.device) + torch.where(usable, alpha * (len(alpha) / total), 0.0)
        self._factor_sum = self._factor_sum.to(alpha.device) + torch.where(usable, total / len(alpha), 0.0)
        self._steps = self._steps.to(alpha.device) + usable

    def weights(self) -> Tensor:
        """Return the mean weights (k,) of this epoch's steps; before its first step, those of the last epoch."""
        return (self._sum / self._steps).cpu() if self._steps else self._last.clone()

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Start a new mean."""
        self._last, self._factor = self.weights(), self._mean_factor()
        self._sum, self._steps, self._factor_sum = map(torch.zeros_like, (self._sum, self._steps, self._factor_sum))

    def diagnostics(self) -> dict[str, float]:
        """Return the mean common factor of the last epoch's steps."""
        return {COMMON_FACTOR: float(self._mean_factor())}

    def _mean_factor(self) -> Tensor:
        return (self._factor_sum / self._steps).cpu() if self._steps else self._factor.clone()


COMMON_FACTOR = "common_factor"
"""Name, in the diagnostics, of the mean of a rule's weights before they are scaled to sum k."""

_CANCELLATION = 1e-3  # weights whose sum is below this share of the sum of their absolute values cannot be scaled
