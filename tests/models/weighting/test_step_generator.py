from concurrent.futures import ThreadPoolExecutor

import torch

from models.weighting.step_generator import step_generator

CPU = torch.device("cpu")


def draw(seed=0, purpose="a", step=0):
    with step_generator(seed, purpose, step, CPU):
        return torch.rand(4)


def test_random_numbers_depend_only_on_seed_purpose_and_step():
    assert torch.equal(draw(), draw())
    others = [draw(seed=1), draw(purpose="b"), draw(step=1)]
    assert not any(torch.equal(draw(), other) for other in others)


def test_the_global_generator_is_restored():
    before = torch.get_rng_state()
    draw()
    assert torch.equal(before, torch.get_rng_state())


def test_parallel_threads_draw_the_same_numbers_as_single_ones():
    def drawn(seed):
        found = []
        for step in range(200):
            with step_generator(seed, "a", step, CPU):
                found.append(torch.cat([torch.rand(1) for _ in range(5)]))
        return torch.stack(found)

    sequential = [drawn(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        parallel = list(threads.map(drawn, range(4)))
    assert all(torch.equal(one, other) for one, other in zip(sequential, parallel, strict=True))
