"""Modules are created without random numbers; other threads are not affected."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from models.networks.skip_init import SkipInit

MAKERS = [
    lambda: nn.Linear(4, 3),
    lambda: nn.Embedding(5, 3, padding_idx=0),
    lambda: nn.LSTM(4, 3),
    lambda: nn.Conv1d(4, 3, 2),
    lambda: nn.init.trunc_normal_(torch.empty(50)),
]


def test_nothing_is_drawn_and_every_module_gets_the_same_values():
    before = torch.get_rng_state()
    for make in MAKERS:
        with SkipInit():
            made = [make(), make()]
        one, other = (list(m.parameters()) if isinstance(m, nn.Module) else [m] for m in made)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(before, torch.get_rng_state())


def test_constants_are_set_as_usual():
    with SkipInit():
        norm = nn.LayerNorm(3)
    assert norm.weight.tolist() == [1, 1, 1]


def test_other_threads_draw_as_usual():
    with SkipInit(), ThreadPoolExecutor(1) as thread:
        drawn = thread.submit(lambda: torch.zeros(9).uniform_(1, 2, generator=torch.Generator())).result()
    assert float(drawn.min()) >= 1
