"""Scalarization: rules that turn the tasks' losses into one objective; TorchJD's scalarizations, by their usual names.

    uncertainty  Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses (CVPR 2018)
    imtl_l       Liu et al.: Towards Impartial Multi-Task Learning (ICLR 2021), the loss balance
    dwa          Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention (CVPR 2019), temperature 2
    rlw          Lin et al.: Reasonable Effectiveness of Random Weighting (TMLR 2022)
    famo         Liu et al.: FAMO: Fast Adaptive Multitask Optimization (NeurIPS 2023); a second forward pass per step
    stch         Lin et al.: Smooth Tchebycheff Scalarization (ICML 2024), mu 0.1, preference 1 for every task
    gls          Chennupati et al.: MultiNet++ (CVPRW 2019), the geometric mean of the losses
    pbi          Zhang, Li: MOEA/D (2007), penalty-based boundary intersection, theta 5; may raise the smallest losses
    cosmos       Ruchte, Grabocka: Scalable Pareto Front Approximation (ICDM 2021), lambda 1

TorchJD's Mean is our `uniform`; its Sum is `uniform` with k times the learning rate; its Constant needs given weights,
for which there are `svd` and `oracle`.

Of every rule f only the gradient is used: the objective is sum_i (df/dL_i) L_i, linear in the losses, with constant
factors df/dL_i. It has the same gradient as f, and the factors are the weights that the tasks really have. f is
multiplied by a constant such that equal losses give every task the weight 1. A task without a known label in the batch
is left out: the other tasks get the weights that they would get without it, and what the rule has learnt about it stays
the same.

Shapes: k tasks, m of them present.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.networks.multitask import MultiTaskNetwork
from models.weighting.base import COMMON_FACTOR, FeaturePass, FixedWeights, RuleSettings, StepWeights, Weighting
from models.weighting.step_generator import step_generator

_POSITIVE = 1e-8  # smallest loss for rules that take the logarithm of losses


class ScalarizationSettings(RuleSettings):
    """A scalarization rule, with the constants of its paper."""

    kind: Literal["uncertainty", "imtl_l", "dwa", "rlw", "famo", "stch", "gls", "pbi", "cosmos"] = Field(
        "uncertainty", description="name of the rule"
    )

    @property
    def needs_whole_batches(self) -> str | None:
        """See the base class."""
        return "learns from the losses of whole batches" if self.kind == "dwa" else None


def make_scalarization(settings: ScalarizationSettings, tasks: int, seed: int) -> Weighting:
    """Make the rule for its settings, for k tasks, in its initial state; the seed is for rules that draw numbers."""
    match settings.kind:
        case "uncertainty" | "imtl_l":
            return LearnedScales(settings, tasks)
        case "dwa":
            return DynamicWeightAverage(settings, tasks)
        case "famo":
            return FastAdaptive(settings, tasks)
        case _:
            return Stateless(settings, tasks, seed)


class CommonFactorSettings(RuleSettings):
    """A control for `uncertainty` and `imtl_l`: all tasks get the mean of the rule's factors, so none is weighted."""

    kind: Literal["common_factor"] = "common_factor"
    of: Literal["uncertainty", "imtl_l"] = Field("uncertainty", description="rule whose mean factor all tasks get")

    @property
    def controls(self) -> str | None:
        """See the base class."""
        return self.of


class LearnedScales(Weighting):
    """Rules with a trainable scale s_i per task: `uncertainty` and `imtl_l`, which differ only in the sign of s_i.

    The objective of `uncertainty` is the mean of exp(-s_i) L_i + s_i, that of `imtl_l` the mean of exp(s_i) L_i - s_i.

    Args:
        settings: kind `uncertainty` or `imtl_l`, or the control of one of them.
        tasks: k.
    """

    def __init__(self, settings: ScalarizationSettings | CommonFactorSettings, tasks: int) -> None:
        super().__init__(settings)
        from torchjd.scalarization import IMTLL, UW

        kind = settings.of if isinstance(settings, CommonFactorSettings) else settings.kind
        # UW as published has a factor of one half
        self._rule, self._scale = (UW(tasks), 2 / tasks) if kind == "uncertainty" else (IMTLL(tasks), 1 / tasks)

    def parameters(self, device: torch.device) -> list[nn.Parameter]:
        """Return the scales s, moved to the device."""
        return list(self._rule.to(device).parameters())

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Send back the losses, weighted by the rule's gradient, and the gradient of the scales."""
        (scales,) = self._rule.parameters()
        point = losses.detach().requires_grad_()
        loss_gradient, scale_gradient = torch.autograd.grad(self._rule(point), (point, scales))
        loss_gradient = self._loss_gradient(loss_gradient)
        scale_gradient = torch.where(present, scale_gradient, 0.0)  # otherwise s_i of an absent task would change
        fabric.backward(self._scale * (loss_gradient @ losses + scale_gradient @ scales))

    def _loss_gradient(self, gradient: Tensor) -> Tensor:
        """Return the factors (k,) of the losses."""
        return gradient

    def weights(self) -> Tensor:
        """Return exp(-s) or exp(s), scaled to sum k; the common factor acts like a learning rate."""
        alpha = self._factors()
        return alpha * (len(alpha) / alpha.sum())

    def diagnostics(self) -> dict[str, float]:
        """Return the common factor, the mean of exp(-s) or exp(s)."""
        return {COMMON_FACTOR: float(self._factors().mean())}

    def _factors(self) -> Tensor:
        (scales,) = self._rule.parameters()
        gradient = scalarization_gradient(self._rule, torch.ones_like(scales))
        return len(scales) * self._scale * self._loss_gradient(gradient).double().cpu()

    def state_dict(self) -> dict[str, Tensor]:
        """Return the scales."""
        return {name: value.detach().cpu().clone() for name, value in self._rule.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the scales."""
        self._rule.load_state_dict(state)


class CommonFactor(LearnedScales):
    """The control of `LearnedScales`: the scales are learnt in the same way, and every task gets their mean factor."""

    def _loss_gradient(self, gradient: Tensor) -> Tensor:
        return gradient.mean().expand_as(gradient)


class DynamicWeightAverage(FixedWeights):
    """Dynamic weight average, `dwa`: the less a task's loss fell over the last two epochs, the larger its next weight.

    A task's loss in an epoch is the mean over the batches in which it is present. If there is none, it is that of the
    epoch before (1 in the first epoch).

    Args:
        settings: kind `dwa`.
        tasks: k.
    """

    state_names = (*FixedWeights.state_names, "sum", "batches", "averages")

    def __init__(self, settings: ScalarizationSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        self._sum = torch.zeros(tasks, dtype=torch.float64)
        self._batches = torch.zeros(tasks, dtype=torch.float64)
        self._averages = torch.empty(0, tasks, dtype=torch.float64)  # of the last two epochs at most

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Send the weighted mean of the losses back, and add the losses to the epoch's mean."""
        super().backward(fabric, losses, present, features, network)
        self._sum = self._sum.to(losses.device) + losses.detach()
        self._batches = self._batches.to(losses.device) + present

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        """Compute the weights of the next epoch from the losses of the last two."""
        if epoch == 0:
            return
        from torchjd.scalarization import DWA

        previous = self._averages[-1] if len(self._averages) else torch.ones_like(self._alpha)
        seen, summed = self._batches.cpu(), self._sum.cpu()
        average = torch.where(seen > 0, summed / seen.clamp(min=1), previous).clamp(min=_POSITIVE)
        self._averages = torch.cat([self._averages, average[None]])[-2:]
        self._sum, self._batches = torch.zeros_like(self._sum), torch.zeros_like(self._batches)
        rule = DWA()
        for epoch_average in self._averages:
            rule(epoch_average)
            rule.step()
        self._set_weights(scalarization_gradient(rule, average))


class FastAdaptive(StepWeights):
    """Fast adaptive multitask optimization, `famo`: weights z_i / L_i, scaled to sum 1.

    z is the softmax of logits, which learn from the decrease of each loss in the step.

    Args:
        settings: kind `famo`.
        tasks: k.
    """

    def __init__(self, settings: ScalarizationSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        from torchjd.scalarization import FAMO

        self._rule = FAMO(tasks)
        self._losses_before = torch.ones(tasks)
        self._present = torch.ones(tasks, dtype=torch.bool)

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Send the weighted losses back, and remember them for `after_step`."""
        (logits,) = self._rule.to(losses.device).parameters()
        adam_state = self._adam_state(logits)
        adam_state.update({name: value.to(losses.device) for name, value in adam_state.items() if name != "step"})
        self._present = present
        self._losses_before = torch.where(present, losses.detach(), 1.0)
        loss_gradient = torch.where(present, scalarization_gradient(self._rule, self._losses_before), 0.0)
        share = present.sum() / len(losses)
        loss_gradient = loss_gradient * (share / loss_gradient.sum().clamp(min=_POSITIVE))
        fabric.backward(loss_gradient @ losses)
        self._record_weights(torch.where(present, len(losses) * loss_gradient, 1.0))

    def after_step(self, losses: Callable[[], Tensor]) -> None:
        """Update the logits.

        An absent task is given the mean decrease of the others, so that its logit stays the same, except for FAMO's
        weight decay.
        """
        (logits,) = self._rule.parameters()
        z = torch.where(self._present, torch.softmax(logits.detach(), 0), 0.0)
        after = torch.where(self._present, losses(), 1.0)
        decrease = torch.log((self._losses_before + _POSITIVE) / (after + _POSITIVE))
        mean = (z @ decrease) / z.sum().clamp(min=_POSITIVE)
        self._rule.update(torch.where(self._present, after, torch.exp(-mean)))

    def _adam_state(self, logits: Tensor) -> dict[str, Tensor]:
        return self._rule._optimizer.state[logits] if self._rule._optimizer else {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the recorded weights, the logits, and the state of their optimiser."""
        (logits,) = self._rule.parameters()
        extra = {"logits": logits} | {f"adam/{name}": value for name, value in self._adam_state(logits).items()}
        return super().state_dict() | {name: value.detach().cpu().clone() for name, value in extra.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        (logits,) = self._rule.parameters()
        logits.data = state["logits"].clone()
        adam_state = {
            name.removeprefix("adam/"): value.clone() for name, value in state.items() if name.startswith("adam/")
        }
        if adam_state:
            point = torch.ones_like(logits)
            self._rule(point)
            self._rule.update(point)  # creates the optimiser, whose state is then replaced
            self._rule._optimizer.state[logits].update(adam_state)
            logits.data = state["logits"].clone()


class Stateless(StepWeights):
    """Rules without memory, applied to the losses of the tasks present: `rlw`, `stch`, `gls`, `pbi`, `cosmos`.

    Args:
        settings: one of these kinds.
        tasks: k.
        seed: of the random weights of `rlw`, at least 0.
    """

    state_names = (*StepWeights.state_names, "step")

    def __init__(self, settings: ScalarizationSettings, tasks: int, seed: int) -> None:
        super().__init__(settings, tasks)
        self._kind, self._seed = settings.kind, seed
        self._step = 0

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Send the losses back, weighted by the rule's gradient."""
        k, m = len(losses), int(present.sum())
        if m == 0:
            return fabric.backward(losses.sum())
        rule, scale = _make_stateless(self._kind, m, losses)
        with step_generator(self._seed, self._kind, self._step, losses.device):
            present_gradient = scalarization_gradient(rule, losses[present].clamp(min=_POSITIVE)) * scale * m
        alpha = torch.ones_like(losses)
        alpha[present] = present_gradient
        fabric.backward((alpha * losses).sum() / k)
        self._step += 1
        self._record_weights(alpha)


def scalarization_gradient(rule: nn.Module, losses: Tensor) -> Tensor:
    """Compute df/dL_i of a scalarization f at these losses, (m,); the call may change the rule's memory."""
    point = losses.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(rule(point), point)
    return gradient


def _make_stateless(kind: str, m: int, like: Tensor) -> tuple[Any, float]:
    """Make TorchJD's rule for m losses, and the factor that scales its weights at equal losses to sum 1."""
    from torchjd.scalarization import COSMOS, PBI, STCH, GeometricMean, Random

    ones = torch.ones(m, dtype=like.dtype, device=like.device)
    return {
        "rlw": lambda: (Random(), 1.0),
        "stch": lambda: (STCH(mu=0.1, weights=ones), 1.0),
        "gls": lambda: (GeometricMean(), 1.0),
        "pbi": lambda: (PBI(theta=5.0, weights=ones), m**-0.5),
        "cosmos": lambda: (COSMOS(lambda_=1.0, weights=ones / m), 1.0),
    }[kind]()
