"""Training on texts of several tasks, one task per step, with alignment or without.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), Algorithm 1. `joint` trains B, R_i and A_i together. `alternating` takes
turns: an epoch of ordinary steps on all but the R_i, then an alignment phase, in which B and the embeddings are fixed
and R_i and A_i alone are learned.

After every epoch it hands over a state from which it continues, on a CPU to the same bits as without a break. Nothing
here touches a generator of random numbers that others draw from (`models.randomness`, `models.networks.dropout`).

Shapes: n texts, b texts of a batch, l tokens, c classes of a task.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.data.text_batches import TaskBatches, TextExamples, by_length
from models.errors import DivergenceError, SettingError, unknown_name
from models.evaluation.metrics import METRICS, average
from models.networks.pretrained_encoder import PretrainedEncoder
from models.networks.text import TextNetwork
from models.randomness import seed_for
from models.training.image_training import Progress, _evaluating, _on_cpu
from models.training.text_step import TextStep, TextStepSettings, frozen

INFERENCE_BATCH = 128
"""Texts per batch without gradients, at most."""

INFERENCE_TOKENS = 8_192
"""Tokens per batch without gradients, at most, of long texts."""


class TextTrainingSettings(TextStepSettings):
    """How long and how fast to train on texts. The first values are those of sentiment (words, LSTM)."""

    epochs: int = Field(20, ge=1, description="passes over the training texts")
    batch_size: int = Field(32, ge=1, description="texts per step, at most")
    warmup: float = Field(0.0, ge=0, le=1, description="share of all steps over which the learning rate rises linearly")
    decay: Literal["none", "linear"] = Field(
        "none", description="of the learning rate after the warm-up: none, or linear to zero"
    )
    schedule: Literal["joint", "alternating"] = Field(
        "joint",
        description="with alignment: joint trains R_i with all else; alternating adds a phase to each epoch in which "
        "R_i and the heads alone are trained, and R_i stands still otherwise",
    )
    alignment_share: float = Field(
        0.5, gt=0, le=1, description="steps of an alignment phase, as a share of the epoch's (alternating)"
    )
    freeze_shared: bool = Field(
        False, description="keep the embeddings and the shared encoder as they are: train R_i and heads alone"
    )
    sampling_exponent: float = Field(
        1.0,
        ge=0,
        le=1,
        description="of a task's size in its share of the steps: 1 by size, 0 uniform, between: tempered",
    )


FINE_TUNING = TextTrainingSettings(
    epochs=3, batch_size=16, learning_rate=2e-5, weight_decay=0.01, warmup=0.1, decay="linear", clip=1.0,
    precision="auto",
)  # fmt: skip
"""For a pretrained encoder (papers.md: the authors' scripts for GLUE; warm-up and decay as is usual for BERT)."""


@dataclass(frozen=True)
class TextEpochReport:
    """What an epoch did. Dictionaries are by task."""

    epoch: int  # counted from 1
    losses: dict[str, float]  # mean training loss of the ordinary steps, nats
    alignment_losses: dict[str, float]  # of the alignment phase; empty where there is none
    val_scores: dict[str, float]  # each task's metric, or the mean of its metrics
    val_mean: float  # over the tasks
    learning_rate: float  # of the last step
    padding_share: float  # of the training batches' places, in [0, 1)
    seconds: float  # training steps alone
    texts_per_second: float  # of the training steps
    validation_seconds: float


@dataclass(frozen=True)
class FittedText:
    """The outcome: `best_state` is the network's state dict after `best_epoch`, by `val_mean`."""

    best_epoch: int
    best_val_mean: float
    best_state: dict[str, Tensor]
    history: tuple[TextEpochReport, ...]


OnTextEpoch = Callable[[TextEpochReport, dict[str, Any]], None]
"""Called after every epoch with its report and the state to resume from (plain values and tensors on the CPU)."""


def fit_text(
    network: TextNetwork,
    train: Mapping[str, TextExamples],
    val: Mapping[str, TextExamples],
    settings: TextTrainingSettings,
    *,
    metrics: Mapping[str, Sequence[str]] | None = None,
    seed: int,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    state: Mapping[str, Any] | None = None,
    on_epoch: OnTextEpoch = lambda report, state: None,
    progress: Progress = lambda done, total: None,
) -> FittedText:
    """Trains the network in place; it ends with the weights of the best epoch, in evaluation mode.

    Args:
        network: as `initial_text_network` makes it; with `state`, its weights are replaced.
        train, val: the texts of each of the network's tasks.
        metrics: names in `models.evaluation.metrics.METRICS` by task, by whose mean epochs are chosen; none: accuracy for all.
        seed: decides order and dropout, at least 0.
        state: what `on_epoch` was given last, to continue from there.

    Raises:
        SettingError: the data are not those of the network's tasks, a text is too long for the encoder, a setting
            needs another, or the state belongs to other settings.
        DivergenceError: a loss is not finite.
    """
    chosen = metrics or {task: ("accuracy",) for task in network.tasks}
    run = _Run(network, train, val, settings, chosen, seed, device)
    return run.fit(state, on_epoch, progress)


def predict_text(network: TextNetwork, task: str, examples: TextExamples) -> Tensor:
    """Probabilities in evaluation mode and float32, on the device where the network lies: (n, c) on the CPU.

    Raises:
        SettingError: the network does not know the task, or has no embedding or place for a token.
    """
    _check_fits(network, task, examples)
    device = network.words.weight.device
    found = torch.empty(len(examples), network.tasks[task])
    size = max(1, min(INFERENCE_BATCH, INFERENCE_TOKENS // int(examples.lengths.max())))
    with _evaluating(network):
        for rows in by_length(examples.lengths, size):
            found[rows] = network(task, examples.batch(rows).to(device)).softmax(1).cpu()
    return found


def learning_rate_at(step: int, total: int, settings: TextTrainingSettings) -> float:
    """The learning rate of a step, counted from 0, out of `total`."""
    rising = settings.warmup * total
    if step < rising:
        return settings.learning_rate * (step + 1) / (rising + 1)
    left = (total - step) / (total - rising) if settings.decay == "linear" else 1.0
    return settings.learning_rate * left


class _Run:
    """One training: its optimisers, its batches, and where it has got to."""

    def __init__(
        self, network: TextNetwork, train: Mapping[str, TextExamples], val: Mapping[str, TextExamples],
        settings: TextTrainingSettings, metrics: Mapping[str, Sequence[str]], seed: int,
        device: Literal["auto", "cpu", "cuda"],
    ) -> None:  # fmt: skip
        _check(network, train, val, settings, metrics)
        self.network, self.settings, self.metrics, self.seed = network, settings, metrics, seed
        self.val = {task: val[task] for task in network.tasks}
        self.step = TextStep(network, settings, device)
        own = {task: train[task] for task in network.tasks}
        self.batches = TaskBatches(own, settings.batch_size, settings.sampling_exponent, seed)
        self.alternates = settings.schedule == "alternating" and network.settings.alignment != "none"
        self.aligning = round(settings.alignment_share * self.batches.steps_per_epoch) if self.alternates else 0
        self.alignment_batches = TaskBatches(
            own, settings.batch_size, settings.sampling_exponent, seed_for(seed, "alignment phase")
        )
        self.learning_rate = settings.learning_rate

    @property
    def total(self) -> int:
        """Steps of all epochs."""
        return self.settings.epochs * (self.batches.steps_per_epoch + self.aligning)

    def fit(self, state: Mapping[str, Any] | None, on_epoch: OnTextEpoch, progress: Progress) -> FittedText:
        history = self.resume(state) if state is not None else []
        best = dict(state["best"]) if state is not None else {}
        for epoch in range(len(history) + 1, self.settings.epochs + 1):
            report = self._epoch(epoch, progress)
            history.append(report)
            if not best or report.val_mean > best["val_mean"]:
                best = {"epoch": epoch, "val_mean": report.val_mean, "network": _on_cpu(self.network.state_dict())}
            on_epoch(report, self.state(history, best))
        self.network.load_state_dict(best["network"])
        self.network.eval()
        return FittedText(best["epoch"], best["val_mean"], best["network"], tuple(history))

    def _epoch(self, epoch: int, progress: Progress) -> TextEpochReport:
        begun = time.perf_counter()
        self.network.train()
        ordinary = self.batches.epoch(epoch)
        aligning = self.alignment_batches.epoch(epoch)[: self.aligning]
        done = (epoch - 1) * (len(ordinary) + len(aligning))
        held = self.network.alignment_parameters() if self.alternates else []
        losses = self._phase(ordinary, held, done, epoch, progress)
        alignment_losses = self._phase(
            aligning, self.network.shared_parameters(), done + len(ordinary), epoch, progress
        )
        trained = time.perf_counter()
        val_scores = self._validate(epoch)
        texts = sum(len(rows) for _, rows in ordinary + aligning)
        return TextEpochReport(
            epoch, losses, alignment_losses, val_scores, sum(val_scores.values()) / len(val_scores),
            self.learning_rate, self.batches.padding_share(ordinary), trained - begun, texts / (trained - begun),
            time.perf_counter() - trained,
        )  # fmt: skip

    def _phase(
        self, steps: list[tuple[str, Tensor]], held: list[torch.nn.Parameter], done: int, epoch: int, progress: Progress
    ) -> dict[str, float]:
        """Steps in which the held parameters stand still; returns each task's mean loss."""
        losses = []
        if self.settings.freeze_shared:
            held = held + self.network.shared_parameters()
        with frozen(held):
            for number, (task, rows) in enumerate(steps, start=done):
                self.learning_rate = learning_rate_at(number, self.total, self.settings)
                batch = self.batches.examples[task].batch(rows)
                losses.append(self.step(task, batch, self.learning_rate, seed=self.seed, number=number))
                progress(number + 1, self.total)
        self.step.catch_up()  # the next phase reads the table, and so does validation
        return _mean_losses([task for task, _ in steps], losses, epoch)

    def _validate(self, epoch: int) -> dict[str, float]:
        found = {}
        for task, examples in self.val.items():
            probabilities = predict_text(self.network, task, examples)
            if not probabilities.isfinite().all():
                raise DivergenceError(f"the network's outputs for {task} are not finite after epoch {epoch}: {_CALM}")
            found[task] = average(self.metrics[task], examples.targets.numpy(), probabilities.numpy())
        return found

    def state(self, history: list[TextEpochReport], best: dict[str, Any]) -> dict[str, Any]:
        return {
            "determined_by": self._determined_by(),
            "network": _on_cpu(self.network.state_dict()),
            **_on_cpu(self.step.state_dict()),
            "history": [dict(vars(report)) for report in history],
            "best": dict(best),
        }

    def resume(self, state: Mapping[str, Any]) -> list[TextEpochReport]:
        """Takes up a state; returns the reports of the epochs that are done."""
        ours = self._determined_by()
        if state["determined_by"] != ours:
            changed = [name for name, value in state["determined_by"].items() if value != ours.get(name)]
            raise SettingError(
                f"the state to resume from was made with another {', '.join(changed)}: "
                "go back to the settings it was made with, or begin anew"
            )
        self.network.load_state_dict(state["network"])
        self.step.load_state_dict(state)
        return [TextEpochReport(**record) for record in state["history"]]

    def _determined_by(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "training": self.settings.model_dump(mode="json"),
            "network": self.network.settings.model_dump(mode="json"),
            "tasks": dict(self.network.tasks),
            "metrics": {task: list(names) for task, names in self.metrics.items()},
            "number of texts": {task: len(texts) for task, texts in self.batches.examples.items()},
        }


_CALM = "lower learning_rate, lengthen warmup, set clip, or set precision to 32"


def _mean_losses(tasks: list[str], losses: list[Tensor], epoch: int) -> dict[str, float]:
    if not losses:
        return {}
    every = torch.stack(losses).cpu()  # once a phase: a GPU need not wait for a step
    if not every.isfinite().all():
        step = int((~every.isfinite()).nonzero()[0, 0])
        raise DivergenceError(
            f"the loss of {tasks[step]} is not finite in epoch {epoch}, step {step + 1} of {len(losses)}: {_CALM}"
        )
    return {
        task: float(every[[i for i, name in enumerate(tasks) if name == task]].mean()) for task in dict.fromkeys(tasks)
    }


def _check(
    network: TextNetwork, train: Mapping[str, TextExamples], val: Mapping[str, TextExamples],
    settings: TextTrainingSettings, metrics: Mapping[str, Sequence[str]],
) -> None:  # fmt: skip
    for what, given in (("training texts", train), ("validation texts", val), ("metrics", metrics)):
        if set(given) != set(network.tasks):
            raise SettingError(
                f"{what} are given for {', '.join(sorted(given))}; the network's tasks are "
                f"{', '.join(sorted(network.tasks))}"
            )
    for task in network.tasks:
        _check_fits(network, task, train[task])
        _check_fits(network, task, val[task])
        for name in metrics[task]:
            if name not in METRICS:
                raise unknown_name("metric", name, METRICS)
            if name == "f1" and network.tasks[task] != 2:
                raise SettingError(f"f1 is for two classes; {task} has {network.tasks[task]}: choose accuracy")
    if settings.freeze_shared and settings.schedule == "alternating":
        raise SettingError(
            "freeze_shared leaves nothing to alternate with: set schedule: joint, or freeze_shared: false"
        )


def _check_fits(network: TextNetwork, task: str, examples: TextExamples) -> None:
    if task not in network.tasks:
        raise unknown_name("task", task, network.tasks)
    words, classes = network.words.num_embeddings, network.tasks[task]
    if int(examples.ids.max()) >= words:
        raise SettingError(
            f"{task} has token {int(examples.ids.max())}, the network embeddings for 0 to {words - 1}: "
            "use the vocabulary that the network was made for"
        )
    if int(examples.targets.max()) >= classes:
        raise SettingError(f"{task} has class {int(examples.targets.max())}, the network's head only {classes} classes")
    longest = network.encoder.longest if isinstance(network.encoder, PretrainedEncoder) else None
    if longest is not None and int(examples.lengths.max()) > longest:
        raise SettingError(
            f"{task} has a text of {int(examples.lengths.max())} tokens, the encoder takes {longest} at most: "
            "lower the maximum length"
        )
