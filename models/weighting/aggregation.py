"""Rules that combine the tasks' gradients of the shared parameters: TorchJD's aggregators by the names the field knows.

    upgrad        Quinton, Rey: Jacobian Descent for Multi-Objective Optimization (2024)
    pcgrad        Yu et al.: Gradient Surgery for Multi-Task Learning (NeurIPS 2020)
    cagrad        Liu et al.: Conflict-Averse Gradient Descent (NeurIPS 2021), c 0.4
    mgda          Sener, Koltun: Multi-Task Learning as Multi-Objective Optimization (NeurIPS 2018)
    nash_mtl      Navon et al.: Multi-Task Learning as a Bargaining Game (ICML 2022)
    imtl_g        Liu et al.: Towards Impartial Multi-Task Learning (ICLR 2021), the gradient balance
    aligned_mtl   Senushkin et al.: Independent Component Alignment (CVPR 2023)
    graddrop      Chen et al.: Just Pick a Sign (NeurIPS 2020)
    gradvac       Wang et al.: Gradient Vaccine (ICLR 2021)
    fairgrad      Ban, Ji: Fair Resource Allocation in Multi-Task Learning (ICML 2024), alpha 1
    config        Liu et al.: ConFIG (ICLR 2025)
    dualproj      Lopez-Paz, Ranzato: Gradient Episodic Memory (NeurIPS 2017), equation 11
    excess_mtl    He et al.: Robust Multi-Task Learning with Excess Risks (ICML 2024); remembers k gradients
    pcd           Priority-Constrained Descent (TMLR 2026); the first label is the one that has priority
    krum          Blanchard et al.: Byzantine Tolerant Gradient Descent (NeurIPS 2017), one task mistrusted
    trimmed_mean  Yin et al.: Byzantine-Robust Distributed Learning (ICML 2018), one task trimmed at either end

TorchJD's Mean, Sum and Constant are what `models.weighting.scalarization` says of them, its Random is `rlw`. MoDo and SDMGrad
need two independent batches in a step, and CR-MOGM smooths another rule: they have no name here.

J holds the tasks' gradients of the shared parameters as rows. The update of the shared parameters is scaled such that
k equal gradients g give g, as under uniform weights; the heads get the gradient of the mean loss. A task without a
known label in the batch has no row, and a rule that remembers something of each task keeps it. Weights on record are
those by which the rows were added; for rules that do more than add (graddrop, config, trimmed_mean) they are the
least-squares weights, whose sum of rows comes nearest to the update.

Shapes: k tasks, m of them present, p shared parameters.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.errors import SettingError
from models.networks.multitask import MultiTaskNetwork
from models.weighting.base import RuleSettings, StepWeights
from models.weighting.step_generator import step_generator

_CAGRAD_C = 0.4


class AggregationSettings(RuleSettings):
    """A rule that combines the tasks' gradients, by name, with its paper's constants."""

    kind: Literal[
        "upgrad", "pcgrad", "cagrad", "mgda", "nash_mtl", "imtl_g", "aligned_mtl", "graddrop", "gradvac", "fairgrad",
        "config", "dualproj", "excess_mtl", "pcd", "krum", "trimmed_mean",
    ] = Field("upgrad", description="name of the rule")  # fmt: skip


@dataclass(frozen=True)
class _Rule:
    """A TorchJD aggregator for m tasks, and what it takes to use it.

    scale: of the update, given m; None: the rule's own scale means nothing, and its weights are brought to sum 1.
    extra: TorchJD's optional requirement, as pip names it.
    memory: what it remembers, by attribute of its (inner) weighting, with the number of leading axes that run over
        the tasks.
    """

    make: Callable[[Any, int], nn.Module]
    scale: Callable[[int], float] | None = lambda m: 1.0
    extra: str | None = None
    memory: tuple[tuple[str, int], ...] = ()
    least_tasks: int = 1


_RULES: dict[str, _Rule] = {
    "upgrad": _Rule(lambda jd, m: jd.UPGrad(), extra="quadprog_projector"),
    "pcgrad": _Rule(lambda jd, m: jd.PCGrad(), lambda m: 1 / m),
    "cagrad": _Rule(lambda jd, m: jd.CAGrad(c=_CAGRAD_C), lambda m: 1 / (1 + _CAGRAD_C), extra="cagrad"),
    "mgda": _Rule(lambda jd, m: jd.MGDA()),
    "nash_mtl": _Rule(
        lambda jd, m: jd.NashMTL(n_tasks=m, max_norm=0.0), None, extra="nash_mtl", memory=(("prvs_alpha", 1),)
    ),
    "imtl_g": _Rule(lambda jd, m: jd.IMTLG()),
    "aligned_mtl": _Rule(lambda jd, m: jd.AlignedMTL()),
    "graddrop": _Rule(lambda jd, m: jd.GradDrop(), lambda m: 1 / m),
    "gradvac": _Rule(lambda jd, m: jd.GradVac(), lambda m: 1 / m, memory=(("_phi_t", 2),)),
    "fairgrad": _Rule(lambda jd, m: jd.FairGrad(alpha=1.0), None, extra="fairgrad"),
    "config": _Rule(lambda jd, m: jd.ConFIG(), lambda m: 1 / m),
    "dualproj": _Rule(lambda jd, m: jd.DualProj(), extra="quadprog_projector"),
    "excess_mtl": _Rule(
        lambda jd, m: jd.ExcessMTL(robust_step_size=0.01),  # as in LibMTL; with 1 a label or two take all
        memory=(("_weights", 1), ("_sq_grad_sum", 1), ("_initial_w", 1), ("_n_steps", 0)),
    ),
    "pcd": _Rule(lambda jd, m: jd.PCD(), memory=(("_sq_norm_ema", 1), ("_n_steps", 0))),
    "krum": _Rule(lambda jd, m: jd.Krum(n_byzantine=1, n_selected=m - 1), least_tasks=4),
    "trimmed_mean": _Rule(lambda jd, m: jd.TrimmedMean(trim_number=1), least_tasks=3),
}


class Aggregation(StepWeights):
    """Update of the shared parameters: TorchJD's aggregation of the rows of J.

    TorchJD's object serves a fixed set of tasks. When another set is present in a batch, what it remembers is
    written to `_memory`, which has all k tasks, and a new object goes on from there.
    """

    combines_gradients: ClassVar[bool] = True

    def __init__(self, settings: AggregationSettings, tasks: int, seed: int) -> None:
        super().__init__(settings, tasks)
        self._kind, self._seed, self._step = settings.kind, seed, 0
        self._rule = _RULES[settings.kind]
        if tasks < self._rule.least_tasks:
            raise SettingError(
                f"{settings.kind} needs at least {self._rule.least_tasks} labels; got {tasks}: choose another method"
            )
        self._memory: dict[str, Tensor] = {}
        self._begin(torch.ones(tasks, dtype=torch.bool))

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        from torchjd.autojac import jac_to_grad, mtl_backward

        rows = present.cpu()
        if not rows.any():
            losses.mean().backward()
            return
        if not torch.equal(rows, self._rows):
            self._keep_memory()
            self._begin(rows)
        heads = [parameter for head in network.heads for parameter in head.parameters()]
        losses.mean().backward(inputs=heads, retain_graph=True)
        of_tasks = [losses[i] for i in rows.nonzero()[:, 0].tolist()]
        shared = network.shared_parameters()
        # the losses share what lies between features and losses, so their graphs must outlive the first of them
        mtl_backward(
            of_tasks,
            features=features,
            tasks_params=[[]] * len(of_tasks),  # the heads have their gradient
            shared_params=shared,
            retain_graph=True,
            parallel_chunk_size=1,  # one after another: vmap takes twice as long on a CPU, and no compiled graph
        )
        with step_generator(self._seed, self._kind, self._step, losses.device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not DPP")  # cvxpy's, about the speed of nash_mtl
            jac_to_grad(shared, self._aggregator)
        for parameter in shared:
            _lay_out_alike(parameter)
        self._step += 1
        alpha = torch.ones_like(losses)  # an absent task has no say, as under uniform weights
        alpha[rows] = self._found.to(alpha) * (len(of_tasks) / self._found.sum())
        self._record(alpha)

    def _begin(self, rows: Tensor) -> None:
        """Makes TorchJD's object for the tasks in rows (k,) bool; it takes up the memory at its first matrix."""
        from torchjd import aggregation

        self._rows, m = rows, int(rows.sum())
        self._enough = m >= max(2, self._rule.least_tasks)  # else their mean: one gradient has nothing to combine
        try:
            self._aggregator: Any = self._rule.make(aggregation, m) if self._enough else aggregation.Mean()
        except ImportError as missing:
            raise SettingError(
                f"{self._kind} needs packages that are not installed here: "
                f'pip install "torchjd[{self._rule.extra}]", or choose another method'
            ) from missing
        self._scale: float | None = 1.0 if not self._enough else self._rule.scale and self._rule.scale(m)
        self._to_recall = dict(self._memory) if self._enough else {}
        self._found = torch.ones(m)
        self._aggregator.register_forward_pre_hook(self._recall)
        if isinstance(self._aggregator, aggregation.WeightedAggregator):
            self._aggregator.weighting.register_forward_hook(self._weighed)
        self._aggregator.register_forward_hook(self._scaled)

    def _recall(self, aggregator: Any, inputs: tuple[Tensor]) -> None:
        """Before the first matrix: the aggregator's memory becomes ours."""
        if self._to_recall:
            recalled, self._to_recall = self._to_recall, {}
            with step_generator(self._seed, "recall", 0, inputs[0].device):
                aggregator(*inputs)  # gives its memory the right form
            for name, axes in self._rule.memory:
                _put(_weighting_of(aggregator), name, _of_tasks(recalled[name], self._rows, axes))

    def _weighed(self, weighting: Any, inputs: tuple[Tensor], weights: Tensor) -> None:
        self._found = weights

    def _scaled(self, aggregator: Any, inputs: tuple[Tensor], update: Tensor) -> Tensor:
        """After a matrix: returns the scaled update."""
        if not hasattr(aggregator, "weighting") or self._kind == "config":  # which has preferences under that name
            self._found = _nearest_weights(inputs[0], update)
        share = len(inputs[0]) / len(self._rows)  # under uniform weights m of k tasks have m / k of the weight
        return update * (share * (1 / self._found.sum() if self._scale is None else self._scale))

    def _keep_memory(self) -> None:
        """Writes what the aggregator remembers of its tasks into the memory of all tasks."""
        if self._to_recall or not self._enough:
            return  # nothing new since it was made, or nothing remembered
        for name, axes in self._rule.memory if self._step else ():
            remembered = getattr(_weighting_of(self._aggregator), name)
            if remembered is None:
                return  # it has seen no matrix yet
            value = torch.as_tensor(remembered)
            if axes == 0:
                self._memory[name] = value.clone()
                continue
            k = len(self._rows)
            form = (k,) * axes + value.shape[axes:]
            whole = self._memory.get(name, torch.full(form, torch.nan, dtype=value.dtype)).to(value.device, copy=True)
            at = self._rows.nonzero()[:, 0]
            whole[torch.meshgrid(*[at] * axes, indexing="ij")] = value
            self._memory[name] = whole

    def state_dict(self) -> dict[str, Tensor]:
        self._keep_memory()
        own = {f"memory/{name}": value.cpu().clone() for name, value in self._memory.items()}
        return super().state_dict() | own | {"step": torch.tensor(self._step)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        super().load_state_dict(state)
        self._step = int(state["step"])
        self._memory = {
            name.removeprefix("memory/"): value.clone() for name, value in state.items() if name.startswith("memory/")
        }
        self._begin(torch.ones_like(self._rows))


def _lay_out_alike(parameter: nn.Parameter) -> None:
    """Gives the gradient its parameter's strides, as autograd does: fused optimisers pair them by place in memory,
    and would step along a scrambled gradient."""
    gradient = parameter.grad
    if gradient is not None and gradient.stride() != parameter.stride():
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def _weighting_of(aggregator: Any) -> Any:
    """The part of a TorchJD aggregator that finds the weights, and remembers."""
    return getattr(aggregator, "gramian_weighting", None) or aggregator.weighting


def _of_tasks(whole: Tensor, rows: Tensor, axes: int) -> Tensor:
    """The memory of the tasks in rows; a task that is new to the rule begins with the others' mean."""
    for axis in range(axes):
        whole = whole.index_select(axis, rows.nonzero()[:, 0].to(whole.device))
    return torch.where(whole.isnan(), whole.nanmean(), whole) if axes else whole


def _put(weighting: Any, name: str, value: Tensor) -> None:
    """Replaces an attribute, in the form that it has: a tensor, an array or a number."""
    present = getattr(weighting, name)
    if isinstance(present, Tensor):
        setattr(weighting, name, value.to(present))
    else:
        setattr(weighting, name, value.numpy() if value.ndim else value.item())


def _nearest_weights(jacobian: Tensor, update: Tensor) -> Tensor:
    """w (m,), float64, whose sum of rows w^T J comes nearest to the update.

    Args:
        jacobian: J, (m, p).
        update: (p,).
    """
    gramian = (jacobian @ jacobian.T).double()
    return torch.linalg.pinv(gramian, hermitian=True) @ (jacobian @ update).double()
