from copy import deepcopy

import pytest
import torch
from pydantic import TypeAdapter

from models.errors import SettingError
from models.networks.multitask import NetworkSettings, initial_network
from models.training.image_step import Batch, Step, StepSettings
from models.training.losses import task_losses
from models.weighting.registry import WeightingSettings, make_weighting

K = 3
LABELS = tuple(f"label {i}" for i in range(K))
PIXELS = torch.randint(0, 256, (13, 1, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
TARGETS = torch.randint(-1, 2, (13, K), generator=torch.Generator().manual_seed(1), dtype=torch.int8)
TARGETS[:9, 2] = -1  # most micro-batches lack this label
TARGETS[12, 2] = 1
WITHOUT_NORMALISATION = "test_vit"  # of batches: it has layer normalisation


def network(backbone=WITHOUT_NORMALISATION):
    return initial_network(NetworkSettings(backbone=backbone), LABELS, PIXELS[:, 0], seed=0).train()


def weighting(kind):
    rule = make_weighting(TypeAdapter(WeightingSettings).validate_python({"kind": kind}), K)
    if kind == "svd":
        rule.load_state_dict(rule.state_dict() | {"alpha": torch.tensor([2.0, 0.25, 0.75], dtype=torch.float64)})
    return rule


def made(kind, micro_batch=None, backbone=WITHOUT_NORMALISATION):
    step = Step(network(backbone), weighting(kind), StepSettings(precision="32", micro_batch=micro_batch), "cpu")
    return step, step(Batch(PIXELS, TARGETS))


def gradients(step):
    return [p.grad for group in step.optimizer.param_groups for p in group["params"]]


@pytest.mark.parametrize("kind", ["uniform", "svd", "uncertainty"])
@pytest.mark.parametrize("micro_batch", [1, 4, 12, 13, 100])
def test_micro_batches_give_the_losses_and_gradients_of_the_whole_batch(kind, micro_batch):
    (whole, (losses, present)), (cut, (same_losses, same_present)) = made(kind), made(kind, micro_batch)
    torch.testing.assert_close(same_losses, losses, rtol=0, atol=1e-6)
    assert torch.equal(same_present, present)
    for ours, expected in zip(gradients(cut), gradients(whole), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_images_per_forward_pass_stay_within_the_micro_batch(monkeypatch):
    step = Step(network(), weighting("uniform"), StepSettings(precision="32", micro_batch=4), "cpu")
    sizes = []
    features = step.network.features
    monkeypatch.setattr(step, "_training_features", lambda pixels: (sizes.append(len(pixels)), features(pixels))[1])
    step(Batch(PIXELS, TARGETS))
    assert sizes == [4, 3, 3, 3]


def test_looking_ahead_at_the_losses_leaves_running_statistics_to_the_step():
    (once, _), (twice, _) = made("uniform", 13, "conv4"), made("uncertainty", 5, "conv4")
    counts = [step.network.trunks[0].backbone.blocks[0][1].num_batches_tracked.item() for step in (once, twice)]
    assert counts == [1, 3]


@pytest.mark.parametrize("kind", ["pcgrad", "dwa"])
def test_a_rule_that_needs_whole_batches_is_not_cut(kind):
    rule = weighting(kind)
    Step(network(), rule, StepSettings(), "cpu")
    with pytest.raises(SettingError, match="leave micro_batch out"):
        Step(network(), rule, StepSettings(micro_batch=4), "cpu")


@pytest.mark.parametrize("micro_batch", [None, 5])
def test_a_rule_can_ask_for_the_losses_after_the_step(micro_batch, monkeypatch):
    step = Step(network(), weighting("uniform"), StepSettings(precision="32", micro_batch=micro_batch), "cpu")
    asked = []
    monkeypatch.setattr(step.weighting, "after_step", lambda losses: asked.append(losses()))
    step(Batch(PIXELS, TARGETS))
    now = task_losses(deepcopy(step.network)(PIXELS), TARGETS)
    torch.testing.assert_close(asked[0], now, rtol=0, atol=1e-6)
    assert not asked[0].requires_grad


def test_the_clock_sees_every_part_and_no_two_at_once():
    parts, running = [], []

    class Part:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            assert not running
            running.append(self.name)

        def __exit__(self, *_):
            parts.append(running.pop())

    step = Step(network(), weighting("uniform"), StepSettings(precision="32"), "cpu")
    step(Batch(PIXELS, TARGETS), Part)
    assert parts == ["forward", "backward", "optimiser"]


def test_sgd_has_nesterovs_momentum_and_decays_matrices_and_kernels_only():
    """By hand: v = 0.9 v + g, p = p - rate (g + 0.9 v), where the gradient g of a kernel has decay x p added."""
    network, settings = (
        initial_network(NetworkSettings(), LABELS, PIXELS[:, 0], seed=0).train(),
        StepSettings(optimizer="sgd", learning_rate=0.1, weight_decay=0.05, precision="32"),
    )
    naive, velocities = deepcopy(network), {}
    step = Step(network, weighting("uniform"), settings, "cpu")
    for rate in (0.1, 0.05, 0.02):
        step.set_learning_rate(rate)
        step(Batch(PIXELS, TARGETS))
        naive.zero_grad()
        task_losses(naive(PIXELS), TARGETS).mean().backward()
        with torch.no_grad():
            for name, p in naive.named_parameters():
                gradient = p.grad + (0.05 * p if p.ndim > 1 else 0)
                velocities[name] = 0.9 * velocities.get(name, 0) + gradient
                p -= rate * (gradient + 0.9 * velocities[name])
    for name, p in naive.named_parameters():
        torch.testing.assert_close(dict(network.named_parameters())[name], p, rtol=1e-3, atol=1e-5)
