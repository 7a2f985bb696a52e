import torch

from models.step_randomness import step_generator

CPU = torch.device("cpu")


def draw(seed=0, purpose="a", step=0):
    with step_generator(seed, purpose, step, CPU):
        return torch.rand(4)


def test_draws_follow_from_seed_purpose_and_step_alone():
    assert torch.equal(draw(), draw())
    others = [draw(seed=1), draw(purpose="b"), draw(step=1)]
    assert not any(torch.equal(draw(), other) for other in others)


def test_the_global_generator_is_as_it_was():
    before = torch.get_rng_state()
    draw()
    assert torch.equal(before, torch.get_rng_state())
