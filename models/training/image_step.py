"""A training step on images: forward, backward, optimiser, on one device or in one of several processes.

A weighting that combines the tasks' gradients needs one forward and one backward pass on the whole batch. For the other
weightings the batch may be split into shares, one per process, and into micro-batches, one after another (gradient
accumulation). The loss of a micro-batch is its sum divided by the whole batch's number of known labels, so that the
losses add up to the masked means of the whole batch. The weighting computes once the gradient of its objective with
respect to the whole batch's losses; each micro-batch's losses are sent back with this gradient, and the parameters'
gradients are summed. The result is the whole batch's gradient, up to rounding, for every objective. The exception is
batch normalisation: it sees one micro-batch at a time (and its running statistics are those of the first process), so
that its results depend on how the batch is split.

A step never makes the host wait for the device.

Shapes: b images, s x s pixels, d features, k tasks.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.networks.multitask import MultiTaskNetwork
from models.settings import Settings
from models.training.compilation import Compile, Extract, compile_if_faster, preserve_buffers
from models.training.distributed import SINGLE_PROCESS, Processes
from models.training.fabric import Device, make_fabric
from models.training.loop import Clock, evaluation_mode, untimed
from models.training.losses import known_labels, task_losses
from models.weighting.base import FixedWeights, Weighting

INFERENCE_BATCH, INFERENCE_BATCH_ON_GPU = 128, 512
"""Images per batch without gradients; float32 results depend on it by rounding only. On a CPU the feature maps of 256
images of 64 px do not fit into the cache: conv4 took 1.6 times as long per image as with 128 images."""


def inference_batch_size(device: torch.device) -> int:
    """Return the number of images per batch without gradients on a device."""
    return INFERENCE_BATCH_ON_GPU if device.type == "cuda" else INFERENCE_BATCH


class StepSettings(Settings):
    """Settings of a training step on images. The defaults are conv4's recipe; see `models.training.recipes`."""

    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with Nesterov momentum 0.9")
    learning_rate: float = Field(4e-3, gt=0, le=1000, description="highest learning rate")
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="weight decay of matrices and convolution kernels (not of biases and normalisation)",
    )
    averaging: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay per step of an exponential moving average of the weights; the average is what is validated, "
        "kept and tested; 0: no averaging",
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        description="precision of training steps: 32 bits, bf16 autocast, or auto: bf16 if the device has units for it",
    )
    channels_last: bool = Field(
        True, description="store images and kernels in channels-last order, which is usually faster"
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="largest number of images per forward pass on each device, for batches that do not fit into its "
        "memory; none: all images of the step. Batch normalisation sees one micro-batch at a time",
    )
    compile: Compile = Field(
        "auto",
        description="torch.compile of the feature extractor: auto (on a GPU, if the training takes minutes and a short "
        "trial is faster), on, off",
    )


class Batch(NamedTuple):
    """The images and labels of a step, on its device.

    Attributes:
        pixels: (b, c, s, s) uint8 grey values, or float32 from 0 to 255.
        targets: (b, k), as `models.training.losses.image_losses` takes them.
        known: (k,) number of known labels in the whole batch, summed over processes; None for a single process.
    """

    pixels: Tensor
    targets: Tensor
    known: Tensor | None = None


class Step:
    """The training step of one network. Moves the network and the weighting's parameters to the device.

    Args:
        network: to train.
        weighting: combines the tasks' losses or gradients.
        settings: of the step.
        device: `auto` is a GPU if there is one.
        processes: that share each batch.

    Raises:
        SettingError: there is no such device, or the weighting cannot work with a split batch.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        weighting: Weighting,
        settings: StepSettings,
        device: Device = "auto",
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self._splits_batch = settings.micro_batch is not None or processes.count > 1
        weighting.settings.check_batches(self._splits_batch)
        self.fabric = make_fabric(settings.precision, device, processes)
        self.device: torch.device = self.fabric.device
        self.network, self.weighting, self.settings, self.processes = network, weighting, settings, processes
        network.to(self.device)
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)
        self.optimizer = _optimizer(network, weighting.parameters(self.device), settings)
        self.average = _average(network, settings.averaging)
        self.compilation = "not compiled"
        self._training_features: Extract = network.features

    def __call__(self, batch: Batch, clock: Clock = untimed) -> tuple[Tensor, Tensor]:
        """Make one step; the network should be in training mode.

        Args:
            batch: this process's share of the images and labels.
            clock: times the parts of the step.

        Returns:
            (k,) float32 losses of the whole batch before the step, and (k,) bool: which tasks have known labels.
        """
        self.optimizer.zero_grad()
        backward = self._backward_split if self._splits_batch else self._backward
        losses, present = backward(batch, clock)
        with clock("optimiser"):
            self.optimizer.step()
            if self.average:
                self.average.update_parameters(self.network)
            self.weighting.after_step(lambda: self._losses(batch))
        return losses, present

    @property
    def evaluated(self) -> MultiTaskNetwork:
        """The network to validate and to keep: with averaged weights if the settings ask for them."""
        return cast(MultiTaskNetwork, self.average.module) if self.average else self.network

    def features(self, pixels: Tensor) -> Tensor:
        """Compute (b, d) float32 features by `evaluated`, in the steps' precision; never compiled.

        Args:
            pixels: (b, 1, s, s) grey values.
        """
        with self.fabric.autocast():
            return self.evaluated.features(pixels).float()

    def evaluate(self, pixels: Tensor) -> Tensor:
        """Compute logits by the network in training, in evaluation mode and the steps' precision, without gradients.

        Neither the network's buffers nor its gradients change.

        Args:
            pixels: (b, c, s, s) grey values.
        """
        size = inference_batch_size(self.device)
        with evaluation_mode(self.network):
            logits = []
            for part in pixels.split(min(size, self.settings.micro_batch or size)):
                with self.fabric.autocast():
                    features = self.network.features(part).float()
                logits.append(self.network.classify(features))
        return torch.cat(logits)

    def _extract(self, pixels: Tensor) -> Tensor:
        """Compute `features`, by the compiled extractor if it is faster."""
        with self.fabric.autocast():
            return self._training_features(pixels).float()

    def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of the following steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def compile_if_faster(self, pixels: Tensor, steps: int) -> None:
        """Choose the feature extractor for so many steps, by a trial on (b, 1, s, s) pixels; sets `compilation`."""
        trial = pixels[: self.settings.micro_batch]
        self._training_features, self.compilation = compile_if_faster(
            self.network,
            self.fabric.autocast,
            trial,
            self.settings.compile,
            steps=steps * len(pixels) // len(trial),
            repeatedly=self.weighting.combines_gradients,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the optimiser, the weighting, and the average of the weights if there is one."""
        average = {"average": self.average.state_dict()} if self.average else {}
        return {"optimizer": self.optimizer.state_dict(), "weighting": self.weighting.state_dict(), **average}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.weighting.load_state_dict(state["weighting"])
        if self.average:
            self.average.load_state_dict(state["average"])

    def _backward(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor]:
        with clock("forward"):
            features = self._extract(batch.pixels)
            losses = self._task_losses(features, batch.targets)
            present = known_labels(batch.targets, classes=self.network.classes) > 0
        with clock("backward"):
            self.weighting.backward(self.fabric, losses, present, features, self.network)
        return losses.detach(), present

    def _backward_split(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor]:
        known, micro_batches = self._micro_batches(batch)
        loss_gradient: Tensor | None = None
        if isinstance(self.weighting, FixedWeights):  # it does not depend on the losses
            loss_gradient = self._loss_gradient(torch.zeros(known.shape, device=self.device), known)
        elif len(micro_batches) > 1:
            with clock("forward"):
                loss_gradient = self._loss_gradient(self._losses(batch), known)
        sums = torch.zeros(known.shape, device=self.device)
        for pixels, targets in micro_batches:
            with clock("forward"):
                losses = self._task_losses(self._extract(pixels), targets, known)
            with clock("backward"):
                if loss_gradient is None:
                    loss_gradient = self._loss_gradient(self.processes.all_reduce(losses.detach()), known)
                self.fabric.backward((loss_gradient * losses).sum())
                sums += losses.detach()
        with clock("backward"):
            self._sum_gradients()
            return self.processes.all_reduce(sums), known > 0

    def _task_losses(self, features: Tensor, targets: Tensor, known: Tensor | None = None) -> Tensor:
        return task_losses(self.network.classify(features), targets, known, classes=self.network.classes)

    def _micro_batches(self, batch: Batch) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Count the whole batch's known labels, (k,), and split this process's share; sizes differ by at most one."""
        known = batch.known
        if known is None:
            known = known_labels(batch.targets, classes=self.network.classes)
        count = -(-len(batch.pixels) // (self.settings.micro_batch or len(batch.pixels)))
        return known, list(zip(batch.pixels.tensor_split(count), batch.targets.tensor_split(count), strict=True))

    def _loss_gradient(self, losses: Tensor, known: Tensor) -> Tensor:
        """Compute the gradient (k,) of the weighting's objective by the losses; also sets that of its parameters."""
        leaf = losses.detach().clone().requires_grad_()
        features = leaf.new_empty(0, self.network.num_features)
        self.weighting.backward(self.fabric, leaf, known > 0, features, self.network)
        if leaf.grad is None:
            raise RuntimeError(f"{self.weighting.settings.name} sent nothing back to the losses")
        return self.processes.broadcast(leaf.grad)

    def _losses(self, batch: Batch) -> Tensor:
        """Compute the whole batch's losses (k,) with the current weights, without changing running statistics."""
        known, micro_batches = self._micro_batches(batch)
        sums = torch.zeros(known.shape, device=self.device)
        with torch.no_grad(), preserve_buffers(self.network):
            for pixels, targets in micro_batches:
                sums += self._task_losses(self._extract(pixels), targets, known)
        return self.processes.all_reduce(sums)

    def _sum_gradients(self) -> None:
        """Sum over the processes. The weighting's parameters already have the same gradient in each process."""
        if self.processes.count > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            whole = self.processes.all_reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            parts = whole.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view(gradient.shape))


def _average(network: MultiTaskNetwork, decay: float) -> AveragedModel | None:
    """Return an exponential moving average of the network's weights and buffers; None if the decay is 0."""
    return AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True) if decay else None


def _optimizer(
    network: MultiTaskNetwork, weighting_parameters: list[torch.nn.Parameter], settings: StepSettings
) -> torch.optim.Optimizer:
    matrices = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": settings.weight_decay},
        {"params": others + weighting_parameters, "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
