import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from models.errors import SettingError
from models.losses import known_tasks, task_losses
from models.networks import MultiTaskNetwork, NetworkSettings
from models.svd import Theta, svd_weights
from models.weighting import SvdSettings, UncertaintySettings, UniformSettings, WeightingSettings, make_weighting

CPU = torch.device("cpu")
ADAPTER: TypeAdapter = TypeAdapter(WeightingSettings)
KINDS = ["uniform", "svd", "uncertainty"]


class PlainFabric:
    """The one method of Fabric that a rule may call."""

    def backward(self, objective):
        objective.backward()


@pytest.fixture
def network():
    return MultiTaskNetwork(NetworkSettings(), ("a", "b", "c"), mean=128, std=60, size=16).train()


def step(network, weighting, targets):
    """One backward step; returns the losses."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (len(targets), 1, 16, 16), generator=generator, dtype=torch.uint8)
    features = network.features(pixels)
    losses = task_losses(network.classify(features), targets)
    network.zero_grad()
    weighting.backward(PlainFabric(), losses, known_tasks(targets), features, network)
    return losses.detach()


def random_targets(n, k=3, seed=0):
    return torch.randint(-1, 2, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def gradients(network):
    return [p.grad.clone() for p in network.parameters()]


def some_features(targets, d=8):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(len(targets), d, generator=generator) + targets[:, :1].float()


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_begins_with_the_gradient_of_the_mean_loss(network, kind):
    targets = random_targets(12)
    weighting = make_weighting(ADAPTER.validate_python({"kind": kind}), 3)
    step(network, weighting, targets)
    ours = gradients(network)
    step(network, make_weighting(UniformSettings(), 3), targets)
    for mine, uniform in zip(ours, gradients(network), strict=True):
        torch.testing.assert_close(mine, uniform)
    assert torch.equal(weighting.weights(), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_absent_from_the_batch_leaves_its_head_and_its_weight_alone(network, kind):
    targets = random_targets(12)
    targets[:, 1] = -1
    weighting = make_weighting(ADAPTER.validate_python({"kind": kind}), 3)
    learned = weighting.parameters(CPU)
    step(network, weighting, targets)
    assert not any(p.grad.any() for p in network.heads[1].parameters())
    assert all(p.grad.any() for p in network.heads[0].parameters())
    assert all(p.grad[1] == 0 and p.grad[0] != 0 for p in learned)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_without_any_known_label_moves_nothing(network, kind):
    weighting = make_weighting(ADAPTER.validate_python({"kind": kind}), 3)
    step(network, weighting, torch.full((4, 3), -1, dtype=torch.int8))
    assert all(p.grad.isfinite().all() and not p.grad.any() for p in network.parameters())


def test_svd_weights_come_from_the_features_after_the_chosen_epochs():
    targets = random_targets(300)
    features = some_features(targets)
    weighting = make_weighting(SvdSettings(rank=2, scaling="unit", refresh=(2, 4)), 3)

    def feature_pass():
        yield features[:100], targets[:100]
        yield features[100:], targets[100:]

    weighting.after_epoch(1, feature_pass)
    assert torch.equal(weighting.weights(), torch.ones(3, dtype=torch.float64))
    weighting.after_epoch(2, feature_pass)
    theta = Theta().add(features, targets, targets >= 0).matrix("unit")
    torch.testing.assert_close(weighting.weights(), svd_weights(theta, 2))
    assert weighting.weights()[0] > 1


def test_svd_weights_scale_the_losses(network):
    targets = random_targets(12)
    weighting = make_weighting(SvdSettings(), 3)
    weighting.load_state_dict({"alpha": torch.tensor([3.0, 0.0, 0.0], dtype=torch.float64)})
    step(network, weighting, targets)
    assert not any(p.grad.any() for p in network.heads[2].parameters())
    weighted = network.heads[0].weight.grad.clone()
    step(network, make_weighting(UniformSettings(), 3), targets)
    torch.testing.assert_close(weighted, 3 * network.heads[0].weight.grad)


def test_uncertainty_gives_weight_to_the_task_with_the_smaller_loss(network):
    weighting = make_weighting(UncertaintySettings(), 3)
    (log_variances,) = weighting.parameters(CPU)
    with torch.no_grad():
        log_variances.copy_(torch.tensor([0.0, -1.0, 1.0]))
    expected = torch.tensor([1.0, 2.718281828, 0.367879441], dtype=torch.float64)
    torch.testing.assert_close(weighting.weights(), 3 * expected / expected.sum(), rtol=1e-6, atol=0)
    losses = step(network, weighting, random_targets(12))
    by_hand = (1 - torch.exp(-log_variances.detach()) * losses) / 3  # gradient of exp(-s) L + s, mean over tasks
    torch.testing.assert_close(log_variances.grad, by_hand)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_of_a_rule_can_be_taken_up_again(kind):
    settings = ADAPTER.validate_python({"kind": kind})
    old, new = make_weighting(settings, 3), make_weighting(settings, 3)
    targets = random_targets(100)
    old.after_epoch(2, lambda: [(some_features(targets), targets)])
    for p in old.parameters(CPU):
        p.data += torch.tensor([0.1, 0.2, 0.3])
    new.load_state_dict(old.state_dict())
    assert torch.equal(new.weights(), old.weights())
    assert new.weights().sum().item() == pytest.approx(3)


def test_a_refresh_that_no_epoch_would_use_is_refused():
    weighting = make_weighting(SvdSettings(refresh=(3,)), 3)
    weighting.check(4)
    with pytest.raises(SettingError, match=r"after epoch 3, but training has 3 epoch\(s\)"):
        weighting.check(3)
    with pytest.raises(SettingError, match="after epoch 0"):
        make_weighting(SvdSettings(refresh=(0,)), 3).check(3)


@pytest.mark.parametrize(("tasks", "rank"), [(1, 1), (2, 1), (3, 1), (4, 3), (14, 3)])
def test_without_a_rank_it_is_3_or_1_for_few_labels(tasks, rank):
    targets = random_targets(100, tasks)
    weighting = make_weighting(SvdSettings(), tasks)
    weighting.after_epoch(2, lambda: [(some_features(targets), targets)])
    theta = Theta().add(some_features(targets), targets, targets >= 0).matrix("effect")
    assert torch.equal(weighting.weights(), svd_weights(theta, rank))


def test_a_rank_above_the_number_of_labels_is_refused():
    with pytest.raises(SettingError, match=r"1\.\.3, the number of labels; got 4"):
        make_weighting(SvdSettings(rank=4), 3)


def test_settings_are_told_apart_by_kind_and_named_by_what_is_not_the_default():
    assert isinstance(ADAPTER.validate_python({"kind": "svd", "rank": 2}), SvdSettings)
    assert UniformSettings().name == "uniform"
    assert SvdSettings().name == "svd"
    assert SvdSettings(rank=2, scaling="unit").name == "svd(rank=2, scaling=unit)"
    with pytest.raises(ValidationError, match="unifrom"):
        ADAPTER.validate_python({"kind": "unifrom"})


def test_a_rule_that_combines_gradients_fits_the_interface(network):
    """The interface has room for TorchJD's aggregators: a rule may send every loss back on its own."""
    from torchjd.aggregation import MGDA
    from torchjd.autojac import jac_to_grad, mtl_backward

    from models.weighting import Weighting

    class ByGradients(Weighting):
        def backward(self, fabric, losses, present, features, network):
            heads = [list(head.parameters()) for head in network.heads]
            shared = network.shared_parameters()
            # the losses share what lies between features and losses, so their graphs must outlive the first of them
            mtl_backward(list(losses), features=features, tasks_params=heads, shared_params=shared, retain_graph=True)
            self.found = jac_to_grad(shared, MGDA())

        def weights(self):
            return self.found.double() * len(self.found)

        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    rule = ByGradients(UniformSettings())
    step(network, rule, random_targets(12))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert rule.weights().sum().item() == pytest.approx(3, rel=1e-4)
