"""The training loop: epochs of weighted steps, validation after each, the best epoch kept.

The loop runs on Lightning Fabric (device, precision) and knows nothing of the weighting but its interface. After
every epoch it hands over a state from which it continues, on a CPU to the same bits as without a break. Nothing here
touches a generator of random numbers: order and augmentation are counter-based (`models.randomness`).

Shapes: n images, b images of a batch, s x s pixels, d features, k tasks.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.augmentation import AugmentationSettings, augment
from models.batches import Examples, epoch_batches, steps_per_epoch
from models.errors import DivergenceError, SettingError
from models.evaluation import auc_per_label, mean_auc
from models.losses import known_tasks, task_losses
from models.networks import MultiTaskNetwork
from models.provenance import check_disjoint
from models.weighting import Weighting

INFERENCE_BATCH = 256
"""Images per batch without gradients; results in float32 do not depend on it beyond rounding."""


class TrainingSettings(BaseModel):
    """How long and how fast to train."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(7, ge=1, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="images per step, at most")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with Nesterov momentum 0.9")
    learning_rate: float = Field(8e-3, gt=0, description="highest learning rate")
    weight_decay: float = Field(
        0.02, ge=0, description="decay of weight matrices and kernels (not of biases and normalisation)"
    )
    warmup: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of all steps over which the learning rate rises linearly, before it falls as a cosine",
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        description="of training steps: 32 bits, bf16 autocast, or auto: bf16 where the device has units for it",
    )
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="random changes to the training images"
    )


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


OnEpoch = Callable[[EpochReport, dict[str, Any]], None]
"""Called after every epoch with its report and the state to resume from (plain values and tensors on the CPU)."""


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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fitted:
    """Trains the network in place; it ends with the weights of the best epoch and remembers the training patients.

    Args:
        network: as `initial_network` makes it; with `state`, its weights are replaced.
        weighting: as `make_weighting` makes it, for as many tasks as the network has labels.
        seed: decides order and augmentation, at least 0.
        state: what `on_epoch` was given last, to continue from there.
        progress: called after every step with the steps done and their total.

    Raises:
        SettingError: a patient is in both sets, the state belongs to other settings, or the weighting would never act.
        DivergenceError: a loss is not finite.
    """
    check_disjoint(train.patients, val.patients)
    weighting.check(settings.epochs)
    run = _Run(network, weighting, train, settings, seed, device)
    history = run.resume(state) if state is not None else []
    best = dict(state["best"]) if state is not None else {}
    steps = steps_per_epoch(len(train), settings.batch_size)
    val = val.to(run.device)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        begun = time.perf_counter()
        losses = run.train_epoch(epoch, lambda step: progress((epoch - 1) * steps + step, settings.epochs * steps))  # noqa: B023
        trained = time.perf_counter()
        auc, mean = _validate(network, val, epoch)
        validated = time.perf_counter()
        weights = weighting.weights()
        weighting.after_epoch(epoch, run.feature_pass)
        report = EpochReport(
            epoch, tuple(losses.tolist()), tuple(auc), mean, tuple(weights.tolist()), run.learning_rate,
            trained - begun, len(train) / (trained - begun), validated - trained, time.perf_counter() - validated,
        )  # fmt: skip
        history.append(report)
        # without a label that can be scored, the last epoch is as good as any
        if not best or math.isnan(mean) or mean > best["val_mean_auc"]:
            best = {"epoch": epoch, "val_mean_auc": mean, "network": _on_cpu(network.state_dict())}
        on_epoch(report, run.state(history, best))
    network.load_state_dict(best["network"])
    network.eval()
    return Fitted(best["epoch"], best["val_mean_auc"], best["network"], tuple(history))


def predict(network: MultiTaskNetwork, pixels: Tensor, *, batch_size: int = INFERENCE_BATCH) -> Tensor:
    """Probabilities in evaluation mode and float32, on the device where the network lies.

    Args:
        pixels: (n, 1, s, s) uint8, on any device.

    Returns:
        (n, k) float32 in [0, 1], on the CPU.
    """
    with _evaluating(network):
        return torch.cat(
            [torch.sigmoid(network(part.to(network.mean.device))).cpu() for part in pixels.split(batch_size)]
        )


def learning_rate_at(step: int, total: int, settings: TrainingSettings) -> float:
    """The learning rate of a step, counted from 0, out of `total`: linear rise, then half a cosine to zero."""
    rising = settings.warmup * total
    if step < rising:
        return settings.learning_rate * (step + 1) / (rising + 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (total - rising)))


class _Run:
    """One training: the parts that its steps share."""

    def __init__(
        self,
        network: MultiTaskNetwork,
        weighting: Weighting,
        train: Examples,
        settings: TrainingSettings,
        seed: int,
        device: str,
    ) -> None:
        from lightning_fabric import Fabric

        if device == "cuda" and not torch.cuda.is_available():
            raise SettingError("device cuda is asked for, but PyTorch finds no GPU here: use device auto or cpu")
        accelerator = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        self.fabric = Fabric(
            accelerator=accelerator, devices=1, precision=_fabric_precision(settings.precision, accelerator)
        )
        self.device = self.fabric.device
        self.weighting, self.settings, self.seed = weighting, settings, seed
        self.train = train.to(self.device)
        network.trained_on = tuple(sorted({*network.trained_on, *train.patients}))
        network.to(self.device).to(memory_format=torch.channels_last)
        self.optimizer = _optimizer(network, weighting.parameters(self.device), settings)
        self.network: Any
        self.network, self.optimizer = self.fabric.setup(network, self.optimizer)
        self.learning_rate = 0.0

    def train_epoch(self, epoch: int, stepped: Callable[[int], None]) -> Tensor:
        """One pass over the training images; returns each task's mean loss, (k,) on the CPU."""
        self.network.train()
        n, size = len(self.train), self.settings.batch_size
        per_epoch = steps_per_epoch(n, size)
        losses, present = [], []
        for step, rows in enumerate(epoch_batches(n, size, seed=self.seed, epoch=epoch, device=self.device)):
            self._set_learning_rate((epoch - 1) * per_epoch + step, self.settings.epochs * per_epoch)
            loss, known = self._step(epoch, rows)
            losses.append(loss)
            present.append(known)
            stepped(step + 1)
        every, known = (
            torch.stack(losses).cpu(),
            torch.stack(present).cpu(),
        )  # once an epoch: a GPU never waits for a step
        _check_finite(every, epoch)
        return every.sum(0) / known.sum(0)

    def feature_pass(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Features and targets of the training images, in evaluation mode, not augmented, in the steps' precision."""
        with _evaluating(self.network):
            for pixels, targets in zip(
                self.train.pixels.split(INFERENCE_BATCH), self.train.targets.split(INFERENCE_BATCH), strict=True
            ):
                yield self._features(pixels), targets

    def state(self, history: list[EpochReport], best: dict[str, Any]) -> dict[str, Any]:
        return {
            "determined_by": self._determined_by(),
            "network": _on_cpu(self.network.state_dict()),
            "optimizer": _on_cpu(self.optimizer.state_dict()),
            "weighting": self.weighting.state_dict(),
            "history": [asdict(report) for report in history],
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
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        return [_report(record) for record in state["history"]]

    def _determined_by(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "training": self.settings.model_dump(mode="json"),
            "network": self.network.module.settings.model_dump(mode="json"),
            "weighting": self.weighting.settings.model_dump(mode="json"),
            "labels": list(self.network.module.labels),
            "number of images": len(self.train),
        }

    def _step(self, epoch: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        pixels = augment(self.train.pixels[rows], self.settings.augmentation, seed=self.seed, epoch=epoch, samples=rows)
        targets = self.train.targets[rows]
        features = self._features(pixels)
        losses, present = task_losses(self.network.classify(features), targets), known_tasks(targets)
        self.optimizer.zero_grad()
        self.weighting.backward(self.fabric, losses, present, features, self.network.module)
        self.optimizer.step()
        self.weighting.after_step(lambda: task_losses(self.network.classify(self._features(pixels)), targets).detach())
        return losses.detach(), present

    def _features(self, pixels: Tensor) -> Tensor:
        with self.fabric.autocast():
            return self.network.features(pixels).float()

    def _set_learning_rate(self, step: int, total: int) -> None:
        self.learning_rate = learning_rate_at(step, total, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate


def _fabric_precision(precision: str, accelerator: str) -> Literal["32-true", "bf16-mixed"]:
    if precision == "auto":
        # without such units bfloat16 is emulated: measured 3 to 14 times slower on a CPU with AVX2 alone
        fast = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if accelerator == "cuda"
            else torch.cpu._is_amx_tile_supported()
        )
        return "bf16-mixed" if fast else "32-true"
    return "32-true" if precision == "32" else "bf16-mixed"


def _optimizer(
    network: MultiTaskNetwork, learned: list[torch.nn.Parameter], settings: TrainingSettings
) -> torch.optim.Optimizer:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others + learned, "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)


def _validate(network: MultiTaskNetwork, val: Examples, epoch: int) -> tuple[list[float], float]:
    """AUC per label and its mean on the validation images."""
    probabilities, targets = predict(network, val.pixels), val.targets.cpu().numpy()
    if not probabilities.isfinite().all():
        raise DivergenceError(f"the network's outputs are not finite after epoch {epoch}: {_CALM}")
    scores = probabilities.numpy()
    return auc_per_label(targets, scores).tolist(), float(mean_auc(targets, scores))


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
    """The report that `asdict` took apart."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
    return EpochReport(**values)


def _on_cpu(tree: Any) -> Any:
    """A copy of nested dictionaries and lists with every tensor copied to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: _on_cpu(value) for key, value in tree.items()}
    return [_on_cpu(value) for value in tree] if isinstance(tree, list) else tree
