"""Training on images, by the loop in `models.training.loop`: settings, images and their batches, processes, prediction.

It runs on Lightning Fabric (device, precision, processes) and uses the weighting by its interface only. No random
number generator is used: order and augmentation are counter-based (`models.randomness`).

Shapes: n images, b images of a batch, s x s pixels, d features, k tasks.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from models.augmentation.draws import Draw
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.data.image_batches import Examples, StoredPixels, epoch_batches, steps_per_epoch
from models.data.placement import ImageCache, MemoryBudget, in_place
from models.errors import SettingError
from models.evaluation.auc import auc_per_label
from models.evaluation.leakage import check_disjoint
from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.randomness import random_subset
from models.training.distributed import SINGLE_PROCESS, Processes, Send, spawn
from models.training.fabric import Device, check_device
from models.training.image_step import INFERENCE_BATCH, Step, StepSettings, inference_batch_size
from models.training.loop import Clock, EpochReport, Fitted, OnEpoch, Progress, Trainer, evaluation_mode, untimed
from models.training.selection import Candidates, Selection
from models.weighting.base import FeatureBatch, FeaturePass, RuleSettings, SampleSize, Weighting

MIN_SAMPLE_SIZE = 512
"""Least number of images where a `models.weighting.base.SampleSize` is a share, if the set has so many."""

_NO_AUGMENTATION = dict.fromkeys(("flip", "rotation", "shift", "scale", "brightness", "contrast"), 0.0)
"""A setting before there were policies. It stays in hashes and checkpoints, so that finished arms stay finished."""


class TrainingSettings(StepSettings):
    """Settings of a training on images. The defaults are conv4's recipe; see `models.training.recipes`."""

    decay: ClassVar[Literal["cosine"]] = "cosine"  # of the learning rate after the warm-up

    epochs: int = Field(8, ge=1, le=100_000, description="passes over the training images")
    batch_size: int = Field(
        32, ge=1, le=1_000_000, description="largest number of images per step, on all devices together"
    )
    warmup: float = Field(
        0.3,
        ge=0,
        le=1,
        description="share of all steps during which the learning rate rises linearly; then it falls as a half cosine",
    )
    devices: int = Field(
        1,
        ge=1,
        le=1024,
        description="number of processes that train one network, each on its own GPU (on a CPU: with a share of its "
        "threads). Each takes a share of every batch; batch normalisation sees only that share",
    )
    device_memory: float | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="GiB of each device's memory that images may use; none: half of the free memory. "
        "Images that do not fit are copied to the device before each step",
    )
    main_memory: float | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="GiB of main memory that images may use; none: half of the free memory. "
        "Images that do not fit are read from the store's files",
    )

    def determining(self) -> dict[str, Any]:
        """Return the settings on which the results depend, as plain values: all but those of memory."""
        settings = self.model_dump(mode="json", exclude={"device_memory", "main_memory"})
        return settings | {"augmentation": _NO_AUGMENTATION}


@dataclass(frozen=True)
class ImageEpochReport(EpochReport):
    """The record of one epoch. Tuples are in the order of the labels."""

    losses: tuple[float, ...]  # mean training loss of each task over the batches with known labels of it, nats
    val_scores: tuple[float, ...]  # by the metric of `fit`; nan where a label cannot be scored
    weights: tuple[float, ...]  # of the tasks in the last step, sum k
    weighting_seconds: float  # of the weighting's work after the epoch
    drawn: tuple[int, ...] = ()  # candidates with each operation of `NAMES`, where candidates were selected
    chosen: tuple[int, ...] = ()  # the same of the selected candidates


@dataclass(frozen=True)
class ImageFitted(Fitted[ImageEpochReport]):
    """The result, with facts about the steps."""

    compilation: str  # whether the steps were compiled, and why
    placement: str  # where the training images were kept: device, main memory or store
    start_seconds: float = 0.0  # of the weighting's work before training


class ValidationMetric(NamedTuple):
    """What validation is scored by.

    Attributes:
        values: (n, k) targets, integers, and (n, k) probabilities, or (n, c) of c classes -> (k,) scores, nan where a
            label cannot be scored. With several devices it must be picklable, as a function of a module is.
        higher_is_better: whether the best epoch has the highest mean score, or the lowest.
    """

    values: Callable[[NDArray, NDArray], NDArray]
    higher_is_better: bool = True


def _accuracy(targets: NDArray, probabilities: NDArray) -> NDArray[np.float64]:
    known = targets[:, 0] >= 0
    if not known.any():
        return np.array([np.nan])
    return np.array([np.mean(probabilities[known].argmax(1) == targets[known, 0])])


AUC = ValidationMetric(auc_per_label)
ACCURACY = ValidationMetric(_accuracy)
"""The share of images whose most probable class is the right one; for one label of several classes."""


class _Inputs(NamedTuple):
    """The arguments of `fit` that every process needs."""

    network: MultiTaskNetwork
    weighting: Weighting
    train: Examples
    val: Examples
    settings: TrainingSettings
    policy: PolicySettings
    seed: int
    device: Device
    metric: ValidationMetric


def fit(  # noqa: PLR0913  what is trained by position, the rest by keyword
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    val: Examples,
    settings: TrainingSettings,
    *,
    seed: int,
    policy: PolicySettings = NO_POLICY,
    device: Device = "auto",
    metric: ValidationMetric = AUC,
    state: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch[ImageEpochReport] = lambda report, state: None,
    progress: Progress = lambda done, total: None,
    clock: Clock = untimed,
) -> ImageFitted:
    """Train the network in place; it ends with the weights of the best epoch and records its training patients.

    With several devices, one new process per device trains the network; `on_epoch` and `progress` are still called in
    this process. The new processes import the same program, so a training script needs `if __name__ == "__main__"`.
    The losses are those of one device, up to rounding, for networks without batch normalisation.

    Args:
        network: as `initial_network` makes it; if `state` is given, its weights are replaced.
        weighting: as `make_weighting` makes it, for as many tasks as the targets have columns.
        train: training images.
        val: validation images, by which the best epoch is selected.
        settings: of the training.
        seed: of order and augmentation, at least 0.
        policy: how the training images are augmented.
        device: `auto` is a GPU if there is one.
        metric: of the validation; the epoch with the best mean over the labels that have a score is selected, or the
            last one if no label has.
        state: the last state that `on_epoch` received, to resume from.
        on_epoch: called after every epoch.
        progress: called after every step.
        clock: times the parts of training, on one device only.

    Returns:
        The best epoch's weights and the reports of all epochs.

    Raises:
        SettingError: a patient is in both sets, the state belongs to other settings, the weighting would never act or
            cannot work with a split batch, or there are too few devices or images.
        DivergenceError: a loss or an output of the network is not finite.
    """
    check_disjoint(train.patients, val.patients)
    check_training(weighting.settings, settings, network.settings)
    check_devices(settings, device)
    check_shares(settings, len(train))
    inputs = _Inputs(network, weighting, train, val, settings, policy, seed, device, metric)
    if settings.devices == 1:
        return _ImageTrainer(inputs, SINGLE_PROCESS).fit_images(state, on_epoch, progress, clock)
    if clock is not untimed:
        raise SettingError(f"a step is timed on one device only, not on devices: {settings.devices}; set devices: 1")

    def on_message(message: tuple[str, tuple[Any, ...]]) -> None:
        kind, arguments = message
        (on_epoch if kind == "epoch" else progress)(*arguments)

    fitted, weighting_state = spawn(_fit_in_process, (inputs, state), count=settings.devices, on_message=on_message)
    network.load_state_dict(fitted.best_state)
    network.eval()
    _mark_trained(network, train)
    weighting.load_state_dict(weighting_state)
    return fitted


def _fit_in_process(
    processes: Processes, send: Send, inputs: _Inputs, state: Mapping[str, Any] | None
) -> tuple[ImageFitted, dict[str, Tensor]]:
    """Run this process's share of `fit`."""
    # the arguments are in memory that all processes share, and training changes these three
    network, weighting, state = deepcopy((inputs.network, inputs.weighting, state))
    trainer = _ImageTrainer(inputs._replace(network=network, weighting=weighting), processes)
    fitted = trainer.fit_images(state, lambda *report: send(("epoch", report)), lambda *s: send(("progress", s)))
    return fitted, weighting.state_dict()


def _mark_trained(network: MultiTaskNetwork, train: Examples) -> None:
    network.trained_on = tuple(sorted({*network.trained_on, *train.patients}))


def check_training(method: RuleSettings, settings: TrainingSettings, network: NetworkSettings) -> None:
    """Check what the settings alone say: that a weighting can work and will take effect.

    Raises:
        SettingError: it cannot, or no epoch would use its weights.
    """
    splits_batch = settings.micro_batch is not None or settings.devices > 1
    method.check(settings.epochs, pretrained=network.pretrained, splits_batch=splits_batch)


def check_devices(settings: TrainingSettings, device: Device) -> None:
    """Check that the devices of a training are here, and raise SettingError otherwise."""
    check_device(device)
    gpus = torch.cuda.device_count()
    if device != "cpu" and 0 < gpus < settings.devices:
        raise SettingError(
            f"devices: {settings.devices} are asked for, but PyTorch finds {gpus} GPU(s) here: set devices to {gpus}"
        )


def check_shares(settings: TrainingSettings, n: int) -> None:
    """Check that each device gets a share of every batch of n images, and raise SettingError otherwise."""
    smallest = n // steps_per_epoch(n, settings.batch_size)
    if smallest < settings.devices:
        raise SettingError(
            f"a batch of {smallest} images is too small for {settings.devices} devices: "
            "raise batch_size or lower devices"
        )


def predict(network: MultiTaskNetwork, pixels: Tensor | StoredPixels, *, batch_size: int = INFERENCE_BATCH) -> Tensor:
    """Predict probabilities in evaluation mode and float32, on the network's device.

    Args:
        network: trained or not; its mode does not change.
        pixels: (n, 1, s, s) uint8, on any device or in a store.
        batch_size: images per forward pass.

    Returns:
        (n, k) float32 in [0, 1], or (n, c) of c classes, on the CPU.
    """
    return _probabilities(network, in_place(pixels, network.mean.device), SINGLE_PROCESS, batch_size)


def _probabilities(
    network: MultiTaskNetwork, images: ImageCache, processes: Processes, batch_size: int | None = None
) -> Tensor:
    n, batch_size = len(images.pixels), batch_size or inference_batch_size(images.device)
    own = processes.share(torch.arange(n, device=images.index_device))
    with evaluation_mode(network):
        parts = [network.probabilities(network(pixels)) for _, pixels in images.stream(own.split(batch_size))]
        return processes.all_gather(torch.cat(parts), n).cpu()


def feature_pass(network: MultiTaskNetwork, data: Examples, seed: int) -> FeaturePass:
    """Return the pass of a finished network over images, for `Weighting.start`.

    Args:
        network: trained; on its device, in float32.
        data: the images.
        seed: of the sample, if the rule asks for one.
    """
    return lambda size: features_of(network, data, sampled_rows(len(data), size, seed))


def features_of(network: MultiTaskNetwork, data: Examples, rows: Tensor, number: int = 0) -> Iterator[FeatureBatch]:
    """Yield a network's features of the images of `rows`, on its device; `number` is that of the network."""
    with evaluation_mode(network):
        for batch in rows.split(inference_batch_size(network.mean.device)):
            features = network.features(data.pixels[batch].to(network.mean.device))
            targets, patients = (values[batch].to(features.device) for values in (data.targets, data.patient_numbers))
            yield FeatureBatch(features, targets, patients, torch.full_like(patients, number))


def sampled_rows(n: int, size: SampleSize, seed: int) -> Tensor:
    """Return the rows of a seeded sample of n images, ascending."""
    if isinstance(size, float):
        size = max(MIN_SAMPLE_SIZE, round(size * n))
    return torch.arange(n) if size is None else random_subset(seed, "feature pass", n, size)


class _ImageTrainer(Trainer[ImageEpochReport]):
    """One training in one process: its step, its images and its state."""

    report_type = ImageEpochReport
    remedy = "lower learning_rate, lengthen warmup, or set precision to 32"
    network: MultiTaskNetwork
    settings: TrainingSettings
    step: Step

    def __init__(self, inputs: _Inputs, processes: Processes) -> None:
        self.network, self.weighting, train, val, self.settings, self.policy, self.seed, device, self.metric = inputs
        self.step = Step(self.network, self.weighting, self.settings, device, processes)
        self.processes, self.higher_is_better = processes, self.metric.higher_is_better
        _mark_trained(self.network, train)
        memory = MemoryBudget(self.step.device, self.settings.device_memory, self.settings.main_memory, processes.count)
        self.images, self.val_images = memory.place(train.pixels), memory.place(val.pixels)
        self.targets, self.val_targets = (data.targets.to(self.step.device) for data in (train, val))
        self.patients, self.val_patients = (data.patient_numbers.to(self.step.device) for data in (train, val))
        self.epoch_steps = steps_per_epoch(len(train), self.settings.batch_size)
        self.total_steps = self.settings.epochs * self.epoch_steps
        self.selection = Selection(
            self.step, self.policy, self.weighting, seed=self.seed, steps=self.total_steps, n=len(train)
        )

    @property
    def evaluated(self) -> MultiTaskNetwork:
        """See the base class."""
        return self.step.evaluated

    def fit_images(self, *how: Any) -> ImageFitted:
        """Train all epochs that are left, as `fit` does."""
        return ImageFitted(**vars(self.fit(*how)), compilation=self.step.compilation, placement=self.images.place)

    def begin(self, epochs: int, *, resumed: bool) -> None:
        """Compile the step, and let the weighting look at the images of a fresh run."""
        if epochs:
            self.network.train()
            first = next(self._candidates(epoch=1))
            trial = first.pixels[: len(first.samples) * self.policy.trained]
            self.step.compile_if_faster(trial, epochs * self.epoch_steps)
        if not resumed:
            self._refresh_weights(0)

    def train(self, epoch: int) -> tuple[int, dict[str, Any]]:
        """Train one epoch."""
        candidates = self._candidates(epoch)
        self.selection.begin_epoch(epoch)

        def make_step(number: int) -> tuple[Tensor, Tensor]:
            with self.clock("input"):
                of_step = next(candidates)
            with self.clock("selection"):
                batch = self.selection(of_step, number)
            self.step.set_learning_rate(self.learning_rate)
            return self.step(batch, self.clock)

        made = self.make_steps(range((epoch - 1) * self.epoch_steps, epoch * self.epoch_steps), make_step)
        losses = self.read_losses([losses for losses, _ in made], epoch)
        present = torch.stack([present for _, present in made]).cpu()
        for buffer in (*self.network.buffers(), *self.evaluated.buffers()):
            self.processes.broadcast(buffer)
        fields = {"losses": tuple((losses.sum(0) / present.sum(0)).tolist())}
        return len(self.targets), fields | self.selection.counts()

    def validate(self, epoch: int) -> tuple[tuple[float, ...], float]:
        """Score each label on the validation images; the same in every process."""
        probabilities = _probabilities(self.evaluated, self.val_images, self.processes)
        self.check_outputs(probabilities, epoch)
        scores = self.metric.values(self.val_targets.cpu().numpy(), probabilities.numpy())
        known = scores[~np.isnan(scores)]
        return tuple(scores.tolist()), float(known.mean()) if len(known) else float("nan")

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """Let the weighting react to the epoch."""
        start, weights = time.perf_counter(), self.weighting.weights()
        with self.clock("weighting"):
            self._refresh_weights(epoch)
        return {"weights": tuple(weights.tolist()), "weighting_seconds": time.perf_counter() - start}

    def _candidates(self, epoch: int) -> Iterator[Candidates]:
        """Yield the augmented candidates of this process's share of each batch of an epoch."""
        size, first = self.settings.batch_size, (epoch - 1) * self.epoch_steps
        batches = epoch_batches(len(self.targets), size, seed=self.seed, epoch=epoch)
        draws: deque[Draw | None] = deque()

        def wanted() -> Iterator[Tensor]:
            for number, rows in enumerate(batches, first):
                samples = self.processes.share(rows)
                drawn = self.selection.draw(samples, epoch, number)
                draws.append(drawn)
                all_rows = samples if drawn is None else torch.cat((samples, drawn.partner_rows))
                yield all_rows.to(self.images.index_device, non_blocking=True)

        for rows, pixels in self.images.stream(wanted()):
            yield self.selection.augment(draws.popleft(), pixels, self.targets[rows], rows)

    def _refresh_weights(self, epoch: int) -> None:
        self.weighting.after_epoch(
            epoch,
            partial(self._feature_pass, self.images, self.targets, self.patients),
            partial(self._feature_pass, self.val_images, self.val_targets, self.val_patients),
        )

    def _feature_pass(
        self, images: ImageCache, targets: Tensor, patients: Tensor, size: SampleSize
    ) -> Iterator[FeatureBatch]:
        """Yield features of images (of `size`, a seeded sample), not augmented, in the steps' precision."""
        chosen = sampled_rows(len(targets), size, self.seed)
        count = steps_per_epoch(len(chosen), inference_batch_size(self.step.device) * self.processes.count)
        batches = chosen.to(images.index_device).tensor_split(count)  # of nearly equal size: every process has a share
        shares = images.stream([self.processes.share(batch) for batch in batches])
        with evaluation_mode(self.evaluated):
            for batch, (_, pixels) in zip(batches, shares, strict=True):
                features = self.processes.all_gather(self.step.features(pixels), len(batch))
                rows = batch.to(self.step.device)
                yield FeatureBatch(features, targets[rows], patients[rows], torch.zeros_like(rows))

    def determinants(self) -> dict[str, Any]:
        """Return all that the results depend on; a state is only resumed if it agrees."""
        return {
            "seed": self.seed,
            "training": self.settings.determining(),
            "network": self.network.settings.model_dump(mode="json"),
            "weighting": self.weighting.settings.model_dump(mode="json"),
            "labels": list(self.network.labels),
            "number of images": len(self.targets),
            # a checkpoint of before there were policies has none
            **({} if self.policy == NO_POLICY else {"policy": self.policy.model_dump(mode="json")}),
        }
