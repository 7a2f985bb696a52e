import pytest
import torch

import models.training.compilation
from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.training.compilation import compile_if_faster, preserve_buffers

PIXELS = torch.randint(0, 256, (8, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
ON_A_GPU = torch.empty(8, 1, 16, 16, device="meta")


@pytest.fixture
def network():
    return MultiTaskNetwork(NetworkSettings(), ("a", "b"), mean=128, std=60, size=16).train()


def autocast():
    return torch.autocast("cpu", enabled=False)


def test_a_cpu_is_left_alone_and_so_is_who_says_off(network, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    for wanted, pixels in (("auto", PIXELS), ("off", ON_A_GPU)):
        assert compile_if_faster(network, autocast, pixels, wanted, steps=10**9) == (network.features, "not compiled")


@pytest.mark.parametrize(("eager", "compiled", "kept"), [(3.0, 2.0, True), (2.0, 3.0, False)])
def test_the_faster_one_is_kept_and_the_note_says_by_how_much(network, monkeypatch, eager, compiled, kept):
    other = network.features.__func__
    monkeypatch.setattr(torch, "compile", lambda features, dynamic: other)
    monkeypatch.setattr(
        models.training.compilation, "_seconds", lambda _network, extract, *_: compiled if extract is other else eager
    )
    chosen, note = compile_if_faster(network, autocast, ON_A_GPU, "auto", steps=1000)
    assert (chosen is other) == kept
    assert f"{eager / compiled:.2f} times as fast" in note
    assert note.startswith("compiled" if kept else "not compiled")


def test_a_training_of_seconds_is_not_compiled(network, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    monkeypatch.setattr(models.training.compilation, "_seconds", lambda *_: 0.25)
    chosen, note = compile_if_faster(network, autocast, ON_A_GPU, "auto", steps=1000)
    assert chosen == network.features
    assert note == "not compiled: the steps take 250 s in all"


def test_what_cannot_be_compiled_runs_as_it_is_with_the_reason(network, monkeypatch):
    def broken(pixels):
        raise RuntimeError("no compiler here\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda features, dynamic: broken)
    chosen, note = compile_if_faster(network, autocast, PIXELS, "on", steps=1)
    assert chosen == network.features
    assert note == "not compiled: RuntimeError: no compiler here"


def test_the_trial_goes_through_a_graph_as_often_as_the_steps_will(network, monkeypatch):
    class Once(torch.autograd.Function):
        """What a compiled graph may be: freed by the first pass."""

        @staticmethod
        def forward(ctx, x):
            ctx.passes = 0
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            ctx.passes += 1
            if ctx.passes > 1:
                raise RuntimeError("once only")
            return gradient

    eager = network.features
    monkeypatch.setattr(torch, "compile", lambda features, dynamic: lambda pixels: Once.apply(eager(pixels)))
    assert compile_if_faster(network, autocast, PIXELS, "on", steps=1).note == "compiled"
    note = compile_if_faster(network, autocast, PIXELS, "on", steps=1, repeatedly=True).note
    assert note == "not compiled: RuntimeError: once only"


def test_the_trial_leaves_the_network_as_it_was(network, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda features, dynamic: features)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random = torch.get_rng_state()
    assert compile_if_faster(network, autocast, PIXELS, "on", steps=1).note == "compiled"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())
    assert torch.equal(random, torch.get_rng_state())


def test_buffers_are_kept_even_when_something_fails(network):
    before = network.trunks[0].backbone.blocks[0][1].running_mean.clone()
    with pytest.raises(RuntimeError), preserve_buffers(network):
        network.classify(network.features(PIXELS)[:, 1:])
    assert torch.equal(before, network.trunks[0].backbone.blocks[0][1].running_mean)


@pytest.mark.slow
def test_compiled_features_are_the_same_up_to_rounding(network):
    extract, note = compile_if_faster(network, autocast, PIXELS, "on", steps=1)
    if note != "compiled":
        pytest.skip(f"nothing can be compiled here: {note}")
    torch.testing.assert_close(extract(PIXELS), network.features(PIXELS), rtol=1e-4, atol=1e-5)
