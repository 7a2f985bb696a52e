"""Gradient aggregation: rules that combine the tasks' gradients of the shared parameters; TorchJD's aggregators.

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
    excess_mtl    He et al.: Robust Multi-Task Learning with Excess Risks (ICML 2024); stores k gradients
    pcd           Priority-Constrained Descent (TMLR 2026); the first label has priority
    krum          Blanchard et al.: Byzantine Tolerant Gradient Descent (NeurIPS 2017), with one Byzantine task
    trimmed_mean  Yin et al.: Byzantine-Robust Distributed Learning (ICML 2018), one task trimmed at either end

On TorchJD's Mean, Sum and Constant see `models.weighting.scalarization`; its Random is `rlw` there. MoDo and SDMGrad
are not offered because they need two independent batches in a step, CR-MOGM because it smooths another rule.

The Jacobian J has the tasks' gradients of the shared parameters as its rows. The update of the shared parameters is
scaled such that k equal gradients g give g, as under uniform weights. The heads get the gradient of the mean loss. A
task without a known label in the batch has no row; what a rule remembers about the task stays the same. The recorded
weights are the coefficients of the rows in the update. Rules whose update is no linear combination of the rows
(graddrop, config, trimmed_mean) have least-squares weights, whose combination of the rows is nearest to the update.

Shapes: k tasks, m of them present, p shared parameters.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.errors import SettingError
from models.networks.multitask import MultiTaskNetwork
from models.weighting.base import RuleSettings, StepWeights
from models.weighting.step_generator import step_generator

_CAGRAD_C = 0.4


class AggregationSettings(RuleSettings):
    """An aggregation rule, with the constants of its paper."""

    kind: Literal[
        "upgrad",
        "pcgrad",
        "cagrad",
        "mgda",
        "nash_mtl",
        "imtl_g",
        "aligned_mtl",
        "graddrop",
        "gradvac",
        "fairgrad",
        "config",
        "dualproj",
        "excess_mtl",
        "pcd",
        "krum",
        "trimmed_mean",
    ] = Field("upgrad", description="name of the rule")

    @property
    def needs_whole_batches(self) -> str | None:
        """See the base class."""
        return "combines the tasks' gradients of a whole batch"


@dataclass(frozen=True)
class _AggregatorSpec:
    """How a TorchJD aggregator is made and used.

    Attributes:
        make: makes the aggregator, given the module `torchjd.aggregation` and m.
        scale: factor for the update, given m. None: the scale of the rule's update has no meaning; it is divided by the
            sum of the weights.
        extra: name of TorchJD's optional dependency group, for pip.
        memory: attributes of the aggregator's (inner) weighting in which it remembers something about the tasks, each
            with the number of its leading axes that run over the tasks.
        min_tasks: smallest m for which the rule is defined.
    """

    make: Callable[[Any, int], nn.Module]
    scale: Callable[[int], float] | None = lambda m: 1.0
    extra: str | None = None
    memory: tuple[tuple[str, int], ...] = ()
    min_tasks: int = 1


_AGGREGATORS: dict[str, _AggregatorSpec] = {
    "upgrad": _AggregatorSpec(lambda jd, m: jd.UPGrad(), extra="quadprog_projector"),
    "pcgrad": _AggregatorSpec(lambda jd, m: jd.PCGrad(), lambda m: 1 / m),
    "cagrad": _AggregatorSpec(lambda jd, m: jd.CAGrad(c=_CAGRAD_C), lambda m: 1 / (1 + _CAGRAD_C), extra="cagrad"),
    "mgda": _AggregatorSpec(lambda jd, m: jd.MGDA()),
    "nash_mtl": _AggregatorSpec(
        lambda jd, m: jd.NashMTL(n_tasks=m, max_norm=0.0), None, extra="nash_mtl", memory=(("prvs_alpha", 1),)
    ),
    "imtl_g": _AggregatorSpec(lambda jd, m: jd.IMTLG()),
    "aligned_mtl": _AggregatorSpec(lambda jd, m: jd.AlignedMTL()),
    "graddrop": _AggregatorSpec(lambda jd, m: jd.GradDrop(), lambda m: 1 / m),
    "gradvac": _AggregatorSpec(lambda jd, m: jd.GradVac(), lambda m: 1 / m, memory=(("_phi_t", 2),)),
    "fairgrad": _AggregatorSpec(lambda jd, m: jd.FairGrad(alpha=1.0), None, extra="fairgrad"),
    "config": _AggregatorSpec(lambda jd, m: jd.ConFIG(), lambda m: 1 / m),
    "dualproj": _AggregatorSpec(lambda jd, m: jd.DualProj(), extra="quadprog_projector"),
    "excess_mtl": _AggregatorSpec(
        lambda jd, m: jd.ExcessMTL(robust_step_size=0.01),  # as in LibMTL; with 1, one or two labels get all the weight
        memory=(("_weights", 1), ("_sq_grad_sum", 1), ("_initial_w", 1), ("_n_steps", 0)),
    ),
    "pcd": _AggregatorSpec(lambda jd, m: jd.PCD(), memory=(("_sq_norm_ema", 1), ("_n_steps", 0))),
    "krum": _AggregatorSpec(lambda jd, m: jd.Krum(n_byzantine=1, n_selected=m - 1), min_tasks=4),
    "trimmed_mean": _AggregatorSpec(lambda jd, m: jd.TrimmedMean(trim_number=1), min_tasks=3),
}


class Aggregation(StepWeights):
    """A rule whose update of the shared parameters is TorchJD's aggregation of the rows of J.

    A TorchJD aggregator works for a fixed set of tasks. When another set is present in a batch, its memory is saved to
    `_memory`, which covers all k tasks, and a new aggregator continues from there.

    Args:
        settings: the kind of rule.
        tasks: k.
        seed: of the random numbers that some rules draw, at least 0.

    Raises:
        SettingError: there are too few tasks for the rule, or packages that it needs are not installed.
    """

    combines_gradients = True
    state_names = (*StepWeights.state_names, "step")

    def __init__(self, settings: AggregationSettings, tasks: int, seed: int) -> None:
        super().__init__(settings, tasks)
        self._kind, self._seed, self._step = settings.kind, seed, 0
        self._spec = _AGGREGATORS[settings.kind]
        if tasks < self._spec.min_tasks:
            raise SettingError(
                f"{settings.kind} needs at least {self._spec.min_tasks} labels; got {tasks}: choose another method"
            )
        self._memory: dict[str, Tensor] = {}
        self._create_aggregator(torch.ones(tasks, dtype=torch.bool))

    def backward(
        self, fabric: Any, losses: Tensor, present: Tensor, features: Tensor, network: MultiTaskNetwork
    ) -> None:
        """Write the aggregated gradient of the shared parameters, and the heads' gradient of the mean loss."""
        from torchjd.autojac import jac_to_grad, mtl_backward

        rows = present.cpu()
        if not rows.any():
            return losses.mean().backward()
        if not torch.equal(rows, self._rows):
            self._save_memory()
            self._create_aggregator(rows)
        heads = [parameter for head in network.heads for parameter in head.parameters()]
        losses.mean().backward(inputs=heads, retain_graph=True)
        task_losses = [losses[i] for i in rows.nonzero()[:, 0].tolist()]
        shared = network.shared_parameters()
        # retain_graph: all losses share the graph between features and losses, so the first must not free it
        mtl_backward(
            task_losses,
            features=features,
            tasks_params=[[]] * len(task_losses),  # the heads have their gradient
            shared_params=shared,
            retain_graph=True,
            parallel_chunk_size=1,  # in turn: vmap takes twice as long on a CPU, and does not support a compiled graph
        )
        with step_generator(self._seed, self._kind, self._step, losses.device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not DPP")  # from cvxpy, about the speed of nash_mtl
            jac_to_grad(shared, self._aggregator)
        for parameter in shared:
            _match_strides(parameter)
        self._step += 1
        alpha = torch.ones_like(losses)  # 1 for absent tasks, as under uniform weights
        alpha[rows] = self._row_weights.to(alpha) * (len(task_losses) / self._row_weights.sum())
        self._record_weights(alpha)

    def _create_aggregator(self, rows: Tensor) -> None:
        """Make TorchJD's aggregator for the tasks in rows (k,) bool; its memory is restored at its first call."""
        from torchjd import aggregation

        self._rows, m = rows, int(rows.sum())
        self._combines = m >= max(2, self._spec.min_tasks)  # otherwise their mean is used
        try:
            self._aggregator: Any = self._spec.make(aggregation, m) if self._combines else aggregation.Mean()
        except ImportError as error:
            raise SettingError(
                f"{self._kind} needs packages that are not installed here: "
                f'pip install "torchjd[{self._spec.extra}]", or choose another method'
            ) from error
        self._scale: float | None = 1.0 if not self._combines else self._spec.scale and self._spec.scale(m)
        self._pending_memory = dict(self._memory) if self._combines else {}
        self._row_weights = torch.ones(m)
        self._aggregator.register_forward_pre_hook(self._restore_memory)
        if isinstance(self._aggregator, aggregation.WeightedAggregator):
            self._aggregator.weighting.register_forward_hook(self._capture_weights)
        self._aggregator.register_forward_hook(self._scale_update)

    def _restore_memory(self, aggregator: Any, inputs: tuple[Tensor]) -> None:
        """Copy the saved memory into the aggregator; called before its first call (forward pre-hook)."""
        if self._pending_memory:
            memory, self._pending_memory = self._pending_memory, {}
            with step_generator(self._seed, "recall", 0, inputs[0].device):
                aggregator(*inputs)  # creates its memory with the right types and shapes
            for name, axes in self._spec.memory:
                _set_attribute(_torchjd_weighting(aggregator), name, _select_tasks(memory[name], self._rows, axes))

    def _capture_weights(self, weighting: Any, inputs: tuple[Tensor], weights: Tensor) -> None:
        """Remember the coefficients of the rows (forward hook)."""
        self._row_weights = weights

    def _scale_update(self, aggregator: Any, inputs: tuple[Tensor], update: Tensor) -> Tensor:
        """Return the scaled update (forward hook)."""
        if not hasattr(aggregator, "weighting") or self._kind == "config":  # config's `weighting` is its preferences
            self._row_weights = _least_squares_weights(inputs[0], update)
        share = len(inputs[0]) / len(self._rows)  # under uniform weights m of k tasks have m / k of the weight
        return update * (share * (1 / self._row_weights.sum() if self._scale is None else self._scale))

    def _save_memory(self) -> None:
        """Save the aggregator's memory about its tasks to the memory of all tasks."""
        if self._pending_memory or not self._combines:
            return  # the aggregator was not called yet, or it has no memory
        for name, axes in self._spec.memory if self._step else ():
            remembered = getattr(_torchjd_weighting(self._aggregator), name)
            if remembered is None:
                return  # the aggregator was not called yet
            value = torch.as_tensor(remembered)
            if axes == 0:
                self._memory[name] = value.clone()
                continue
            k = len(self._rows)
            shape = (k,) * axes + value.shape[axes:]
            full = self._memory.get(name, torch.full(shape, torch.nan, dtype=value.dtype)).to(value.device, copy=True)
            index = self._rows.nonzero()[:, 0]
            full[torch.meshgrid(*[index] * axes, indexing="ij")] = value
            self._memory[name] = full

    def state_dict(self) -> dict[str, Tensor]:
        """Return the recorded weights, the number of steps and the memory."""
        self._save_memory()
        memory = {f"memory/{name}": value.cpu().clone() for name, value in self._memory.items()}
        return super().state_dict() | memory

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self._memory = {
            name.removeprefix("memory/"): value.clone() for name, value in state.items() if name.startswith("memory/")
        }
        self._create_aggregator(torch.ones_like(self._rows))


def _match_strides(parameter: nn.Parameter) -> None:
    """Give the gradient the same strides as its parameter, as autograd does.

    Fused optimisers pair values by their position in memory; with other strides they would use a permuted gradient.
    """
    gradient = parameter.grad
    if gradient is not None and gradient.stride() != parameter.stride():
        parameter.grad = torch.empty_like(parameter).copy_(gradient)


def _torchjd_weighting(aggregator: Any) -> Any:
    """Return the part of a TorchJD aggregator that computes the weights and has the memory."""
    return getattr(aggregator, "gramian_weighting", None) or aggregator.weighting


def _select_tasks(full: Tensor, rows: Tensor, axes: int) -> Tensor:
    """Return the memory about the tasks in rows; a task that the rule has not seen yet gets the others' mean."""
    for axis in range(axes):
        full = full.index_select(axis, rows.nonzero()[:, 0].to(full.device))
    return torch.where(full.isnan(), full.nanmean(), full) if axes else full


def _set_attribute(weighting: Any, name: str, value: Tensor) -> None:
    """Replace an attribute, and keep its type: a tensor, an array or a number."""
    present = getattr(weighting, name)
    if isinstance(present, Tensor):
        setattr(weighting, name, value.to(present))
    else:
        setattr(weighting, name, value.numpy() if value.ndim else value.item())


def _least_squares_weights(jacobian: Tensor, update: Tensor) -> Tensor:
    """Compute the weights w (m,) whose combination of the rows of J (m, p), w^T J, is nearest to the update (p,)."""
    gramian = (jacobian @ jacobian.T).double()
    return torch.linalg.pinv(gramian, hermitian=True) @ (jacobian @ update).double()
