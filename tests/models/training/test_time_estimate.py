"""How long a training will take, said from a few of its steps."""

from itertools import count

import pytest
import torch

from models.data.image_batches import examples
from models.networks.multitask import NetworkSettings, initial_network
from models.training import time_estimate
from models.training.image_training import TrainingSettings
from models.training.time_estimate import estimate_epoch_seconds
from models.weighting.registry import Uniform, UniformSettings


@pytest.mark.parametrize(("n", "steps"), [(40, 5), (41, 6), (5, 1)])
def test_an_epoch_takes_its_steps_and_a_third_of_one_for_every_batch_to_validate(monkeypatch, n, steps):
    clock = count()  # a second passes whenever it is looked at: every step takes one
    monkeypatch.setattr(time_estimate.time, "perf_counter", lambda: next(clock))
    pixels = torch.arange(n * 256, dtype=torch.uint8).reshape(n, 16, 16)
    train = examples(pixels, torch.ones(n, 2, dtype=torch.int8), [str(i) for i in range(n)])
    network = initial_network(NetworkSettings(), ("a", "b"), train.pixels[:, 0], seed=0)
    settings = TrainingSettings(batch_size=8)
    rule = Uniform(UniformSettings(), 2)
    assert estimate_epoch_seconds(network, rule, train, 0, settings, device="cpu") == steps
    validated = 3 * 10 * min(n, 8)
    assert estimate_epoch_seconds(network, rule, train, validated, settings, device="cpu") == pytest.approx(steps + 10)
