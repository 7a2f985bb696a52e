"""The training loop on images: epochs of weighted steps, validation after each, selection of the best epoch.

The loop runs on Lightning Fabric (device, precision, processes) and uses the weighting by its interface only. After
every epoch it gives its caller a state to resume from; on a CPU a resumed training gives the same bits as one without
a break. No random number generator is used: order and augmentation are counter-based (`models.randomness`).

Shapes: n images, b images of a batch, s x s pixels, d features, k tasks.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from models.data.augmentation import AugmentationSettings, augment
from models.data.image_batches import Examples, StoredPixels, epoch_batches, steps_per_epoch
from models.data.placement import ImageCache, MemoryBudget, in_place
from models.errors import DivergenceError, SettingError
from models.evaluation.auc import auc_per_label, mean_auc
from models.evaluation.leakage import check_disjoint
from models.networks.multitask import MultiTaskNetwork
from models.randomness import random_subset
from models.training.distributed import SINGLE_PROCESS, Processes, Send, spawn
from models.training.image_step import Batch, Clock, Step, StepSettings, untimed
from models.training.losses import known_labels
from models.training.network_state import check_resumable, copy_to_cpu, evaluation_mode
from models.weighting.base import SampleSize, Weighting

MIN_SAMPLE_SIZE = 512
"""Least number of images where a `models.weighting.base.SampleSize` is a share, if the set has so many."""

INFERENCE_BATCH, INFERENCE_BATCH_ON_GPU = 128, 512
"""Images per batch without gradients; float32 results depend on it by rounding only. On a CPU the feature maps of 256
images of 64 px do not fit into the cache: conv4 took 1.6 times as long per image as with 128 images."""


_REMEDY = "lower learning_rate, lengthen warmup, or set precision to 32"


class TrainingSettings(StepSettings):
    """Settings of a training on images."""

    epochs: int = Field(7, ge=1, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="largest number of images per step, on all devices together")
    warmup: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of all steps during which the learning rate rises linearly; then it falls as a half cosine",
    )
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="random changes to the training images"
    )
    devices: int = Field(
        1,
        ge=1,
        description="number of processes that train one network, each on its own GPU (on a CPU: with a share of its "
        "threads). Each takes a share of every batch; batch normalisation sees only that share",
    )
    device_memory: float | None = Field(
        None,
        ge=0,
        description="GiB of each device's memory that images may use; none: half of the free memory. "
        "Images that do not fit are copied to the device before each step",
    )
    main_memory: float | None = Field(
        None,
        ge=0,
        description="GiB of main memory that images may use; none: half of the free memory. "
        "Images that do not fit are read from the store's files",
    )

    def determining(self) -> dict[str, Any]:
        """Return the settings on which the results depend, as plain values: all but those of memory."""
        return self.model_dump(mode="json", exclude={"device_memory", "main_memory"})


@dataclass(frozen=True)
class EpochReport:
    """The record of one epoch. Tuples are in the order of the labels."""

    epoch: int  # counted from 1
    losses: tuple[float, ...]  # mean training loss of each task over the batches with known labels of it, nats
    val_auc: tuple[float, ...]  # in [0, 1]; nan if the validation set lacks a class
    val_mean_auc: float  # mean over the labels that can be scored
    weights: tuple[float, ...]  # of the tasks in the last step, sum k
    learning_rate: float  # of the last step
    seconds: float  # of the training steps
    images_per_second: float  # of the training steps
    validation_seconds: float
    weighting_seconds: float  # of the weighting's work after the epoch


@dataclass(frozen=True)
class Fitted:
    """The result: `best_state` is the state dict after `best_epoch`, the epoch with the best mean validation AUC."""

    best_epoch: int
    best_val_mean_auc: float
    best_state: dict[str, Tensor]
    history: tuple[EpochReport, ...]
    compilation: str  # whether the steps were compiled, and why
    placement: str  # where the training images were kept: device, main memory or store


OnEpoch = Callable[[EpochReport, dict[str, Any]], None]
"""Called after every epoch with its report and the state to resume from (plain values and tensors on the CPU)."""

Progress = Callable[[int, int], None]
"""Called after every step with the number of steps done and the total."""


class _Inputs(NamedTuple):
    """The arguments of `fit` that every process needs."""

    network: MultiTaskNetwork
    weighting: Weighting
    train: Examples
    val: Examples
    settings: TrainingSettings
    seed: int
    device: Literal["auto", "cpu", "cuda"]


def fit(  # noqa: PLR0913  what is trained by position, the rest by keyword
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    val: Examples,
    settings: TrainingSettings,
    *,
    seed: int,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    state: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch = lambda report, state: None,
    progress: Progress = lambda done, total: None,
    clock: Clock = untimed,
) -> Fitted:
    """Train the network in place; it ends with the weights of the best epoch and records its training patients.

    With several devices, one new process per device trains the network; `on_epoch` and `progress` are still called in
    this process. The new processes import the same program, so a training script needs `if __name__ == "__main__"`.
    The losses are those of one device, up to rounding, for networks without batch normalisation.

    Args:
        network: as `initial_network` makes it; if `state` is given, its weights are replaced.
        weighting: as `make_weighting` makes it, for as many tasks as the network has labels.
        train: training images.
        val: validation images, by which the best epoch is selected.
        settings: of the training.
        seed: of order and augmentation, at least 0.
        device: `auto` is a GPU if there is one.
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
    weighting.check(settings.epochs, network.settings.pretrained)
    inputs = _Inputs(network, weighting, train, val, settings, seed, device)
    if settings.devices == 1:
        return _Run(inputs, SINGLE_PROCESS).fit(state, on_epoch, progress, clock)
    if clock is not untimed:
        raise SettingError(f"a step is timed on one device only, not on devices: {settings.devices}; set devices: 1")
    _check_devices(len(train), settings, device)

    def on_message(message: tuple[str, tuple[Any, ...]]) -> None:
        kind, arguments = message
        (on_epoch if kind == "epoch" else progress)(*arguments)

    fitted, weighting_state = spawn(_fit_in_process, (inputs, state), count=settings.devices, on_message=on_message)
    _load_fitted(network, fitted, train)
    weighting.load_state_dict(weighting_state)
    return fitted


def _fit_in_process(
    processes: Processes, send: Send, inputs: _Inputs, state: Mapping[str, Any] | None
) -> tuple[Fitted, dict[str, Tensor]]:
    """Run this process's share of `fit`."""
    # the arguments are in memory that all processes share, and training changes these three
    network, weighting, state = deepcopy((inputs.network, inputs.weighting, state))
    run = _Run(inputs._replace(network=network, weighting=weighting), processes)
    fitted = run.fit(state, lambda *report: send(("epoch", report)), lambda *steps: send(("progress", steps)), untimed)
    return fitted, weighting.state_dict()


def _load_fitted(network: MultiTaskNetwork, fitted: Fitted, train: Examples) -> None:
    network.load_state_dict(fitted.best_state)
    network.trained_on = tuple(sorted({*network.trained_on, *train.patients}))
    network.eval()


def _check_devices(n: int, settings: TrainingSettings, device: str) -> None:
    gpus = torch.cuda.device_count()
    if device != "cpu" and 0 < gpus < settings.devices:
        raise SettingError(
            f"devices: {settings.devices} are asked for, but PyTorch finds {gpus} GPU(s) here: set devices to {gpus}"
        )
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
        (n, k) float32 in [0, 1], on the CPU.
    """
    return _probabilities(network, in_place(pixels, network.mean.device), SINGLE_PROCESS, batch_size)


def _inference_batch_size(device: torch.device) -> int:
    return INFERENCE_BATCH_ON_GPU if device.type == "cuda" else INFERENCE_BATCH


def _probabilities(
    network: MultiTaskNetwork, images: ImageCache, processes: Processes, batch_size: int | None = None
) -> Tensor:
    n, batch_size = len(images.pixels), batch_size or _inference_batch_size(images.device)
    own = processes.share(torch.arange(n, device=images.index_device))
    with evaluation_mode(network):
        parts = [torch.sigmoid(network(pixels)) for _, pixels in images.stream(own.split(batch_size))]
        return processes.all_gather(torch.cat(parts), n).cpu()


def learning_rate_at(step: int, total: int, settings: TrainingSettings) -> float:
    """Compute the learning rate of a step, counted from 0, of `total`: linear rise, then half a cosine to zero."""
    warmup = settings.warmup * total
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


class _Run:
    """One training in one process: its step, its images and its state."""

    def __init__(self, inputs: _Inputs, processes: Processes) -> None:
        network, weighting, train, val, settings, seed, device = inputs
        self.network, self.weighting, self.settings, self.seed = network, weighting, settings, seed
        self.step = Step(network, weighting, settings, device, processes)
        self.processes = processes
        network.trained_on = tuple(sorted({*network.trained_on, *train.patients}))
        memory = MemoryBudget(self.step.device, settings.device_memory, settings.main_memory, processes.count)
        self.images, self.val_images = memory.place(train.pixels), memory.place(val.pixels)
        self.targets, self.val_targets = (data.targets.to(self.step.device) for data in (train, val))

    def fit(self, state: Mapping[str, Any] | None, on_epoch: OnEpoch, progress: Progress, clock: Clock) -> Fitted:
        """Train all epochs that are left; see `models.training.image_training.fit`."""
        history = self.resume(state) if state is not None else []
        best = dict(state["best"]) if state is not None else {}
        if len(history) < self.settings.epochs:
            self._compile(self.settings.epochs - len(history))
        if state is None:
            self._refresh_weights(0)
        for epoch in range(len(history) + 1, self.settings.epochs + 1):
            report = self._epoch(epoch, progress, clock)
            history.append(report)
            # if no label can be scored, the last epoch is selected
            mean = report.val_mean_auc
            if not best or math.isnan(mean) or mean > best["val_mean_auc"]:
                best = {"epoch": epoch, "val_mean_auc": mean, "network": copy_to_cpu(self.network.state_dict())}
            with clock("logging"):
                on_epoch(report, self.state(history, best))
        self.network.load_state_dict(best["network"])
        self.network.eval()
        return Fitted(
            best["epoch"],
            best["val_mean_auc"],
            best["network"],
            tuple(history),
            self.step.compilation,
            self.images.place,
        )

    def _epoch(self, epoch: int, progress: Progress, clock: Clock) -> EpochReport:
        start = time.perf_counter()
        losses, callback_seconds = self._train(epoch, progress, clock)
        train_end = time.perf_counter()
        seconds = train_end - start - callback_seconds
        with clock("validation"):
            auc, mean = self._validate(epoch)
        validation_end = time.perf_counter()
        weights = self.weighting.weights()
        with clock("weighting"):
            self._refresh_weights(epoch)
        return EpochReport(
            epoch,
            tuple(losses.tolist()),
            tuple(auc),
            mean,
            tuple(weights.tolist()),
            self.step.learning_rate,
            seconds,
            len(self.targets) / seconds,
            validation_end - train_end,
            time.perf_counter() - validation_end,
        )

    def _train(self, epoch: int, progress: Progress, clock: Clock) -> tuple[Tensor, float]:
        """Train one epoch.

        Returns:
            Mean loss of each task, (k,) on the CPU, and the seconds spent in `progress`: it may wait for other
            trainings, which does not count as training time.
        """
        self.network.train()
        callback_seconds = 0.0
        per_epoch = steps_per_epoch(len(self.targets), self.settings.batch_size)
        total = self.settings.epochs * per_epoch
        losses, present = [], []
        batches = self._batches(epoch)
        for done in range((epoch - 1) * per_epoch, epoch * per_epoch):
            with clock("input"):
                batch = next(batches)
            self.step.set_learning_rate(learning_rate_at(done, total, self.settings))
            step_losses, step_present = self.step(batch, clock)
            losses.append(step_losses)
            present.append(step_present)
            start = time.perf_counter()
            with clock("logging"):
                progress(done + 1, total)
            callback_seconds += time.perf_counter() - start
        # read once per epoch: reading the losses of each step would make the host wait for the GPU
        epoch_losses, epoch_present = torch.stack(losses).cpu(), torch.stack(present).cpu()
        _check_finite(epoch_losses, epoch)
        for buffer in self.network.buffers():
            self.processes.broadcast(buffer)
        return epoch_losses.sum(0) / epoch_present.sum(0), callback_seconds

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Yield this process's share of each batch of an epoch, augmented."""
        n, size, device = len(self.targets), self.settings.batch_size, self.images.index_device
        batches = list(epoch_batches(n, size, seed=self.seed, epoch=epoch, device=device))
        shares = self.images.stream([self.processes.share(rows) for rows in batches])
        for batch_rows, (rows, stored) in zip(batches, shares, strict=True):
            pixels = augment(stored, self.settings.augmentation, seed=self.seed, epoch=epoch, samples=rows)
            known = None if self.processes.count == 1 else known_labels(self.targets[batch_rows])
            yield Batch(pixels, self.targets[rows], known)

    def _compile(self, epochs: int) -> None:
        steps = epochs * steps_per_epoch(len(self.targets), self.settings.batch_size)
        self.network.train()
        self.step.compile_if_faster(next(self._batches(epoch=1)).pixels, steps)

    def _validate(self, epoch: int) -> tuple[list[float], float]:
        """Compute each label's AUC on the validation images, and their mean; the same in every process."""
        probabilities = _probabilities(self.network, self.val_images, self.processes)
        if not probabilities.isfinite().all():
            raise DivergenceError(f"the network's outputs are not finite after epoch {epoch}: {_REMEDY}")
        targets, scores = self.val_targets.cpu().numpy(), probabilities.numpy()
        return auc_per_label(targets, scores).tolist(), float(mean_auc(targets, scores))

    def _refresh_weights(self, epoch: int) -> None:
        self.weighting.after_epoch(
            epoch,
            partial(self._feature_pass, self.images, self.targets),
            partial(self._feature_pass, self.val_images, self.val_targets),
        )

    def _feature_pass(self, images: ImageCache, targets: Tensor, size: SampleSize) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features and targets of images, in evaluation mode, not augmented, in the steps' precision.

        Args:
            images: training or validation images.
            targets: of all these images.
            size: number of images, selected at random by the seed; the same images at every call.

        Yields:
            Features (b, d) and targets (b, k) of a batch.
        """
        n = len(targets)
        if isinstance(size, float):
            size = max(MIN_SAMPLE_SIZE, round(size * n))
        chosen = torch.arange(n) if size is None else random_subset(self.seed, "feature pass", n, size)
        count = steps_per_epoch(len(chosen), _inference_batch_size(self.step.device) * self.processes.count)
        batches = chosen.to(images.index_device).tensor_split(count)  # of nearly equal size: every process has a share
        shares = images.stream([self.processes.share(batch) for batch in batches])
        with evaluation_mode(self.network):
            for batch, (_, pixels) in zip(batches, shares, strict=True):
                features = self.processes.all_gather(self.step.features(pixels), len(batch))
                yield features, targets[batch.to(self.step.device)]

    def state(self, history: list[EpochReport], best: dict[str, Any]) -> dict[str, Any]:
        """Collect the state to resume from: plain values and tensors on the CPU."""
        return {
            "determined_by": self._determinants(),
            "network": copy_to_cpu(self.network.state_dict()),
            "optimizer": copy_to_cpu(self.step.optimizer.state_dict()),
            "weighting": self.weighting.state_dict(),
            "history": [dict(vars(report)) for report in history],
            "best": dict(best),
        }

    def resume(self, state: Mapping[str, Any]) -> list[EpochReport]:
        """Load a state to resume from, and return the reports of its epochs."""
        check_resumable(state["determined_by"], self._determinants())
        self.network.load_state_dict(state["network"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        return [_report(record) for record in state["history"]]

    def _determinants(self) -> dict[str, Any]:
        """Return all that the results depend on; a state is only resumed if it agrees."""
        return {
            "seed": self.seed,
            "training": self.settings.determining(),
            "network": self.network.settings.model_dump(mode="json"),
            "weighting": self.weighting.settings.model_dump(mode="json"),
            "labels": list(self.network.labels),
            "number of images": len(self.targets),
        }


def _check_finite(losses: Tensor, epoch: int) -> None:
    """Check the losses (steps, k) of an epoch."""
    finite = losses.isfinite().all(1)
    if not finite.all():
        step = int((~finite).nonzero()[0, 0]) + 1
        raise DivergenceError(f"the loss is not finite in epoch {epoch}, step {step} of {len(losses)}: {_REMEDY}")


def _report(record: Mapping[str, Any]) -> EpochReport:
    """Build a report from its record in `_Run.state`."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return EpochReport(**values)
