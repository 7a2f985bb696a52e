"""Rules that turn the tasks' losses into one number: TorchJD's scalarizations by the names the field knows.

    uncertainty  Kendall, Gal, Cipolla: Multi-Task Learning Using Uncertainty to Weigh Losses (CVPR 2018)
    imtl_l       Liu et al.: Towards Impartial Multi-Task Learning (ICLR 2021), the loss balance
    dwa          Liu, Johns, Davison: End-to-End Multi-Task Learning with Attention (CVPR 2019), temperature 2
    rlw          Lin et al.: Reasonable Effectiveness of Random Weighting (TMLR 2022)
    famo         Liu et al.: FAMO: Fast Adaptive Multitask Optimization (NeurIPS 2023); a second forward pass per step
    stch         Lin et al.: Smooth Tchebycheff Scalarization (ICML 2024), mu 0.1, preference 1 for every task
    gls          Chennupati et al.: MultiNet++ (CVPRW 2019), the geometric mean of the losses
    pbi          Zhang, Li: MOEA/D (2007), penalty-based boundary intersection, theta 5; may raise the smallest losses
    cosmos       Ruchte, Grabocka: Scalable Pareto Front Approximation (ICDM 2021), lambda 1

TorchJD's Mean is our `uniform`; its Sum is `uniform` at k times the learning rate; its Constant needs weights, for
which there are `svd` and `oracle`.

Every rule f acts through its gradient: the objective sent back is linear in the losses, sum_i (df/dL_i) L_i with
the bracket held fixed. It has the gradient of f, and shows the weights that the tasks really had. f is multiplied
by a constant such that equal losses give every task the weight 1. A task without a known label in the batch takes
no part: the others get what they would get without it, and what the rule has learnt of it stays.

Shapes: k tasks, m of them present.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.networks.multitask import MultiTaskNetwork
from models.weighting.base import FeaturePass, FixedWeights, RuleSettings, StepWeights, Weighting
from models.weighting.step_generator import step_generator

_POSITIVE = 1e-8  # losses are kept above it where a rule takes their logarithm


class ScalarizationSettings(RuleSettings):
    """A rule that turns the tasks' losses into one number, by name, with its paper's constants."""

    kind: Literal["uncertainty", "imtl_l", "dwa", "rlw", "famo", "stch", "gls", "pbi", "cosmos"] = Field(
        "uncertainty", description="name of the rule"
    )


def make_scalarization(settings: ScalarizationSettings, tasks: int, seed: int) -> Weighting:
    """The rule that the settings name, for k tasks, at its start."""
    match settings.kind:
        case "uncertainty" | "imtl_l":
            return LearnedScales(settings, tasks)
        case "dwa":
            return DynamicWeightAverage(settings, tasks)
        case "famo":
            return FastAdaptive(settings, tasks)
        case _:
            return Stateless(settings, tasks, seed)


class LearnedScales(Weighting):
    """`uncertainty`, the mean of exp(-s_i) L_i + s_i, and `imtl_l`, the mean of exp(s_i) L_i - s_i, with a learned
    scale s_i per task. Beyond the sign they differ in nothing."""

    def __init__(self, settings: ScalarizationSettings, tasks: int) -> None:
        super().__init__(settings)
        from torchjd.scalarization import IMTLL, UW

        # UW as published has a factor of one half
        self._rule, self._scale = (
            (UW(tasks), 2 / tasks) if settings.kind == "uncertainty" else (IMTLL(tasks), 1 / tasks)
        )

    def parameters(self, device: torch.device) -> list[nn.Parameter]:
        return list(self._rule.to(device).parameters())

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        (scales,) = self._rule.parameters()
        at = losses.detach().requires_grad_()
        of_losses, of_scales = torch.autograd.grad(self._rule(at), (at, scales))
        of_scales = torch.where(present, of_scales, 0.0)  # or s_i of an absent task would change for no reason
        fabric.backward(self._scale * (of_losses @ losses + of_scales @ scales))

    def weights(self) -> Tensor:
        """exp(-s) or exp(s), scaled to sum k: the common factor is one of the learning rate."""
        (scales,) = self._rule.parameters()
        alpha = gradient_of(self._rule, torch.ones_like(scales)).double().cpu()
        return alpha * (len(alpha) / alpha.sum())

    def state_dict(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self._rule.state_dict().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._rule.load_state_dict(state)


class DynamicWeightAverage(FixedWeights):
    """`dwa`: a task whose loss fell less over the last two epochs weighs more in the next.

    A task's loss in an epoch is its mean over the batches in which it is present; in an epoch without any, what it
    was before (1 at the start).
    """

    def __init__(self, settings: ScalarizationSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        self._sum = torch.zeros(tasks, dtype=torch.float64)
        self._batches = torch.zeros(tasks, dtype=torch.float64)
        self._averages = torch.empty(0, tasks, dtype=torch.float64)  # of the last two epochs at most

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        super().backward(fabric, losses, present, features, network)
        self._sum = self._sum.to(losses.device) + losses.detach()
        self._batches = self._batches.to(losses.device) + present

    def after_epoch(self, epoch: int, feature_pass: FeaturePass, validation_pass: FeaturePass | None = None) -> None:
        from torchjd.scalarization import DWA

        if epoch == 0:
            return
        before = self._averages[-1] if len(self._averages) else torch.ones_like(self._alpha)
        seen, summed = self._batches.cpu(), self._sum.cpu()
        average = torch.where(seen > 0, summed / seen.clamp(min=1), before).clamp(min=_POSITIVE)
        self._averages = torch.cat([self._averages, average[None]])[-2:]
        self._sum, self._batches = torch.zeros_like(self._sum), torch.zeros_like(self._batches)
        rule = DWA()
        for of_epoch in self._averages:
            rule(of_epoch)
            rule.step()
        self._set(gradient_of(rule, average))

    def state_dict(self) -> dict[str, Tensor]:
        own = {"sum": self._sum, "batches": self._batches, "averages": self._averages}
        return super().state_dict() | {name: value.cpu().clone() for name, value in own.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._sum, self._batches, self._averages = (state[name].clone() for name in ("sum", "batches", "averages"))


class FastAdaptive(StepWeights):
    """`famo`: weights z_i / L_i, scaled to a convex combination, with logits of z that learn from how much each
    loss fell in the step."""

    def __init__(self, settings: ScalarizationSettings, tasks: int) -> None:
        super().__init__(settings, tasks)
        from torchjd.scalarization import FAMO

        self._rule = FAMO(tasks)
        self._before = torch.ones(tasks)
        self._present = torch.ones(tasks, dtype=torch.bool)

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        self._to(losses.device)
        self._present = present
        self._before = torch.where(present, losses.detach(), 1.0)
        of_losses = torch.where(present, gradient_of(self._rule, self._before), 0.0)
        share = present.sum() / len(losses)
        of_losses = of_losses * (share / of_losses.sum().clamp(min=_POSITIVE))
        fabric.backward(of_losses @ losses)
        self._record(torch.where(present, len(losses) * of_losses, 1.0))

    def after_step(self, losses: Callable[[], Tensor]) -> None:
        """The logits' own step; an absent task is given the mean change of the others, which leaves its logit where
        it is (but for FAMO's decay)."""
        (logits,) = self._rule.parameters()
        z = torch.where(self._present, torch.softmax(logits.detach(), 0), 0.0)
        after = torch.where(self._present, losses(), 1.0)
        fell = torch.log((self._before + _POSITIVE) / (after + _POSITIVE))
        mean = (z @ fell) / z.sum().clamp(min=_POSITIVE)
        self._rule.update(torch.where(self._present, after, torch.exp(-mean)))

    def _to(self, device: torch.device) -> None:
        (logits,) = self._rule.to(device).parameters()
        adam = self._rule._optimizer.state[logits] if self._rule._optimizer else {}
        adam.update({name: value.to(device) for name, value in adam.items() if name != "step"})

    def state_dict(self) -> dict[str, Tensor]:
        (logits,) = self._rule.parameters()
        adam = self._rule._optimizer.state[logits] if self._rule._optimizer else {}
        own = {"logits": logits} | {f"adam/{name}": value for name, value in adam.items()}
        return super().state_dict() | {name: value.detach().cpu().clone() for name, value in own.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        (logits,) = self._rule.parameters()
        logits.data = state["logits"].clone()
        adam = {name.removeprefix("adam/"): value.clone() for name, value in state.items() if name.startswith("adam/")}
        if adam:
            at = torch.ones_like(logits)
            self._rule(at)
            self._rule.update(at)  # makes the optimiser, whose state is then replaced
            self._rule._optimizer.state[logits].update(adam)
            logits.data = state["logits"].clone()


class Stateless(StepWeights):
    """Rules that remember nothing: each is applied to the losses of the tasks that are present."""

    def __init__(self, settings: ScalarizationSettings, tasks: int, seed: int) -> None:
        super().__init__(settings, tasks)
        self._kind, self._seed = settings.kind, seed
        self._step = 0

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        k, m = len(losses), int(present.sum())
        if m == 0:
            return fabric.backward(losses.sum())
        rule, scale = _stateless(self._kind, m, losses)
        with step_generator(self._seed, self._kind, self._step, losses.device):
            of_present = gradient_of(rule, losses[present].clamp(min=_POSITIVE)) * scale * m
        alpha = torch.ones_like(losses)
        alpha[present] = of_present
        fabric.backward((alpha * losses).sum() / k)
        self._step += 1
        self._record(alpha)

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"step": torch.tensor(self._step)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._step = int(state["step"])


def gradient_of(rule: nn.Module, losses: Tensor) -> Tensor:
    """df/dL_i of a scalarization at these losses, (m,); the rule's memory may take in the call."""
    at = losses.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(rule(at), at)
    return gradient


def _stateless(kind: str, m: int, like: Tensor) -> tuple[Any, float]:
    """The rule for m losses, and the factor that brings its weights at equal losses to sum 1."""
    from torchjd.scalarization import COSMOS, PBI, STCH, GeometricMean, Random

    ones = torch.ones(m, dtype=like.dtype, device=like.device)
    return {
        "rlw": lambda: (Random(), 1.0),
        "stch": lambda: (STCH(mu=0.1, weights=ones), 1.0),
        "gls": lambda: (GeometricMean(), 1.0),
        "pbi": lambda: (PBI(theta=5.0, weights=ones), m**-0.5),
        "cosmos": lambda: (COSMOS(lambda_=1.0, weights=ones / m), 1.0),
    }[kind]()
