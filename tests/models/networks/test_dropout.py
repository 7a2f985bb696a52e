"""Masks belong to seed, step, part and place, and to nobody's generator."""

import pytest
import torch

from models.networks.dropout import Draws, SeededDropout

ONES = torch.ones(200, 50)


def mask(seed=0, step=0, part=0, place=0, p=0.3):
    draws = Draws()
    draws.begin(seed, step, part)
    return SeededDropout(p, place, draws)(ONES)


def test_a_mask_is_a_function_of_seed_step_part_and_place():
    assert torch.equal(mask(), mask())
    others = [mask(seed=1), mask(step=1), mask(part=1), mask(place=1)]
    for i, one in enumerate(others):
        assert not torch.equal(one, mask())
        assert not any(torch.equal(one, other) for other in others[:i])


def test_a_layer_that_runs_again_in_a_step_draws_the_same():
    """As gradient checkpointing makes it."""
    draws = Draws()
    layer, other = SeededDropout(0.3, 0, draws), SeededDropout(0.3, 1, draws)
    draws.begin(0, 7)
    first = layer(ONES)
    other(ONES)
    assert torch.equal(layer(ONES), first)


def test_it_leaves_out_its_share_and_keeps_the_mean():
    found = mask(p=0.3)
    assert float((found == 0).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.max()) == pytest.approx(1 / 0.7)


def test_it_lets_all_through_in_evaluation_and_at_zero():
    layer = SeededDropout(0.5, 0, Draws())
    assert torch.equal(layer.eval()(ONES), ONES)
    assert torch.equal(SeededDropout(0.0, 0, Draws())(ONES), ONES)


def test_the_global_generator_stays_where_it_is():
    before = torch.get_rng_state()
    mask()
    assert torch.equal(before, torch.get_rng_state())


def test_training_before_any_step_is_an_error():
    with pytest.raises(RuntimeError, match="begin"):
        SeededDropout(0.5, 0, Draws())(ONES)
