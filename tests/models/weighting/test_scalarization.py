import pytest
import torch
from torchjd.scalarization import COSMOS, DWA, FAMO, IMTLL, PBI, STCH, UW, GeometricMean

from models.weighting.scalarization import (
    CommonFactor,
    CommonFactorSettings,
    FastAdaptive,
    ScalarizationSettings,
    make_scalarization,
    scalarization_gradient,
)

LOSSES = torch.tensor([0.7, 0.2, 0.4])
ALL = torch.ones(3, dtype=torch.bool)


class PlainFabric:
    def backward(self, objective):
        objective.backward()


def rule(kind, seed=0):
    return make_scalarization(ScalarizationSettings(kind=kind), 3, seed)


def factors(weighting, losses=LOSSES, present=ALL):
    """Return the derivative of the objective by the losses."""
    leaf = losses.clone().requires_grad_()
    weighting.backward(PlainFabric(), leaf, present, None, None)
    return leaf.grad


@pytest.mark.parametrize(
    ("kind", "reference", "scale"),
    [
        ("uncertainty", lambda: UW(3), 2 / 3),
        ("imtl_l", lambda: IMTLL(3), 1 / 3),
        ("famo", lambda: FAMO(3), 1),
        ("stch", lambda: STCH(0.1, torch.ones(3)), 1),
        ("gls", GeometricMean, 1),
        ("pbi", lambda: PBI(5.0, torch.ones(3)), 3**-0.5),
        ("cosmos", lambda: COSMOS(1.0, torch.ones(3) / 3), 1),
    ],
)
def test_the_objective_has_the_gradient_of_torchjds_rule(kind, reference, scale):
    torch.testing.assert_close(factors(rule(kind)), scale * scalarization_gradient(reference(), LOSSES))


def test_learned_scales_give_weight_to_the_task_with_the_smaller_loss():
    weighting = rule("uncertainty")
    (log_variances,) = weighting.parameters(torch.device("cpu"))
    with torch.no_grad():
        log_variances.copy_(torch.tensor([0.0, -1.0, 1.0]))
    expected = torch.tensor([1.0, 2.718281828, 0.367879441], dtype=torch.float64)
    torch.testing.assert_close(weighting.weights(), 3 * expected / expected.sum(), rtol=1e-6, atol=0)
    factors(weighting)
    by_hand = (1 - torch.exp(-log_variances.detach()) * LOSSES) / 3  # gradient of exp(-s) L + s, mean over tasks
    torch.testing.assert_close(log_variances.grad, by_hand)


@pytest.mark.parametrize("kind", ["uncertainty", "imtl_l"])
def test_the_scale_of_an_absent_task_stays(kind):
    weighting = rule(kind)
    (scales,) = weighting.parameters(torch.device("cpu"))
    factors(weighting, LOSSES * torch.tensor([1, 0, 1]), torch.tensor([True, False, True]))
    assert scales.grad[1] == 0
    assert scales.grad[0] != 0


@pytest.mark.parametrize("kind", ["rlw", "stch", "gls", "pbi", "cosmos", "famo"])
def test_uniform_weights_are_shared_by_the_tasks_that_are_present(kind):
    """Two of three tasks present have two thirds of the weight, as under the mean of the losses."""
    given = factors(rule(kind), LOSSES * torch.tensor([1, 0, 1]), torch.tensor([True, False, True]))
    if kind in ("gls", "cosmos"):
        given = given * (2 / 3) / given[[0, 2]].sum()  # their sum depends on the losses
    assert given[[0, 2]].sum().item() == pytest.approx(2 / 3)


def test_dwa_weighs_by_torchjds_rule_on_the_losses_of_two_epochs():
    weighting, reference = rule("dwa"), DWA()
    for epoch, losses in enumerate((LOSSES, LOSSES * torch.tensor([0.5, 1.0, 0.9])), start=1):
        assert torch.equal(weighting.weights(), torch.ones(3, dtype=torch.float64))
        factors(weighting, losses)
        factors(weighting, 2 * losses)
        reference(1.5 * losses)
        reference.step()
        weighting.after_epoch(epoch, None)
    torch.testing.assert_close(weighting.weights().float(), scalarization_gradient(reference, LOSSES))
    assert weighting.weights()[0] < 1 < weighting.weights()[1]  # what falls slower weighs more


def test_dwa_averages_over_the_batches_in_which_a_task_is_present():
    here, there = rule("dwa"), rule("dwa")
    for epoch in (1, 2):
        factors(here, LOSSES)
        factors(here, LOSSES * torch.tensor([1, 0, 1]), torch.tensor([True, False, True]))
        factors(there, LOSSES)
        for weighting in (here, there):
            weighting.after_epoch(epoch, None)
    torch.testing.assert_close(here.weights(), there.weights())


def test_famo_learns_as_torchjds_does_and_leaves_an_absent_task_where_it_is():
    after = torch.tensor([0.6, 0.2, 0.1])
    weighting, reference = rule("famo"), FAMO(3)
    factors(weighting)
    weighting.after_step(lambda: after)
    reference(LOSSES)
    reference.update(after)
    torch.testing.assert_close(next(weighting._rule.parameters()), next(reference.parameters()))

    partial = rule("famo")
    assert isinstance(partial, FastAdaptive)
    present = torch.tensor([True, False, True])
    factors(partial, LOSSES * present, present)
    partial.after_step(lambda: after * present)
    logits = next(partial._rule.parameters()).detach()
    assert abs(logits[1]) < 1e-2 * logits[0].abs()


def test_random_weights_are_positive_differ_from_step_to_step_and_follow_from_the_seed():
    weighting = rule("rlw")
    first, second = factors(weighting), factors(weighting)
    assert (first > 0).all()
    assert first.sum().item() == pytest.approx(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, factors(rule("rlw")))
    resumed = rule("rlw")
    factors(resumed)
    other = rule("rlw")
    other.load_state_dict(resumed.state_dict())
    assert torch.equal(factors(other), second)


def test_weights_on_record_are_the_mean_over_the_steps_of_the_epoch():
    weighting = rule("gls")
    alphas = [3 * factors(weighting, losses) for losses in (LOSSES, LOSSES.flip(0))]
    expected = sum(3 * alpha / alpha.sum() for alpha in alphas) / 2
    torch.testing.assert_close(weighting.weights().float(), expected)
    weighting.after_epoch(1, None)
    torch.testing.assert_close(weighting.weights().float(), expected)  # until the next step
    factors(weighting, torch.ones(3))
    torch.testing.assert_close(weighting.weights(), torch.ones(3, dtype=torch.float64))


def stepped(weighting, losses_of, steps=3):
    """Parameters (3,) after steps of SGD with rate 0.1 on losses that the parameters give; with the rule's scales."""
    parameters = torch.tensor([0.5, -0.3, 1.0], requires_grad=True)
    scales = weighting.parameters(torch.device("cpu"))
    optimizer = torch.optim.SGD([{"params": [parameters], "lr": 0.1}, {"params": scales, "lr": 0.1}])
    for _ in range(steps):
        optimizer.zero_grad()
        weighting.backward(PlainFabric(), losses_of(parameters), ALL, None, None)
        optimizer.step()
    return parameters.detach(), [each.detach().clone() for each in scales]


def some_losses(parameters):
    return torch.stack([parameters.square().sum() + 0.1, (parameters[0] - 2).square(), parameters[1:].exp().sum()])


@pytest.mark.parametrize("of", ["uncertainty", "imtl_l"])
def test_a_common_factor_changes_the_learning_rate_of_a_uniform_mean_and_nothing_else(of):
    control = CommonFactor(CommonFactorSettings(of=of), 3)
    (scales,) = control.parameters(torch.device("cpu"))
    start = torch.tensor([0.7, -1.1, 0.2])
    with torch.no_grad():
        scales.copy_(start)
    moved, _ = stepped(control, some_losses, steps=1)
    factor = (-start if of == "uncertainty" else start).exp().mean()
    by_hand = torch.tensor([0.5, -0.3, 1.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(some_losses(by_hand).mean(), by_hand)
    torch.testing.assert_close(moved, by_hand.detach() - 0.1 * factor * gradient)


@pytest.mark.parametrize("of", ["uncertainty", "imtl_l"])
def test_the_scales_of_the_control_learn_from_the_losses_as_the_rules_own(of):
    control, given = CommonFactor(CommonFactorSettings(of=of), 3), rule(of)
    fixed = lambda parameters: LOSSES + 0 * parameters.sum()  # noqa: E731
    torch.testing.assert_close(stepped(control, fixed), stepped(given, fixed), rtol=0, atol=0)
    assert torch.equal(control.weights(), torch.ones(3, dtype=torch.float64))
    assert not torch.allclose(given.weights(), torch.ones(3, dtype=torch.float64))
    assert control.diagnostics() == pytest.approx(given.diagnostics(), rel=1e-6)


@pytest.mark.parametrize("kind", ["uncertainty", "imtl_l"])
def test_the_common_factor_of_learned_scales_is_the_mean_of_their_factors(kind):
    weighting = rule(kind)
    assert weighting.diagnostics() == {"common_factor": pytest.approx(1)}
    (scales,) = weighting.parameters(torch.device("cpu"))
    with torch.no_grad():
        scales.copy_(torch.tensor([0.0, -1.0, 1.0]))
    assert weighting.diagnostics() == {"common_factor": pytest.approx((1 + 2.718281828 + 0.367879441) / 3)}
    assert weighting.diagnostics()["common_factor"] == pytest.approx(factors(weighting).sum().item())


@pytest.mark.parametrize("of", ["uncertainty", "imtl_l"])
def test_a_common_factor_is_a_control_of_its_rule(of):
    assert CommonFactorSettings(of=of).controls == of
    assert CommonFactorSettings().name == "common_factor"
    assert ScalarizationSettings(kind=of).controls is None


@pytest.mark.parametrize("kind", ["gls", "famo", "rlw", "stch"])
def test_the_common_factor_is_the_mean_of_the_weights_before_scaling_over_the_last_epoch(kind):
    """The factor of a loss in the objective is its weight over k."""
    weighting = rule(kind)
    assert weighting.diagnostics() == {"common_factor": 1.0}
    for scale in (1.0, 2.0):  # the second epoch alone counts
        given = [factors(weighting, scale * losses) for losses in (LOSSES, 3 * LOSSES.flip(0), LOSSES.square())]
        expected = float(torch.stack(given).sum(1).mean())
        assert weighting.diagnostics() == {"common_factor": pytest.approx(expected)}
        weighting.after_epoch(1, None)
        assert weighting.diagnostics() == {"common_factor": pytest.approx(expected)}
    again = rule(kind)
    again.load_state_dict(weighting.state_dict())
    assert again.diagnostics() == weighting.diagnostics()
    assert kind != "gls" or abs(expected - 1) > 0.1
