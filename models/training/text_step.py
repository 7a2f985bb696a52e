"""A training step on texts of one task: forward, backward, Adam.

Shapes: b texts, r outputs of the encoder, c classes of the task.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.data.text_batches import TextBatch
from models.errors import SettingError
from models.networks.pretrained_encoder import PretrainedEncoder
from models.networks.text import TextNetwork
from models.settings import Settings
from models.training.fabric import Device, make_fabric
from models.training.lazy_adam import BETA1, BETA2, EPS, LazyAdam
from models.training.loop import evaluation_mode


class TextStepSettings(Settings):
    """Settings of a training step on texts."""

    learning_rate: float = Field(1e-3, gt=0, le=1000, description="highest learning rate of Adam")
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="decoupled weight decay (AdamW) of weight matrices, and of R_i towards the identity; not of "
        "biases, normalisation and a separate table of word embeddings. 0: plain Adam",
    )
    clip: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="largest norm of a step's gradient, which is scaled down to it; none: no clipping",
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description="largest number of texts per forward pass; gradients are summed. none: all of the step",
    )
    gradient_checkpointing: bool = Field(
        False,
        description="compute the layers of a pretrained encoder again in the backward pass: less memory, more time",
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "32",
        description="precision of training steps: 32 bits, bf16 autocast, or auto: bf16 if the device has units for it",
    )


class TextStep:
    """The training step of one network, which it moves to the device.

    Parameters without a gradient in a step (the heads and matrices of other tasks, and frozen parameters) do not
    change: neither by momentum nor by weight decay.

    Args:
        network: to train.
        settings: of the step.
        device: `auto` is a GPU if there is one.

    Raises:
        SettingError: there is no such device, or the encoder does not support gradient checkpointing.
    """

    def __init__(self, network: TextNetwork, settings: TextStepSettings, device: Device = "auto") -> None:
        self.network, self.settings = network, settings
        self.fabric = make_fabric(settings.precision, device)
        self.device: torch.device = self.fabric.device
        network.to(self.device)
        if settings.gradient_checkpointing:
            encoder = network.encoder
            if not isinstance(encoder, PretrainedEncoder) or not encoder.model.supports_gradient_checkpointing:
                raise SettingError(
                    "gradient_checkpointing needs a pretrained encoder that supports it: set it to false"
                )
            encoder.checkpoint_gradients()
        self.optimizer = _optimizer(network, settings)
        self.table_optimizer = LazyAdam(network.words.weight) if network.has_word_table else None

    def __call__(self, task: str, batch: TextBatch, learning_rate: float, *, seed: int, number: int) -> Tensor:
        """Make one step; the network should be in training mode.

        Args:
            task: of the batch.
            batch: on the CPU.
            learning_rate: of this step.
            seed: of the training; with `number` it decides the dropout masks.
            number: of this step in the training.

        Returns:
            The batch's mean loss before the step, in nats: () float32 on the device.
        """
        table_optimizer = self._catch_up_words(batch)
        self.optimizer.zero_grad()
        self.network.words.weight.grad = None
        loss = self._backward(task, batch, seed, number)
        self._coalesce_and_clip()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        if table_optimizer is not None:
            table_optimizer.step(learning_rate)
        return loss

    def evaluate(self, task: str, batch: TextBatch) -> Tensor:
        """Compute logits by the network in training, in evaluation mode and the steps' precision, without gradients.

        Neither gradients nor dropout masks change; missed updates of the texts' word embeddings are made.

        Args:
            task: of the batch.
            batch: b texts, on the CPU.

        Returns:
            (b, c) float32 on the device.
        """
        self._catch_up_words(batch)
        logits = []
        with evaluation_mode(self.network):
            for part in batch.split(self.settings.micro_batch or len(batch.targets)):
                part = part.to(self.device)
                with self.fabric.autocast():
                    features = self.network.features(task, part)
                logits.append(self.network.classify(task, features.float()))
        return torch.cat(logits)

    def catch_up(self) -> None:
        """Make the missed updates of all word embeddings; call it before the network or the state is read."""
        if self.table_optimizer is not None:
            self.table_optimizer.catch_up()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimisers' state as plain values and tensors; call `catch_up` first."""
        rows = None if self.table_optimizer is None else self.table_optimizer.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a `state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.table_optimizer is not None:
            self.table_optimizer.load_state_dict(state["rows"])

    def _catch_up_words(self, batch: TextBatch) -> LazyAdam | None:
        """Make the missed updates of the batch's words, and return their optimiser; None if they are not trained."""
        table_optimizer = self.table_optimizer if self.network.words.weight.requires_grad else None
        if table_optimizer is not None:
            table_optimizer.catch_up(batch.ids.unique())
        return table_optimizer

    def _backward(self, task: str, batch: TextBatch, seed: int, number: int) -> Tensor:
        total = torch.zeros((), device=self.device)
        for part_number, part in enumerate(batch.split(self.settings.micro_batch or len(batch.targets))):
            self.network.mask_source.begin_step(seed, number, part_number)
            part = part.to(self.device)
            with self.fabric.autocast():
                features = self.network.features(task, part)
            logits = self.network.classify(task, features.float())
            loss = cross_entropy(logits, part.targets, reduction="sum") / len(batch.targets)
            self.fabric.backward(loss)
            total += loss.detach()
        return total

    def _coalesce_and_clip(self) -> None:
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        table = self.network.words.weight
        if table.grad is not None and table.grad.is_sparse:
            table.grad = table.grad.coalesce()
            gradients = [gradient for gradient in gradients if not gradient.is_sparse] + [table.grad._values()]
        if self.settings.clip is not None:
            norm = torch.nn.utils.get_total_norm(gradients)
            torch._foreach_mul_(gradients, (self.settings.clip / (norm + 1e-6)).clamp(max=1.0))


@contextmanager
def frozen(parameters: Sequence[torch.nn.Parameter]) -> Iterator[None]:
    """Exclude parameters from training during the block; afterwards those trained before are trained again."""
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def _optimizer(network: TextNetwork, settings: TextStepSettings) -> torch.optim.Optimizer:
    """Create an AdamW for all parameters but a separate table of word embeddings, which `LazyAdam` updates."""
    table = network.words.weight if network.has_word_table else None
    rest = [p for p in network.parameters() if p is not table]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(BETA1, BETA2), eps=EPS, fused=True)
