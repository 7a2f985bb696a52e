"""The update of the shared parameters, compared with hand calculations on a network that shares one vector."""

from importlib.util import find_spec
from typing import get_args

import pytest
import torch
from torch import nn

from models.weighting.aggregation import Aggregation, AggregationSettings, _least_squares_weights

KINDS = [
    kind
    for kind in get_args(AggregationSettings.model_fields["kind"].annotation)
    if find_spec("cvxpy") or kind not in ("cagrad", "nash_mtl")
]


class Shared(nn.Module):
    """Loss i is the i-th row of J times the shared vector, plus the head's own parameter."""

    def __init__(self, J):
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(J.shape[1]))
        self.heads = nn.ModuleList(nn.Linear(1, 1, bias=False) for _ in J)
        self.J = J

    def shared_parameters(self):
        return [self.vector]


def update(J, kind, weighting=None, present=None):
    """The shared gradient of one step with the tasks' gradients J."""
    J = torch.as_tensor(J, dtype=torch.float32)
    net = Shared(J)
    present = torch.ones(len(J), dtype=torch.bool) if present is None else torch.tensor(present)
    features = net.vector * 1.0
    own = torch.cat([head.weight.flatten() for head in net.heads])
    losses = (J @ features + own) * present
    weighting = weighting or Aggregation(AggregationSettings(kind=kind), len(J), 0)
    weighting.backward(None, losses, present, features, net)
    return net.vector.grad


def test_pcgrad_takes_from_each_of_two_conflicting_gradients_what_opposes_the_other():
    g, h = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    # g - (g.h / h.h) h = (1/2, 1/2) and h - (g.h / g.g) g = (0, 1): their mean
    torch.testing.assert_close(update([g.tolist(), h.tolist()], "pcgrad"), torch.tensor([0.25, 0.75]))


def test_upgrad_projects_each_of_two_conflicting_gradients_on_the_dual_cone():
    # the projections are the same two vectors as PCGrad's where there are two tasks
    given = update([[1.0, 0.0], [-1.0, 1.0]], "upgrad")
    torch.testing.assert_close(given, torch.tensor([0.25, 0.75]), rtol=1e-3, atol=1e-3)


def test_mgda_finds_the_shortest_convex_combination():
    given = update([[2.0, 0.0], [0.0, 1.0]], "mgda")
    torch.testing.assert_close(given, torch.tensor([0.4, 0.8]), rtol=1e-2, atol=1e-2)


def test_trimmed_mean_and_graddrop_by_hand():
    torch.testing.assert_close(update([[1.0], [5.0], [-9.0]], "trimmed_mean"), torch.tensor([1.0]))
    agreeing = update([[1.0, 2.0], [3.0, 2.0]], "graddrop")  # no sign to pick
    torch.testing.assert_close(agreeing, torch.tensor([2.0, 2.0]))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_gradients_give_that_gradient(kind):
    g = [0.3, -0.4, 1.2]
    torch.testing.assert_close(update([g] * 4, kind), torch.tensor(g), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("krum", "trimmed_mean", "graddrop", "excess_mtl")])
def test_the_update_raises_none_of_two_conflicting_losses(kind):
    J = torch.tensor([[1.0, 0.2], [-0.5, 1.0]])
    assert (J @ update(J.tolist(), kind) > -1e-2).all()


@pytest.mark.parametrize("kind", ["gradvac", "excess_mtl", "pcd"])
def test_what_a_rule_remembers_of_a_task_survives_batches_without_it(kind):
    J = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    weighting = Aggregation(AggregationSettings(kind=kind), 3, 0)
    update(J, kind, weighting)
    before = weighting.state_dict()
    update(J, kind, weighting, present=[True, False, True])
    after = weighting.state_dict()
    absent = (1, 1) if kind == "gradvac" else (1,)
    for name, value in before.items():
        if name.startswith("memory/") and value.ndim:
            assert torch.equal(after[name][absent], value[absent])
    assert any(not torch.equal(after[name], value) for name, value in before.items() if name.startswith("memory/"))


def test_a_task_that_is_first_seen_later_starts_with_the_mean_of_the_others():
    weighting = Aggregation(AggregationSettings(kind="excess_mtl"), 3, 0)
    J = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    update(J, "excess_mtl", weighting, present=[True, True, False])
    assert weighting.state_dict()["memory/_weights"][2].isnan()
    assert update(J, "excess_mtl", weighting).isfinite().all()
    assert weighting.state_dict()["memory/_weights"].isfinite().all()


def test_a_batch_with_a_single_task_does_not_change_the_memory():
    """Nothing is combined in such a batch; the memory of all tasks is kept, also if training resumes."""
    J = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    weighting = Aggregation(AggregationSettings(kind="gradvac"), 3, 0)
    torch.testing.assert_close(update(J, "gradvac", weighting, [False, True, False]), J[1] / 3)
    resumed = Aggregation(AggregationSettings(kind="gradvac"), 3, 0)
    resumed.load_state_dict(weighting.state_dict())
    assert torch.equal(
        update(J, "gradvac", resumed, [True, False, True]), update(J, "gradvac", weighting, [True, False, True])
    )


def test_too_few_tasks_in_a_batch_for_a_robust_mean_give_the_mean():
    J = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
    weighting = Aggregation(AggregationSettings(kind="trimmed_mean"), 3, 0)
    torch.testing.assert_close(update(J, "trimmed_mean", weighting, [True, True, False]), torch.tensor([1.0, 1.0]) / 3)


def test_the_least_squares_weights_are_the_coefficients_of_the_rows():
    J = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))
    w = torch.tensor([0.5, -0.2, 1.0, 0.0])
    torch.testing.assert_close(_least_squares_weights(J, w @ J).float(), w, rtol=1e-4, atol=1e-4)
    equal = _least_squares_weights(J[:1].expand(3, -1), J[0])
    torch.testing.assert_close(equal, torch.full((3,), 1 / 3, dtype=torch.float64), rtol=1e-4, atol=1e-4)
