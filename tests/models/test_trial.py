"""How long a training will take, said from a few of its steps."""

import time

import pytest
import torch

from models.batches import examples
from models.networks import NetworkSettings, initial_network
from models.training import TrainingSettings
from models.trial import seconds_of_an_epoch
from models.weighting import Uniform, UniformSettings

PAUSE = 0.05


class Slow(Uniform):
    """A rule whose steps take at least PAUSE seconds."""

    def after_step(self, losses):
        time.sleep(PAUSE)


@pytest.mark.parametrize(("n", "steps"), [(40, 5), (41, 6), (5, 1)])
def test_an_epoch_takes_as_many_steps_as_it_has_and_a_third_of_one_for_every_batch_to_validate(n, steps):
    pixels = torch.arange(n * 256, dtype=torch.uint8).reshape(n, 16, 16)
    train = examples(pixels, torch.ones(n, 2, dtype=torch.int8), [str(i) for i in range(n)])
    network = initial_network(NetworkSettings(), ("a", "b"), train.pixels[:, 0], seed=0)
    settings = TrainingSettings(batch_size=8)
    rule = Slow(UniformSettings(), 2)
    without = seconds_of_an_epoch(network, rule, train, 0, settings, device="cpu")
    with_validation = seconds_of_an_epoch(network, rule, train, 3 * 10 * min(n, 8), settings, device="cpu")
    assert PAUSE * steps < without < 4 * PAUSE * steps
    assert PAUSE * (steps + 10) < with_validation < 4 * PAUSE * (steps + 10)
