"""How long a training will take: a few of its steps, made and timed."""

import statistics
import time
from typing import Literal

import torch

from models.data.image_batches import Examples, steps_per_epoch
from models.networks.multitask import MultiTaskNetwork
from models.training.image_step import Batch, Step
from models.training.image_training import TrainingSettings
from models.weighting.base import Weighting

_WARM, _TIMED = 2, 5  # steps
_FORWARD = 1 / 3  # of a step, per image: what validation costs


def seconds_of_an_epoch(
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    validation_images: int,
    settings: TrainingSettings,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> float:
    """About how long an epoch takes, by the median of five steps; they change the network.

    Left out are augmentation, reading images that do not fit the memory, what the weighting does between epochs, and
    the time to compile.

    Raises:
        SettingError: there is no such device, or the rule cannot make the step as the settings want it.
    """
    step = Step(network, weighting, settings, device)
    network.train()
    rows = torch.arange(min(len(train), settings.batch_size))
    batch = Batch(train.pixels[rows].to(step.device), train.targets[rows].to(step.device))
    times = []
    for _ in range(_WARM + _TIMED):
        begun = time.perf_counter()
        step(batch)
        if step.device.type == "cuda":
            torch.cuda.synchronize(step.device)
        times.append(time.perf_counter() - begun)
    steps = steps_per_epoch(len(train), settings.batch_size)
    return statistics.median(times[_WARM:]) * (steps + _FORWARD * validation_images / len(rows))
