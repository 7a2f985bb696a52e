"""The training loop: epochs of weighted steps, validation after each, the best epoch kept.

The loop runs on Lightning Fabric (device, precision, processes) and knows nothing of the weighting but its interface.
After every epoch it hands over a state from which it continues, on a CPU to the same bits as without a break. Nothing
here touches a generator of random numbers: order and augmentation are counter-based (`models.randomness`).

Shapes: n images, b images of a batch, s x s pixels, d features, k tasks.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

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
from models.randomness import subset
from models.training.distributed import SINGLE_PROCESS, Processes, Send, spawn
from models.training.image_step import Batch, Clock, Step, StepSettings, untimed
from models.training.losses import known_labels
from models.weighting.base import SampleSize, Weighting

LEAST_ROWS = 512
"""Images in a share of a set, where it has so many; why: `models.weighting.base.SampleSize`."""

INFERENCE_BATCH, INFERENCE_BATCH_ON_GPU = 128, 512
"""Images per batch without gradients; results in float32 do not depend on it beyond rounding. On a CPU, maps of 256
images of 64 px leave the cache: they took conv4 1.6 times as long per image as those of 128."""


class TrainingSettings(StepSettings):
    """How long and how fast to train."""

    epochs: int = Field(7, ge=1, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="images per step, at most, of all devices together")
    warmup: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of all steps over which the learning rate rises linearly, before it falls as a cosine",
    )
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="random changes to the training images"
    )
    devices: int = Field(
        1,
        ge=1,
        description="processes that train together, each on a GPU of its own (on a CPU: a share of its threads); "
        "each takes its share of every batch, of which batch normalisation sees no more",
    )
    device_memory: float | None = Field(
        None,
        ge=0,
        description="GiB of each device's memory that images may take; none: half of what is free. "
        "Images that do not fit are copied there ahead of each step",
    )
    main_memory: float | None = Field(
        None,
        ge=0,
        description="GiB of main memory that images may take; none: half of what is free. "
        "Images that do not fit stay in the store's files",
    )

    def determining(self) -> dict[str, Any]:
        """The settings on which the numbers depend, as plain values: where images lie changes none."""
        return self.model_dump(mode="json", exclude={"device_memory", "main_memory"})


@dataclass(frozen=True)
class EpochReport:
    """What an epoch did. Tuples are in the order of the labels."""

    epoch: int  # counted from 1
    losses: tuple[float, ...]  # mean training loss of each task over the batches in which it is present, nats
    val_auc: tuple[float, ...]  # in [0, 1]; nan where validation lacks a class
    val_mean_auc: float  # mean over the labels that can be scored
    weights: tuple[float, ...]  # during this epoch's last step, sum k
    learning_rate: float  # of the last step
    seconds: float  # training steps alone
    images_per_second: float  # of the training steps
    validation_seconds: float
    weighting_seconds: float  # what the weighting did after the epoch


@dataclass(frozen=True)
class Fitted:
    """The outcome: `best_state` is the network's state dict after `best_epoch`, by mean validation AUC."""

    best_epoch: int
    best_val_mean_auc: float
    best_state: dict[str, Tensor]
    history: tuple[EpochReport, ...]
    compilation: str  # whether the steps were compiled, and why
    placement: str  # where the training images lay: device, main memory or store


OnEpoch = Callable[[EpochReport, dict[str, Any]], None]
"""Called after every epoch with its report and the state to resume from (plain values and tensors on the CPU)."""


Progress = Callable[[int, int], None]
"""Called after every step with the steps done and their total."""


def fit(
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
    """Trains the network in place; it ends with the weights of the best epoch and remembers the training patients.

    With several devices it starts a process for each and trains there; `on_epoch` and `progress` are called here all
    the same. They are new processes of the same program: a script that trains needs `if __name__ == "__main__"`.
    The losses are those of one device, up to rounding, for networks without batch normalisation.

    Args:
        network: as `initial_network` makes it; with `state`, its weights are replaced.
        weighting: as `make_weighting` makes it, for as many tasks as the network has labels.
        seed: decides order and augmentation, at least 0.
        state: what `on_epoch` was given last, to continue from there.
        clock: times the parts of training, on one device.

    Raises:
        SettingError: a patient is in both sets, the state belongs to other settings, the weighting would never act or
            cannot train in parts, or there are fewer devices or images than asked for.
        DivergenceError: a loss is not finite.
    """
    check_disjoint(train.patients, val.patients)
    weighting.check(settings.epochs, network.settings.pretrained)
    if settings.devices == 1:
        run = _Run(network, weighting, train, val, settings, seed, device, SINGLE_PROCESS)
        return run.fit(state, on_epoch, progress, clock)
    if clock is not untimed:
        raise SettingError(f"the parts of a step are timed on one device only; got devices: {settings.devices}")
    _check_devices(len(train), settings, device)

    def on_message(told: tuple[str, tuple[Any, ...]]) -> None:
        what, arguments = told
        (on_epoch if what == "epoch" else progress)(*arguments)

    arguments = (network, weighting, train, val, settings, seed, device, state)
    fitted, learned = spawn(_fit_here, arguments, count=settings.devices, on_message=on_message)
    _load_fitted(network, fitted, train)
    weighting.load_state_dict(learned)
    return fitted


def _fit_here(
    processes: Processes, send: Send, network: MultiTaskNetwork, weighting: Weighting, train: Examples, val: Examples,
    settings: TrainingSettings, seed: int, device: Literal["auto", "cpu", "cuda"], state: Mapping[str, Any] | None,
) -> tuple[Fitted, dict[str, Tensor]]:  # fmt: skip
    """One process's share of `fit`."""
    # what has come here is in memory that all processes share, and training writes to these
    network, weighting, state = deepcopy((network, weighting, state))
    run = _Run(network, weighting, train, val, settings, seed, device, processes)
    fitted = run.fit(state, lambda *report: send(("epoch", report)), lambda *steps: send(("progress", steps)), untimed)
    return fitted, weighting.state_dict()


def _load_fitted(network: MultiTaskNetwork, fitted: Fitted, train: Examples) -> None:
    network.load_state_dict(fitted.best_state)
    network.trained_on = tuple(sorted({*network.trained_on, *train.patients}))
    network.eval()


def _check_devices(n: int, settings: TrainingSettings, device: str) -> None:
    gpus = torch.cuda.device_count()
    if device != "cpu" and 0 < gpus < settings.devices:
        raise SettingError(f"devices: {settings.devices} are asked for, but PyTorch finds {gpus} GPU(s) here")
    smallest = n // steps_per_epoch(n, settings.batch_size)
    if smallest < settings.devices:
        raise SettingError(
            f"a batch of {smallest} images has no share for each of {settings.devices} devices: "
            "raise batch_size or take fewer devices"
        )


def predict(network: MultiTaskNetwork, pixels: Tensor | StoredPixels, *, batch_size: int = INFERENCE_BATCH) -> Tensor:
    """Probabilities in evaluation mode and float32, on the device where the network lies.

    Args:
        pixels: (n, 1, s, s) uint8, on any device or in a store.
        batch_size: none: what suits the device.

    Returns:
        (n, k) float32 in [0, 1], on the CPU.
    """
    return _probabilities(network, in_place(pixels, network.mean.device), SINGLE_PROCESS, batch_size)


def _inference_batch(device: torch.device) -> int:
    return INFERENCE_BATCH_ON_GPU if device.type == "cuda" else INFERENCE_BATCH


def _probabilities(
    network: MultiTaskNetwork, images: ImageCache, processes: Processes, batch_size: int | None = None
) -> Tensor:
    n, batch_size = len(images.pixels), batch_size or _inference_batch(images.device)
    own = processes.share(torch.arange(n, device=images.index_device))
    with _evaluating(network):
        parts = [torch.sigmoid(network(pixels)) for _, pixels in images.stream(own.split(batch_size))]
        return processes.all_gather(torch.cat(parts), n).cpu()


def learning_rate_at(step: int, total: int, settings: TrainingSettings) -> float:
    """The learning rate of a step, counted from 0, out of `total`: linear rise, then half a cosine to zero."""
    rising = settings.warmup * total
    if step < rising:
        return settings.learning_rate * (step + 1) / (rising + 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))


class _Run:
    """One training: the step, the images it is fed with, and where it has got to."""

    def __init__(
        self, network: MultiTaskNetwork, weighting: Weighting, train: Examples, val: Examples,
        settings: TrainingSettings, seed: int, device: Literal["auto", "cpu", "cuda"], processes: Processes,
    ) -> None:  # fmt: skip
        self.network, self.weighting, self.settings, self.seed = network, weighting, settings, seed
        self.step = Step(network, weighting, settings, device, processes)
        self.processes = processes
        network.trained_on = tuple(sorted({*network.trained_on, *train.patients}))
        memory = MemoryBudget(self.step.device, settings.device_memory, settings.main_memory, processes.count)
        self.images, self.val_images = memory.place(train.pixels), memory.place(val.pixels)
        self.targets, self.val_targets = (part.targets.to(self.step.device) for part in (train, val))

    def fit(self, state: Mapping[str, Any] | None, on_epoch: OnEpoch, progress: Progress, clock: Clock) -> Fitted:
        history = self.resume(state) if state is not None else []
        best = dict(state["best"]) if state is not None else {}
        if len(history) < self.settings.epochs:
            self._compile()
        if state is None:
            self._refresh_weights(0)
        for epoch in range(len(history) + 1, self.settings.epochs + 1):
            report = self._epoch(epoch, progress, clock)
            history.append(report)
            # without a label that can be scored, the last epoch is as good as any
            mean = report.val_mean_auc
            if not best or math.isnan(mean) or mean > best["val_mean_auc"]:
                best = {"epoch": epoch, "val_mean_auc": mean, "network": _on_cpu(self.network.state_dict())}
            with clock("logging"):
                on_epoch(report, self.state(history, best))
        self.network.load_state_dict(best["network"])
        self.network.eval()
        return Fitted(
            best["epoch"], best["val_mean_auc"], best["network"], tuple(history),
            self.step.compilation, self.images.place,
        )  # fmt: skip

    def _epoch(self, epoch: int, progress: Progress, clock: Clock) -> EpochReport:
        begun = time.perf_counter()
        losses, told = self._train(epoch, progress, clock)
        trained = time.perf_counter()
        training = trained - begun - told
        with clock("validation"):
            auc, mean = self._validate(epoch)
        validated = time.perf_counter()
        weights = self.weighting.weights()
        with clock("weighting"):
            self._refresh_weights(epoch)
        return EpochReport(
            epoch, tuple(losses.tolist()), tuple(auc), mean, tuple(weights.tolist()), self.step.learning_rate,
            training, len(self.targets) / training, validated - trained,
            time.perf_counter() - validated,
        )  # fmt: skip

    def _train(self, epoch: int, progress: Progress, clock: Clock) -> tuple[Tensor, float]:
        """One pass over the training images; returns each task's mean loss, (k,) on the CPU, and seconds in `progress`.

        `progress` may wait there for other trainings, which is no time of this one's.
        """
        self.network.train()
        told = 0.0
        per_epoch = steps_per_epoch(len(self.targets), self.settings.batch_size)
        total = self.settings.epochs * per_epoch
        losses, present = [], []
        batches = self._batches(epoch)
        for done in range((epoch - 1) * per_epoch, epoch * per_epoch):
            with clock("input"):
                batch = next(batches)
            self.step.set_learning_rate(learning_rate_at(done, total, self.settings))
            loss, known = self.step(batch, clock)
            losses.append(loss)
            present.append(known)
            on_step = time.perf_counter()
            with clock("logging"):
                progress(done + 1, total)
            told += time.perf_counter() - on_step
        # once an epoch: a GPU never waits for a step
        every, known = torch.stack(losses).cpu(), torch.stack(present).cpu()
        _check_finite(every, epoch)
        for buffer in self.network.buffers():
            self.processes.broadcast(buffer)
        return every.sum(0) / known.sum(0), told

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """This process's share of an epoch's batches, augmented."""
        n, size, device = len(self.targets), self.settings.batch_size, self.images.index_device
        whole = list(epoch_batches(n, size, seed=self.seed, epoch=epoch, device=device))
        shares = self.images.stream([self.processes.share(rows) for rows in whole])
        for rows_of_all, (rows, stored) in zip(whole, shares, strict=True):
            pixels = augment(stored, self.settings.augmentation, seed=self.seed, epoch=epoch, samples=rows)
            known = None if self.processes.count == 1 else known_labels(self.targets[rows_of_all])
            yield Batch(pixels, self.targets[rows], known)

    def _compile(self) -> None:
        batches = self._batches(epoch=1)
        self.network.train()
        self.step.compile_if_faster(next(batches).pixels)

    def _validate(self, epoch: int) -> tuple[list[float], float]:
        """AUC per label and its mean on the validation images; the same in every process."""
        probabilities = _probabilities(self.network, self.val_images, self.processes)
        if not probabilities.isfinite().all():
            raise DivergenceError(f"the network's outputs are not finite after epoch {epoch}: {_CALM}")
        targets, scores = self.val_targets.cpu().numpy(), probabilities.numpy()
        return auc_per_label(targets, scores).tolist(), float(mean_auc(targets, scores))

    def _refresh_weights(self, epoch: int) -> None:
        self.weighting.after_epoch(
            epoch,
            partial(self._feature_pass, self.images, self.targets),
            partial(self._feature_pass, self.val_images, self.val_targets),
        )

    def _feature_pass(self, images: ImageCache, targets: Tensor, rows: SampleSize) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and targets of images, in evaluation mode, not augmented, in the steps' precision.

        Args:
            rows: how many, drawn by the seed, the same ones at every call.
        """
        n = len(targets)
        if isinstance(rows, float):
            rows = max(LEAST_ROWS, round(rows * n))
        chosen = torch.arange(n) if rows is None else subset(self.seed, "feature pass", n, rows)
        count = steps_per_epoch(len(chosen), _inference_batch(self.step.device) * self.processes.count)
        batches = chosen.to(images.index_device).tensor_split(count)  # alike: no process goes without
        shares = images.stream([self.processes.share(batch) for batch in batches])
        with _evaluating(self.network):
            for batch, (_, pixels) in zip(batches, shares, strict=True):
                features = self.processes.all_gather(self.step.features(pixels), len(batch))
                yield features, targets[batch.to(self.step.device)]

    def state(self, history: list[EpochReport], best: dict[str, Any]) -> dict[str, Any]:
        return {
            "determined_by": self._determined_by(),
            "network": _on_cpu(self.network.state_dict()),
            "optimizer": _on_cpu(self.step.optimizer.state_dict()),
            "weighting": self.weighting.state_dict(),
            "history": [dict(vars(report)) for report in history],
            "best": dict(best),
        }

    def resume(self, state: Mapping[str, Any]) -> list[EpochReport]:
        """Takes up a state; returns the reports of the epochs that are done."""
        if state["determined_by"] != self._determined_by():
            ours = self._determined_by()
            changed = [name for name, value in state["determined_by"].items() if value != ours.get(name)]
            raise SettingError(
                f"the state to resume from was made with another {', '.join(changed)}: "
                "go back to the settings it was made with, or begin anew"
            )
        self.network.load_state_dict(state["network"])
        self.step.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        return [_report(record) for record in state["history"]]

    def _determined_by(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "training": self.settings.determining(),
            "network": self.network.settings.model_dump(mode="json"),
            "weighting": self.weighting.settings.model_dump(mode="json"),
            "labels": list(self.network.labels),
            "number of images": len(self.targets),
        }


_CALM = "lower learning_rate, lengthen warmup, or set precision to 32"


def _check_finite(losses: Tensor, epoch: int) -> None:
    """Losses of an epoch: (steps, k)."""
    finite = losses.isfinite().all(1)
    if not finite.all():
        step = int((~finite).nonzero()[0, 0]) + 1
        raise DivergenceError(f"the loss is not finite in epoch {epoch}, step {step} of {len(losses)}: {_CALM}")


@contextmanager
def _evaluating(network: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients inside, the mode of before outside."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)


def _report(record: Mapping[str, Any]) -> EpochReport:
    """The report that `_Run.state` took apart."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return EpochReport(**values)


def _on_cpu(tree: Any) -> Any:
    """A copy of nested dictionaries and lists with every tensor copied to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _on_cpu(value) for key, value in tree.items()}
    return [_on_cpu(value) for value in tree] if isinstance(tree, list) else tree
