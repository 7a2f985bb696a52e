"""A step on texts of one task moves what that task uses, and nothing else."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.data.text_batches import text_examples
from models.errors import SettingError
from models.networks.text import TextNetworkSettings, initial_text_network
from models.networks.word_encoders import LstmSettings
from models.training.text_step import TextStep, TextStepSettings, frozen


def network(dropout=0.0):
    settings = TextNetworkSettings(encoder=LstmSettings(dimension=8, width=6, dropout=dropout), alignment="free")
    return initial_text_network(settings, {"a": 2, "b": 3}, seed=0, words=40).train()


def batch(n=9):
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *rng.integers(1, 8, n)])
    return text_examples(rng.integers(1, 40, offsets[-1]), offsets, rng.integers(0, 2, n)).batch(torch.arange(n))


def make_step(model, **changed):
    return TextStep(model, TextStepSettings(**changed), "cpu")


def test_it_returns_the_mean_loss_before_it_moved():
    model = network()
    expected = cross_entropy(model("a", batch()), batch().targets).detach()
    step = make_step(model)
    torch.testing.assert_close(step("a", batch(), 1e-3, seed=0, number=0), expected)
    assert step("a", batch(), 1e-3, seed=0, number=1) < expected


def test_another_tasks_own_parameters_stay_to_the_bit_whatever_their_momentum_and_decay():
    model = network()
    step = make_step(model, weight_decay=0.1)
    step("b", batch(), 1e-2, seed=0, number=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    step("a", batch(), 1e-2, seed=0, number=1)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(before[name], value)}
    assert {name for name in changed if "task" in name} == {name for name in before if "task a" in name}
    assert {name.split(".")[0] for name in changed} == {"_own_words", "encoder", "alignments", "heads"}


@pytest.mark.parametrize("size", [1, 4, 9, 100])
def test_micro_batches_sum_up_to_the_batchs_gradient(size):
    models = [network(), network()]
    losses = [
        make_step(model, micro_batch=part)("a", batch(), 1e-2, seed=0, number=0)
        for model, part in zip(models, (None, size), strict=True)
    ]
    torch.testing.assert_close(*losses)
    gradients = [[p.grad.to_dense() for p in model.parameters() if p.grad is not None] for model in models]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_each_micro_batch_draws_dropout_of_its_own():
    model = network(dropout=0.5)
    seeds = []
    begin = model.mask_source.begin_step
    model.mask_source.begin_step = lambda *place: (seeds.append(place), begin(*place))
    make_step(model, micro_batch=3)("a", batch(), 1e-2, seed=5, number=7)
    assert seeds == [(5, 7, 0), (5, 7, 1), (5, 7, 2)]


@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_the_gradient_of_all_parameters_together_is_clipped(clip):
    free, clipped = network(), network()
    make_step(free)("a", batch(), 1e-2, seed=0, number=0)
    make_step(clipped, clip=clip)("a", batch(), 1e-2, seed=0, number=0)
    norms = [
        torch.stack([p.grad.to_dense().square().sum() for p in model.parameters() if p.grad is not None]).sum().sqrt()
        for model in (free, clipped)
    ]
    assert float(norms[1]) == pytest.approx(min(clip, float(norms[0])), rel=1e-3)


def test_what_stands_still_is_passed_by_and_moves_again_afterwards():
    model = network()
    step = make_step(model, weight_decay=0.1)
    held = model.alignment_parameters()
    held[0].requires_grad_(False)
    before = [p.clone() for p in held]
    with frozen(held):
        step("b", batch(), 1e-2, seed=0, number=0)
    assert all(torch.equal(old, new) for old, new in zip(before, held, strict=True))
    assert [p.requires_grad for p in held] == [False, True]


def test_layers_of_a_word_encoder_are_not_computed_again():
    with pytest.raises(SettingError, match="needs a pretrained encoder"):
        make_step(network(), gradient_checkpointing=True)
