"""Dropout masks are functions of seed, step, micro-batch and layer, and use no shared generator."""

import pytest
import torch

from models.networks.dropout import MaskSource, SeededDropout

ONES = torch.ones(200, 50)


def mask(seed=0, step=0, micro_batch=0, layer=0, p=0.3):
    mask_source = MaskSource()
    mask_source.begin_step(seed, step, micro_batch)
    return SeededDropout(p, layer, mask_source)(ONES)


def test_a_mask_is_a_function_of_seed_step_micro_batch_and_layer():
    assert torch.equal(mask(), mask())
    others = [mask(seed=1), mask(step=1), mask(micro_batch=1), mask(layer=1)]
    for i, one in enumerate(others):
        assert not torch.equal(one, mask())
        assert not any(torch.equal(one, other) for other in others[:i])


def test_a_layer_that_runs_again_in_a_step_draws_the_same():
    """Gradient checkpointing runs it again."""
    mask_source = MaskSource()
    layer, other = SeededDropout(0.3, 0, mask_source), SeededDropout(0.3, 1, mask_source)
    mask_source.begin_step(0, 7)
    first = layer(ONES)
    other(ONES)
    assert torch.equal(layer(ONES), first)


def test_it_drops_its_share_and_keeps_the_mean():
    found = mask(p=0.3)
    assert float((found == 0).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert float(found.max()) == pytest.approx(1 / 0.7)


def test_nothing_is_dropped_in_evaluation_or_with_probability_zero():
    layer = SeededDropout(0.5, 0, MaskSource())
    assert torch.equal(layer.eval()(ONES), ONES)
    assert torch.equal(SeededDropout(0.0, 0, MaskSource())(ONES), ONES)


def test_the_global_generator_does_not_change():
    before = torch.get_rng_state()
    mask()
    assert torch.equal(before, torch.get_rng_state())


def test_training_before_any_step_is_an_error():
    with pytest.raises(RuntimeError, match="begin"):
        SeededDropout(0.5, 0, MaskSource())(ONES)
