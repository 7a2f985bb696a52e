"""Estimate of a training's duration from a few timed steps."""

import statistics
import time
from typing import Literal

import torch

from models.data.image_batches import Examples, steps_per_epoch
from models.networks.multitask import MultiTaskNetwork
from models.training.image_step import Batch, Step
from models.training.image_training import TrainingSettings
from models.weighting.base import Weighting

_WARM_UP, _TIMED = 2, 5  # steps
_VALIDATION_COST = 1 / 3  # of a training step, per image: the forward pass


def estimate_epoch_seconds(
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    validation_images: int,
    settings: TrainingSettings,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> float:
    """Estimate the duration of an epoch from the median of five training steps, which change the network.

    The estimate leaves out augmentation, reading images that do not fit into memory, the weighting's work between
    epochs, and compilation.

    Args:
        network: to train.
        weighting: of its tasks.
        train: training images.
        validation_images: number of images to validate after an epoch.
        settings: of the training.
        device: `auto` is a GPU if there is one.

    Returns:
        Seconds.

    Raises:
        SettingError: there is no such device, or the weighting cannot work with a split batch.
    """
    step = Step(network, weighting, settings, device)
    network.train()
    rows = torch.arange(min(len(train), settings.batch_size))
    batch = Batch(train.pixels[rows].to(step.device), train.targets[rows].to(step.device))
    times = []
    for _ in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        step(batch)
        if step.device.type == "cuda":
            torch.cuda.synchronize(step.device)
        times.append(time.perf_counter() - start)
    steps = steps_per_epoch(len(train), settings.batch_size)
    return statistics.median(times[_WARM_UP:]) * (steps + _VALIDATION_COST * validation_images / len(rows))
