"""Initial weights: those that a fork of the global generator would give, which no thread touches."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import models.networks.conv4  # noqa: F401  registers conv4
from models.networks.seeded_init import SeededInit

SEED = 2**64 - 5  # all 64 bits count

MAKERS: list[Callable[[], Any]] = [
    lambda: nn.Linear(4, 3),
    lambda: nn.Embedding(5, 3, padding_idx=0),
    lambda: nn.LSTM(4, 3),
    lambda: nn.Conv1d(4, 3, 2),
    lambda: nn.MultiheadAttention(4, 2),
    lambda: nn.init.trunc_normal_(torch.empty(50)),
]
DRAWS: list[Callable[[], Tensor]] = [
    lambda: nn.init.xavier_normal_(torch.empty(9, 5)),
    lambda: nn.init.kaiming_uniform_(torch.empty(9, 5)),
    lambda: nn.init.orthogonal_(torch.empty(9, 5)),
    lambda: nn.init.sparse_(torch.empty(9, 5), 0.5),
    lambda: torch.zeros(40).bernoulli_(0.4),
    lambda: torch.bernoulli(torch.full((40,), 0.4)),
    lambda: torch.zeros(40).exponential_(),
    lambda: torch.zeros(40).random_(0, 1000),
    lambda: torch.normal(0.0, torch.ones(40)),
    lambda: torch.ones(40).multinomial(9),
    lambda: torch.cat(
        [torch.rand(9), torch.randn(9), torch.rand_like(torch.zeros(9)), torch.randn_like(torch.ones(9))]
    ),
    lambda: torch.cat([torch.randint(99, (9,)), torch.randperm(40)]),
]


def timm_model(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, in_chans=1, num_classes=0)


def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return transformers.AutoModel.from_config(transformers.BertConfig(vocab_size=40, **sizes))


def tensors(made: Any) -> list[Tensor]:
    return [made] if isinstance(made, Tensor) else list(made.state_dict().values())


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def seeded(make: Callable[[], Any], seed: int | None = SEED) -> Any:
    with SeededInit(seed):
        return make()


BACKBONES = [
    "conv4", "resnet18", "densenet121", "vit_tiny_patch16_224", "efficientnet_lite0", "mobilenetv3_small_050",
    "test_vit", "swin_tiny_patch4_window7_224",
]  # fmt: skip


@pytest.mark.parametrize("make", [*map(timm_model, BACKBONES), bert, *MAKERS, *DRAWS])
def test_the_bits_are_those_of_a_fork_and_the_global_generator_is_untouched(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        forked = make()
    before = torch.get_rng_state()
    assert same(seeded(make), forked)
    assert torch.equal(before, torch.get_rng_state())


def test_each_block_begins_its_stream_anew():
    first, again, other = (seeded(lambda: nn.Linear(4, 3), seed) for seed in (1, 1, 2))
    assert same(first, again)
    assert not same(first, other)


def test_threads_that_create_networks_together_get_what_each_gets_alone():
    make = timm_model("resnet18")
    alone = [seeded(make, seed) for seed in range(4)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: seeded(make, seed), range(4)))
    assert all(map(same, together, alone))
    assert torch.equal(before, torch.get_rng_state())


def test_a_generator_of_ones_own_stays_in_use():
    def draw() -> Tensor:
        return nn.init.uniform_(torch.empty(9), generator=torch.Generator().manual_seed(3))

    assert same(seeded(draw), draw())


@pytest.mark.parametrize("make", MAKERS)
def test_without_a_seed_weights_are_constant_and_nothing_is_drawn(make):
    before = torch.get_rng_state()
    assert same(seeded(make, None), seeded(make, None))
    assert torch.equal(before, torch.get_rng_state())
    assert seeded(lambda: nn.LayerNorm(3), None).weight.tolist() == [1, 1, 1]


@pytest.mark.parametrize("seed", [0, None])
def test_other_threads_draw_as_usual(seed):
    with SeededInit(seed), ThreadPoolExecutor(1) as thread:
        drawn = thread.submit(lambda: torch.zeros(9).uniform_(1, 2, generator=torch.Generator())).result()
    assert torch.equal(drawn, torch.zeros(9).uniform_(1, 2, generator=torch.Generator()))
