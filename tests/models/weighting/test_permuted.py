"""Weights that are dealt to the labels at random, as a control of the rule that they come from."""

import pytest
import torch
from pydantic import ValidationError

from models.weighting.oracle import LabelNoise, OracleSettings
from models.weighting.permuted import PermutedWeightsSettings
from models.weighting.registry import make_weighting
from models.weighting.svd_rules import SvdDynamicSettings, SvdSettings
from models.weighting.trust import TrustSettings
from tests.models.weighting.test_trust import drawn, passing

K = 4
FEATURES, _, NOISY = drawn(2000)
NOISE = LabelNoise(*(torch.tensor(v) for v in ([1.0, 0.9, 0.8, 0.5], [0.1, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4])))
BEFORE_TRAINING = [SvdSettings(), SvdSettings(rank=2, power=1.0), TrustSettings(),
            SvdDynamicSettings(features="finished", by="both")]  # fmt: skip
RUNNING = [SvdSettings(features="running"), SvdDynamicSettings()]
EVERY = [*BEFORE_TRAINING, *RUNNING, OracleSettings(formula="signal")]


def made(settings, seed=0):
    """The rule or control after it has computed its weights."""
    weighting = make_weighting(settings, K, seed=seed, label_noise=NOISE)
    if settings.feature_source != "running":
        weighting.start(passing(FEATURES, NOISY))
    weighting.after_epoch(2, passing(FEATURES, NOISY))
    return weighting


def control(of):
    return PermutedWeightsSettings(of=of)


@pytest.mark.parametrize("of", EVERY, ids=lambda of: of.name)
def test_the_control_has_the_rules_weights_in_another_order(of):
    weights, given = made(control(of)).weights(), made(of).weights()
    assert torch.equal(weights.sort().values, given.sort().values)
    assert not torch.equal(weights, given)


def test_the_order_follows_from_the_seed_and_from_nothing_else():
    def order(of, seed):
        """Which label's weight each label got."""
        given = made(of).weights()
        return [int((given - weight).abs().argmin()) for weight in made(control(of), seed).weights()]

    by_seed = [order(SvdSettings(), seed) for seed in range(6)]
    assert by_seed == [order(OracleSettings(), seed) for seed in range(6)]
    assert all(sorted(each) == [0, 1, 2, 3] for each in by_seed)
    assert len(set(map(tuple, by_seed))) > 3


@pytest.mark.parametrize("of", EVERY, ids=lambda of: of.name)
def test_the_control_names_its_rule_and_needs_what_the_rule_needs(of):
    settings = control(of)
    assert settings.name == f"permuted_weights({of.name})"
    assert settings.controls == of.name
    assert of.controls is None
    assert settings.feature_source == of.feature_source
    assert (settings.feature_source == "running") == (of not in BEFORE_TRAINING)


@pytest.mark.parametrize("of", EVERY, ids=lambda of: of.name)
def test_a_resumed_control_has_the_same_weights_and_the_same_record(of):
    one = made(control(of), seed=3)
    two = make_weighting(control(of), K, seed=3, label_noise=NOISE)
    two.load_state_dict(one.state_dict())
    assert torch.equal(two.weights(), one.weights())
    assert (two.diagnostics(), two.trust()) == (one.diagnostics(), one.trust())
    assert (one.diagnostics(), one.trust()) == (made(of).diagnostics(), made(of).trust())


def test_the_control_is_refused_where_the_rule_is():
    late = control(SvdSettings(features="running", refresh=(3,)))
    with pytest.raises(ValueError, match="no epoch would use them"):
        late.check(3)
    with pytest.raises(ValidationError, match="uniform"):
        control({"kind": "uniform"})


def test_losses_are_scaled_by_the_permuted_weights():
    weighting = made(control(SvdSettings()))
    losses = torch.ones(K, requires_grad=True)
    weighting.backward(Fabric(), losses, losses > 0, None, None)
    torch.testing.assert_close(K * losses.grad.double(), weighting.weights(), rtol=1e-6, atol=1e-6)


class Fabric:
    def backward(self, objective):
        objective.backward()
