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
from models.training.image_step import make_fabric
from models.training.lazy_adam import BETA1, BETA2, EPS, LazyAdam


class TextStepSettings(Settings):
    """What a step does with a batch of texts."""

    learning_rate: float = Field(1e-3, gt=0, description="highest learning rate of Adam")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="decoupled decay (AdamW) of weight matrices, and of R_i towards the identity; "
        "not of biases, normalisation and word embeddings beside the encoder. 0: plain Adam",
    )
    clip: float | None = Field(None, gt=0, description="largest norm of a step's gradient; none: any")
    micro_batch: int | None = Field(
        None, ge=1, description="texts per forward pass, at most, gradients being summed; none: the whole step's"
    )
    gradient_checkpointing: bool = Field(
        False, description="compute a pretrained encoder's layers again in the backward pass: less memory, more time"
    )
    precision: Literal["auto", "32", "bf16"] = Field(
        "32", description="of training steps: 32 bits, bf16 autocast, or auto: bf16 where the device has units for it"
    )


class TextStep:
    """The step of one network, which it moves to the device. What has no gradient in a step (another task's head and
    matrix, and what stands still) is passed by: neither momentum nor decay moves it.

    Args:
        device: `auto` is a GPU where there is one.

    Raises:
        SettingError: there is no such device, or the encoder cannot compute its layers again.
    """

    def __init__(
        self, network: TextNetwork, settings: TextStepSettings, device: Literal["auto", "cpu", "cuda"] = "auto"
    ) -> None:
        self.network, self.settings = network, settings
        self.fabric = make_fabric(settings.precision, device)
        self.device: torch.device = self.fabric.device
        network.to(self.device)
        if settings.gradient_checkpointing:
            _checkpoint_gradients(network)
        self.optimizer = _optimizer(network, settings)
        self.rows = LazyAdam(network.words.weight) if network.has_own_words else None

    def __call__(self, task: str, batch: TextBatch, learning_rate: float, *, seed: int, number: int) -> Tensor:
        """Makes the step; the network should be in training mode.

        Args:
            batch: on the CPU.
            seed, number: of the training and of this step in it; they decide the dropout.

        Returns:
            The batch's mean loss before the step, in nats: () float32 on the device.
        """
        table = self.network.words.weight
        moving_rows = self.rows if table.requires_grad else None
        if moving_rows is not None:
            moving_rows.catch_up(batch.ids.unique())
        self.optimizer.zero_grad()
        table.grad = None
        loss = self._backward(task, batch, seed, number)
        self._coalesce_and_clip()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        if moving_rows is not None:
            moving_rows.step(learning_rate)
        return loss

    def catch_up(self) -> None:
        """Brings all word embeddings to the present step; before anyone reads the network or the state."""
        if self.rows is not None:
            self.rows.catch_up()

    def state_dict(self) -> dict[str, Any]:
        """The optimisers' state, plain values and tensors; `catch_up` first."""
        rows = None if self.rows is None else self.rows.state_dict()
        return {"optimizer": self.optimizer.state_dict(), "rows": rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rows is not None:
            self.rows.load_state_dict(state["rows"])

    def _backward(self, task: str, batch: TextBatch, seed: int, number: int) -> Tensor:
        whole = torch.zeros((), device=self.device)
        for place, part in enumerate(batch.split(self.settings.micro_batch or len(batch.targets))):
            self.network.draws.begin(seed, number, place)
            there = part.to(self.device)
            with self.fabric.autocast():
                features = self.network.features(task, there)
            logits = self.network.classify(task, features.float())
            loss = cross_entropy(logits, there.targets, reduction="sum") / len(batch.targets)
            self.fabric.backward(loss)
            whole += loss.detach()
        return whole

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
    """Inside, these get no gradient, so that steps pass them by; outside, those that had one do again."""
    moving = [p for p in parameters if p.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def _checkpoint_gradients(network: TextNetwork) -> None:
    encoder = network.encoder
    if not isinstance(encoder, PretrainedEncoder) or not encoder.can_checkpoint_gradients:
        raise SettingError("gradient_checkpointing is for pretrained encoders that support it: set it to false")
    encoder.checkpoint_gradients()


def _optimizer(network: TextNetwork, settings: TextStepSettings) -> torch.optim.Optimizer:
    """AdamW for all but a table of words beside the encoder, which `LazyAdam` moves."""
    table = network.words.weight if network.has_own_words else None
    rest = [p for p in network.parameters() if p is not table]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(BETA1, BETA2), eps=EPS, fused=True)
