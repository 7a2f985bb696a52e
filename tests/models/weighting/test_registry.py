"""Properties of every rule; tests of the single rules are in test_scalarization, test_aggregation and others."""

import io
from importlib.util import find_spec
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.data.image_batches import examples
from models.errors import SettingError
from models.networks.multitask import NetworkSettings, initial_network
from models.training.image_training import TrainingSettings, fit
from models.training.losses import known_labels, task_losses
from models.weighting.aggregation import AggregationSettings
from models.weighting.oracle import LabelNoise
from models.weighting.registry import SvdSettings, UniformSettings, WeightingSettings, make_weighting
from models.weighting.scalarization import ScalarizationSettings

ADAPTER: TypeAdapter = TypeAdapter(WeightingSettings)
K = 4
NOISE = LabelNoise(*torch.tensor([[1.0, 0.6, 0.0, 0.9], [0.2, 0.2, 0.2, 0.2], [0.2, 0.32, 0.5, 0.18]]))
SCALARIZATIONS = get_args(ScalarizationSettings.model_fields["kind"].annotation)
AGGREGATIONS = get_args(AggregationSettings.model_fields["kind"].annotation)
WITHOUT_SOLVER = [] if find_spec("cvxpy") else ["cagrad", "nash_mtl"]
INSTALLED = [
    "uniform", "single_task", "svd", "svd_dynamic", "trust", "oracle", "permuted_weights", "common_factor",
    *SCALARIZATIONS,
    *(n for n in AGGREGATIONS if n not in WITHOUT_SOLVER)
]  # fmt: skip
UNEQUAL = {"oracle", "pcd"}  # treat tasks differently because of the known noise, or of their order
RANDOM = {"rlw", "pcgrad", "gradvac", "graddrop"}


class PlainFabric:
    """Has the only method of Fabric that a rule may call."""

    def backward(self, objective):
        objective.backward()


def rule(kind, tasks=K, seed=0, **values):
    noise = LabelNoise(*(part[:tasks] for part in NOISE))
    return make_weighting(ADAPTER.validate_python({"kind": kind} | values), tasks, seed=seed, label_noise=noise)


def network(k=K, seed=0):
    labels = [str(i) for i in range(k)]
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    return initial_network(NetworkSettings(), labels, pixels, seed=seed).train()


def random_targets(n, k=K, seed=0):
    return torch.randint(-1, 2, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def step(net, weighting, targets, learn=False):
    """One backward step on fixed pixels."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (len(targets), 1, 16, 16), generator=generator, dtype=torch.uint8)

    def forward():
        features = net.features(pixels)
        return features, task_losses(net.classify(features), targets)

    features, losses = forward()
    net.zero_grad()
    weighting.backward(PlainFabric(), losses, known_labels(targets) > 0, features, net)
    if learn:
        weighting.after_step(lambda: forward()[1].detach())
    return losses.detach()


def gradients(net):
    return [p.grad.clone() for p in net.parameters()]


@pytest.mark.parametrize("kind", INSTALLED)
def test_weights_sum_to_the_number_of_labels_and_are_uniform_before_the_first_step(kind):
    weighting = rule(kind)
    if kind != "oracle":
        assert torch.equal(weighting.weights(), torch.ones(K, dtype=torch.float64))
    step(network(), weighting, random_targets(24), learn=True)
    weights = weighting.weights()
    assert weights.shape == (K,)
    assert weights.dtype == torch.float64
    assert weights.sum().item() == pytest.approx(K)


@pytest.mark.parametrize("kind", [k for k in INSTALLED if k in AGGREGATIONS])
def test_the_heads_of_a_rule_that_combines_gradients_follow_the_mean_loss(kind):
    assert rule(kind).combines_gradients
    ours, uniform = network(), network()
    step(ours, rule(kind), random_targets(24))
    step(uniform, rule("uniform"), random_targets(24))
    for mine, theirs in zip(ours.heads.parameters(), uniform.heads.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("kind", [k for k in INSTALLED if k not in UNEQUAL | {"single_task"}])  # the sum, not the mean
def test_equal_tasks_get_the_gradient_of_the_mean_loss(kind):
    """Equal labels and equal heads have equal losses and equal gradients of the shared parameters."""
    targets = random_targets(24)[:, :1].expand(-1, K).contiguous()
    ours, uniform = network(), network()
    for net in (ours, uniform):
        with torch.no_grad():
            for head in net.heads:
                head.weight.copy_(net.heads[0].weight)
                head.bias.copy_(net.heads[0].bias)
    weighting = rule(kind)
    step(ours, weighting, targets)
    step(uniform, rule("uniform"), targets)
    if kind not in ("rlw", "mgda", "cagrad", "krum"):  # they draw, or pick among equals
        torch.testing.assert_close(weighting.weights(), torch.ones(K, dtype=torch.float64), rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(ours.shared_parameters(), uniform.shared_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("kind", [k for k in INSTALLED if k not in UNEQUAL | RANDOM])
def test_labels_in_another_order_get_their_weights_in_that_order(kind):
    order = torch.tensor([2, 0, 3, 1])
    targets = random_targets(24)
    ours, other = network(), network()
    with torch.no_grad():
        for to, origin in enumerate(order.tolist()):
            other.heads[to].weight.copy_(ours.heads[origin].weight)
            other.heads[to].bias.copy_(ours.heads[origin].bias)
    one, two = rule(kind), rule(kind)
    step(ours, one, targets, learn=True)
    step(other, two, targets[:, order], learn=True)
    torch.testing.assert_close(one.weights()[order], two.weights(), rtol=1e-3, atol=1e-3)
    for mine, theirs in zip(ours.shared_parameters(), other.shared_parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [k for k in INSTALLED if k not in ("krum", "trimmed_mean")])
def test_a_single_task_is_trained_as_if_there_were_no_rule(kind):
    ours, uniform = network(1), network(1)
    weighting = rule(kind, 1)
    step(ours, weighting, random_targets(24, 1))
    step(uniform, rule("uniform", 1), random_targets(24, 1))
    assert weighting.weights().tolist() == pytest.approx([1.0])
    cosine = torch.cosine_similarity(torch.cat([g.flatten() for g in gradients(ours)]),
                                     torch.cat([g.flatten() for g in gradients(uniform)]), 0)  # fmt: skip
    assert cosine.item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kind", [k for k in INSTALLED if k not in RANDOM | {"krum", "trimmed_mean"}])
def test_a_task_absent_from_the_batch_changes_neither_its_head_nor_the_gradients_of_the_others(kind):
    """The others' shared gradient is that of a network without the task, up to its length. (Random rules are left out
    since their draws depend on the number of tasks, and robust means since they need more tasks.)"""
    targets = random_targets(24)
    targets[:, 3] = -1
    ours, without = network(), network(3)
    with torch.no_grad():
        without.trunks[0].backbone.load_state_dict(ours.trunks[0].backbone.state_dict())
        for head, origin in zip(without.heads, ours.heads, strict=False):
            head.load_state_dict(origin.state_dict())
    whole = rule(kind)
    step(ours, whole, targets)
    step(without, rule(kind, 3), targets[:, :3])
    assert not any(p.grad is not None and p.grad.any() for p in ours.heads[3].parameters())
    assert all(p.grad.any() for p in ours.heads[0].parameters())
    first, second = (torch.cat([p.grad.flatten() for p in net.shared_parameters()]) for net in (ours, without))
    assert torch.cosine_similarity(first, second, 0).item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", INSTALLED)
def test_a_batch_without_any_known_label_moves_nothing(kind):
    net, weighting = network(), rule(kind)
    step(net, weighting, torch.full((4, K), -1, dtype=torch.int8), learn=True)
    assert all(p.grad.isfinite().all() and not p.grad.any() for p in net.parameters())
    assert weighting.weights().isfinite().all()


@pytest.mark.parametrize("kind", INSTALLED)
def test_gradients_lie_in_memory_as_their_parameters_do(kind):
    """Fused optimisers pair values by their position in memory; other strides would permute the gradient."""
    net = network().to(memory_format=torch.channels_last)
    step(net, rule(kind), random_targets(24))
    assert all(p.grad.stride() == p.stride() for p in net.parameters())


@pytest.mark.parametrize("kind", INSTALLED)
def test_random_numbers_depend_on_the_seed_and_leave_the_global_generator_unchanged(kind):
    def run(seed):
        net, weighting = network(), rule(kind, seed=seed)
        for _ in range(2):
            step(net, weighting, random_targets(24), learn=True)
        return gradients(net)

    before = torch.get_rng_state()
    one, again, other = run(0), run(0), run(1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    if kind in ("rlw", "graddrop"):
        assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


PLAIN = TrainingSettings(epochs=3, batch_size=16, learning_rate=3e-3, precision="32", compile="off")


def toy_examples(n, seed, first):
    rng = torch.Generator().manual_seed(seed)
    targets = random_targets(n, seed=seed)
    targets[: n // 3, 3] = -1  # absent from some batches
    pixels = torch.randint(0, 100, (n, 16, 16), generator=rng) + 60 * (targets[:, :1, None] == 1)
    return examples(pixels.to(torch.uint8), targets, tuple(f"{first + i}" for i in range(n)))


@pytest.mark.parametrize("kind", INSTALLED)
def test_interrupted_training_ends_with_the_same_bits(kind):
    train, val = toy_examples(40, 0, 0), toy_examples(20, 1, 100)

    def run(state=None):
        states = []
        fit(network(), rule(kind), train, val, PLAIN, seed=0, device="cpu", state=state,
            on_epoch=lambda report, state: states.append(state))  # fmt: skip
        return states

    def bits(state):
        return [*state["network"].values(), *state["weighting"].values()]

    whole = run()
    file = io.BytesIO()
    torch.save(whole[1], file)
    file.seek(0)
    resumed = run(torch.load(file, weights_only=True))
    assert len(resumed) == 1
    assert all(
        torch.equal(a.nan_to_num(-9.0), b.nan_to_num(-9.0))
        for a, b in zip(bits(whole[-1]), bits(resumed[-1]), strict=True)
    )


@pytest.mark.parametrize("kind", WITHOUT_SOLVER)
def test_a_rule_whose_solver_is_not_installed_names_what_to_install(kind):
    with pytest.raises(SettingError, match=rf'pip install "torchjd\[{kind}\]"'):
        rule(kind)


@pytest.mark.parametrize(("kind", "tasks", "least"), [("krum", 3, 4), ("trimmed_mean", 2, 3)])
def test_a_rule_that_needs_more_labels_says_how_many(kind, tasks, least):
    with pytest.raises(SettingError, match=f"at least {least} labels; got {tasks}"):
        rule(kind, tasks)


@given(st.integers(0, 2**31), st.sampled_from(["uncertainty", "gls", "stch", "mgda", "imtl_g"]))
@settings(max_examples=10, deadline=None)
def test_weights_are_finite_and_sum_to_k_whatever_the_labels(seed, kind):
    weighting = rule(kind)
    step(network(), weighting, random_targets(12, seed=seed))
    assert weighting.weights().isfinite().all()
    assert weighting.weights().sum().item() == pytest.approx(K)


def test_settings_are_distinguished_by_kind_and_named_by_values_that_are_not_the_default():
    assert isinstance(ADAPTER.validate_python({"kind": "svd", "rank": 2}), SvdSettings)
    assert isinstance(ADAPTER.validate_python({"kind": "pcgrad"}), AggregationSettings)
    assert ADAPTER.validate_python({"kind": "famo"}).name == "famo"
    assert UniformSettings().name == "uniform"
    assert SvdSettings().name == "svd"
    assert SvdSettings(rank=2, scaling="unit").name == "svd(rank=2, scaling=unit)"
    assert SvdSettings(rank="spectrum").name == "svd(rank=spectrum)"
    with pytest.raises(ValidationError, match="unifrom"):
        ADAPTER.validate_python({"kind": "unifrom"})


def test_single_task_trains_each_label_as_a_network_of_its_own_would_be_trained():
    labels = ("one", "two")
    pixels = torch.randint(0, 256, (40, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    targets = random_targets(40, 2).numpy()
    patients = [str(i) for i in range(40)]
    wanted = ADAPTER.validate_python({"kind": "single_task"})
    schedule = TrainingSettings(epochs=2, batch_size=8, precision="32", optimizer="sgd")

    def fitted(net, rule, columns):
        part = examples(pixels, targets[:, columns], patients)
        val = examples(pixels, targets[:, columns], [f"other {patient}" for patient in patients])
        return fit(net, rule, part, val, schedule, seed=3, device="cpu")

    both = initial_network(wanted.network(NetworkSettings()), labels, torch.from_numpy(pixels), seed=0)
    separate = [initial_network(NetworkSettings(), labels[i : i + 1], torch.from_numpy(pixels), seed=0) for i in (0, 1)]
    for i, net in enumerate(separate):
        net.trunks[0].load_state_dict(both.trunks[i].state_dict())
        net.heads[0].load_state_dict(both.heads[i].state_dict())
    joint = fitted(both, make_weighting(wanted, 2), [0, 1])
    for i, net in enumerate(separate):
        own = fitted(net, rule("uniform", 1), [i])
        for mine, theirs in zip(joint.history, own.history, strict=True):
            assert mine.losses[i] == pytest.approx(theirs.losses[0], rel=1e-4)
