"""A training step: forward, backward, optimiser, on one device or as one process's share of a larger step.

Where a rule combines the tasks' gradients the step is one forward and one backward pass. Otherwise its batch may be
cut: into micro-batches, one after another, and into shares, one per process. The parts' losses are sums divided by the
whole batch's counts of known labels, so they add up to its masked means. The rule is asked once for the derivative of
its objective by the whole batch's losses, each part is sent back with that, and gradients are summed: the whole
batch's gradient, up to rounding, whatever the objective. Batch normalisation is the exception: in a cut step it
sees only the part (and its running statistics are the first process's), so that its results depend on the cut.

Nothing in a step makes the host wait for the device.

Shapes: b images, s x s pixels, d features, k tasks.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from models.errors import SettingError
from models.networks.multitask import MultiTaskNetwork
from models.settings import Settings
from models.training.compilation import Compile, Extract, buffers_kept, compiled_if_faster
from models.training.distributed import SINGLE_PROCESS, Processes
from models.training.losses import known_labels, known_tasks, task_losses
from models.weighting.base import FixedWeights, Weighting

Part = Literal["input", "forward", "backward", "optimiser", "logging", "validation", "weighting"]

Clock = Callable[[Part], AbstractContextManager[object]]
"""Gives the context in which a part of training runs. Parts do not overlap; one may come several times in a step."""

_NOTHING = nullcontext()


def untimed(part: Part) -> AbstractContextManager[object]:
    """The clock that measures nothing."""
    return _NOTHING


class StepSettings(Settings):
    """What a step does with a batch."""

    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with Nesterov momentum 0.9")
    learning_rate: float = Field(8e-3, gt=0, description="highest learning rate")
    weight_decay: float = Field(
        0.02, ge=0, description="decay of weight matrices and kernels (not of biases and normalisation)"
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "auto",
        description="of training steps: 32 bits, bf16 autocast, or auto: bf16 where the device has units for it",
    )
    channels_last: bool = Field(True, description="lay images and kernels out channels-last, which is mostly faster")
    micro_batch: int | None = Field(
        None,
        ge=1,
        description="images per forward pass on each device, at most, for batches that do not fit its memory; "
        "none: the whole step's. Batch normalisation sees the micro-batch",
    )
    compile: Compile = Field(
        "auto",
        description="torch.compile of the feature extractor: auto (on a GPU, if it is faster in a trial), on, off",
    )


class Batch(NamedTuple):
    """What a step learns from; on its device.

    pixels: (b, 1, s, s) grey values 0 to 255, uint8 or float32. targets: (b, k) int8.
    known: (k,) number of known labels in the batch of all processes together; none where there is one.
    """

    pixels: Tensor
    targets: Tensor
    known: Tensor | None = None


class Step:
    """The step of one network. Moves it, and what the weighting learns, to the device.

    Args:
        device: `auto` is a GPU where there is one.
        processes: that make the step together.

    Raises:
        SettingError: there is no such device, or the rule cannot make the step in parts.
    """

    def __init__(
        self,
        network: MultiTaskNetwork,
        weighting: Weighting,
        settings: StepSettings,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self._in_parts = settings.micro_batch is not None or processes.count > 1
        if self._in_parts and weighting.combines_gradients:
            raise SettingError(
                f"{weighting.settings.name} combines the gradients of whole batches, which cannot be put together "
                "from parts: leave micro_batch out and set devices: 1, or choose another method"
            )
        self.fabric = make_fabric(settings.precision, device, processes)
        self.device: torch.device = self.fabric.device
        self.network, self.weighting, self.settings, self.processes = network, weighting, settings, processes
        network.to(self.device)
        if settings.channels_last:
            network.to(memory_format=torch.channels_last)
        self.optimizer = _optimizer(network, weighting.parameters(self.device), settings)
        self.learning_rate = settings.learning_rate
        self.compilation = "not compiled"
        self._in_training: Extract = network.features

    def __call__(self, batch: Batch, clock: Clock = untimed) -> tuple[Tensor, Tensor]:
        """Makes the step; the network should be in training mode.

        Returns:
            (k,) float32 losses of the whole batch before the step, and (k,) bool, the tasks present in it.
        """
        self.optimizer.zero_grad()
        losses, present = self._backward_in_parts(batch, clock) if self._in_parts else self._backward(batch, clock)
        with clock("optimiser"):
            self.optimizer.step()
            self.weighting.after_step(lambda: self._losses(batch))
        return losses, present

    def features(self, pixels: Tensor) -> Tensor:
        """(b, 1, s, s) grey values -> (b, d) float32 features, in the steps' precision; never compiled."""
        with self.fabric.autocast():
            return self.network.features(pixels).float()

    def _extract(self, pixels: Tensor) -> Tensor:
        """`features`, compiled where that is faster."""
        with self.fabric.autocast():
            return self._in_training(pixels).float()

    def set_learning_rate(self, rate: float) -> None:
        """For the steps to come."""
        self.learning_rate = rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def compile_if_faster(self, pixels: Tensor) -> None:
        """Decides by the settings, and a trial with a batch (b, 1, s, s); `compilation` says how it ended."""
        pixels = pixels[: self.settings.micro_batch]
        self._in_training, self.compilation = compiled_if_faster(
            self.network, self.fabric.autocast, pixels, self.settings.compile,
            repeatedly=self.weighting.combines_gradients,
        )  # fmt: skip

    def _backward(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor]:
        with clock("forward"):
            features = self._extract(batch.pixels)
            losses = task_losses(self.network.classify(features), batch.targets)
            present = known_tasks(batch.targets)
        with clock("backward"):
            self.weighting.backward(self.fabric, losses, present, features, self.network)
        return losses.detach(), present

    def _backward_in_parts(self, batch: Batch, clock: Clock) -> tuple[Tensor, Tensor]:
        known, parts = self._parts(batch)
        factors: Tensor | None = None
        if isinstance(self.weighting, FixedWeights):  # whatever the losses are
            factors = self._factors(torch.zeros(known.shape, device=self.device), known)
        elif len(parts) > 1:
            with clock("forward"):
                factors = self._factors(self._losses(batch), known)
        sums = torch.zeros(known.shape, device=self.device)
        for pixels, targets in parts:
            with clock("forward"):
                losses = task_losses(self.network.classify(self._extract(pixels)), targets, known)
            with clock("backward"):
                if factors is None:
                    factors = self._factors(self.processes.all_reduce(losses.detach()), known)
                self.fabric.backward((factors * losses).sum())
                sums += losses.detach()
        with clock("backward"):
            self._sum_gradients()
            return self.processes.all_reduce(sums), known > 0

    def _parts(self, batch: Batch) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Counts of known labels in the whole batch, (k,), and this process's micro-batches, of nearly equal size."""
        known = known_labels(batch.targets) if batch.known is None else batch.known
        count = -(-len(batch.pixels) // (self.settings.micro_batch or len(batch.pixels)))
        return known, list(zip(batch.pixels.tensor_split(count), batch.targets.tensor_split(count), strict=True))

    def _factors(self, losses: Tensor, known: Tensor) -> Tensor:
        """The derivative (k,) of the rule's objective by the losses; the rule's own parameters get their gradients."""
        leaf = losses.detach().clone().requires_grad_()
        features = leaf.new_empty(0, self.network.num_features)
        self.weighting.backward(self.fabric, leaf, known > 0, features, self.network)
        if leaf.grad is None:
            raise RuntimeError(f"{self.weighting.settings.name} sent nothing back to the losses")
        return self.processes.broadcast(leaf.grad)

    def _losses(self, batch: Batch) -> Tensor:
        """The whole batch's losses (k,) by the present weights; running statistics stay as they are."""
        known, parts = self._parts(batch)
        sums = torch.zeros(known.shape, device=self.device)
        with torch.no_grad(), buffers_kept(self.network):
            for pixels, targets in parts:
                sums += task_losses(self.network.classify(self._extract(pixels)), targets, known)
        return self.processes.all_reduce(sums)

    def _sum_gradients(self) -> None:
        """Over the processes; what the rule learns has the same gradient in each of them already."""
        if self.processes.count > 1:
            gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
            whole = self.processes.all_reduce(torch.cat([gradient.reshape(-1) for gradient in gradients]))
            parts = whole.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view(gradient.shape))


def make_fabric(precision: str, device: str, processes: Processes = SINGLE_PROCESS) -> Any:
    """A Lightning Fabric on the device, launched where several processes train together.

    Args:
        precision: auto, 32 or bf16; see `StepSettings`.
        device: auto (a GPU where there is one), cpu or cuda.

    Raises:
        SettingError: there is no such device.
    """
    from lightning_fabric import Fabric

    if device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device cuda is asked for, but PyTorch finds no GPU here: use device auto or cpu")
    accelerator = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(
        accelerator=accelerator,
        devices=processes.count,
        strategy="ddp" if processes.count > 1 else "auto",
        precision=_fabric_precision(precision, accelerator),
    )
    if processes.count > 1:
        fabric.launch()
    return fabric


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
    network: MultiTaskNetwork, learned: list[torch.nn.Parameter], settings: StepSettings
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
