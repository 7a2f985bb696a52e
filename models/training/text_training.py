"""The training loop on texts of several tasks, one task per step, with or without alignment.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), Algorithm 1. `joint` trains B, R_i and A_i in the same steps. `alternating`
trains in each epoch first all parameters but the R_i, and then, in an alignment phase, only the R_i and A_i, while B
and the embeddings are fixed.

After every epoch the loop gives its caller a state to resume from; on a CPU a resumed training gives the same bits as
one without a break. No shared random number generator is used (`models.randomness`, `models.networks.dropout`).

Shapes: n texts, b texts of a batch, l tokens, c classes of a task.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.data.text_batches import TaskBatches, TextExamples, sort_by_length
from models.errors import DivergenceError, SettingError, unknown_name
from models.evaluation.metrics import METRICS, average
from models.networks.pretrained_encoder import PretrainedEncoder
from models.networks.text import TextNetwork
from models.randomness import seed_for
from models.training.image_training import Progress
from models.training.network_state import check_resumable, copy_to_cpu, evaluation_mode
from models.training.text_step import TextStep, TextStepSettings, frozen

INFERENCE_BATCH = 128
"""Largest number of texts per batch without gradients."""

INFERENCE_TOKENS = 8_192
"""Largest number of tokens per batch without gradients, if there are several texts in it."""


_REMEDY = "lower learning_rate, lengthen warmup, set clip, or set precision to 32"


class TextTrainingSettings(TextStepSettings):
    """Settings of a training on texts. The defaults are those of sentiment analysis (word embeddings, LSTM)."""

    epochs: int = Field(20, ge=1, description="passes over the training texts")
    batch_size: int = Field(32, ge=1, description="largest number of texts per step")
    warmup: float = Field(
        0.0, ge=0, le=1, description="share of all steps during which the learning rate rises linearly"
    )
    decay: Literal["none", "linear"] = Field(
        "none", description="decay of the learning rate after the warm-up: none, or linear to zero"
    )
    schedule: Literal["joint", "alternating"] = Field(
        "joint",
        description="with alignment: joint trains the matrices R_i in the same steps as all other parameters; "
        "alternating trains them in a separate phase of each epoch, in which only R_i and the heads are trained",
    )
    alignment_share: float = Field(
        0.5, gt=0, le=1, description="alternating: steps of an alignment phase, as a share of the epoch's other steps"
    )
    freeze_shared: bool = Field(
        False, description="freeze the embeddings and the shared encoder: train only R_i and the heads"
    )
    sampling_exponent: float = Field(
        1.0,
        ge=0,
        le=1,
        description="exponent of a task's size in its share of the steps: 1 proportional to size, 0 uniform",
    )


FINE_TUNING = TextTrainingSettings(
    epochs=3,
    batch_size=16,
    learning_rate=2e-5,
    weight_decay=0.01,
    warmup=0.1,
    decay="linear",
    clip=1.0,
    precision="auto",
)
"""Settings to fine-tune a pretrained encoder (the authors' scripts for GLUE; warm-up and decay as usual for BERT)."""


@dataclass(frozen=True)
class TextEpochReport:
    """The record of one epoch. The keys of its dictionaries are tasks."""

    epoch: int  # counted from 1
    losses: dict[str, float]  # mean training loss of the steps outside the alignment phase, nats
    alignment_losses: dict[str, float]  # of the alignment phase; empty if there is none
    val_scores: dict[str, float]  # each task's metric, or the mean of its metrics
    val_mean: float  # over the tasks
    learning_rate: float  # of the last step
    padding_share: float  # of the tokens in the training batches, in [0, 1)
    seconds: float  # of the training steps
    texts_per_second: float  # of the training steps
    validation_seconds: float


@dataclass(frozen=True)
class FittedText:
    """The result: `best_state` is the network's state dict after `best_epoch`, the epoch with the best `val_mean`."""

    best_epoch: int
    best_val_mean: float
    best_state: dict[str, Tensor]
    history: tuple[TextEpochReport, ...]


OnTextEpoch = Callable[[TextEpochReport, dict[str, Any]], None]
"""Called after every epoch with its report and the state to resume from (plain values and tensors on the CPU)."""


def fit_text(  # noqa: PLR0913  what is trained by position, the rest by keyword
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
    """Train the network in place; it ends with the weights of the best epoch, in evaluation mode.

    Args:
        network: as `initial_text_network` makes it; if `state` is given, its weights are replaced.
        train: training texts of each of the network's tasks.
        val: validation texts of each task.
        settings: of the training.
        metrics: names in `models.evaluation.metrics.METRICS` by task; the best epoch is selected by their mean. None:
            accuracy for all tasks.
        seed: of order and dropout, at least 0.
        device: `auto` is a GPU if there is one.
        state: the last state that `on_epoch` received, to resume from.
        on_epoch: called after every epoch.
        progress: called after every step.

    Returns:
        The best epoch's weights and the reports of all epochs.

    Raises:
        SettingError: the data are not those of the network's tasks, a text is too long for the encoder, a setting
            needs another, or the state belongs to other settings.
        DivergenceError: a loss or an output of the network is not finite.
    """
    metrics = metrics or {task: ("accuracy",) for task in network.tasks}
    run = _Run(network, train, val, settings, metrics, seed, device)
    return run.fit(state, on_epoch, progress)


def predict_text(network: TextNetwork, task: str, examples: TextExamples) -> Tensor:
    """Predict probabilities in evaluation mode and float32, on the network's device.

    Args:
        network: trained or not; its mode does not change.
        task: one of the network's tasks.
        examples: n texts.

    Returns:
        (n, c) float32 in [0, 1], on the CPU, in the order of the texts.

    Raises:
        SettingError: the network does not have the task, has no embedding for a token, or a text is too long for it.
    """
    _check_fits(network, task, examples)
    device = network.words.weight.device
    probabilities = torch.empty(len(examples), network.tasks[task])
    size = max(1, min(INFERENCE_BATCH, INFERENCE_TOKENS // int(examples.lengths.max())))
    with evaluation_mode(network):
        for rows in sort_by_length(examples.lengths, size):
            probabilities[rows] = network(task, examples.batch(rows).to(device)).softmax(1).cpu()
    return probabilities


def learning_rate_at(step: int, total: int, settings: TextTrainingSettings) -> float:
    """Compute the learning rate of a step, counted from 0, of `total`: linear rise, then constant or linear to zero."""
    warmup = settings.warmup * total
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    factor = (total - step) / (total - warmup) if settings.decay == "linear" else 1.0
    return settings.learning_rate * factor


class _Run:
    """One training: its optimisers, its batches and its state."""

    def __init__(
        self,
        network: TextNetwork,
        train: Mapping[str, TextExamples],
        val: Mapping[str, TextExamples],
        settings: TextTrainingSettings,
        metrics: Mapping[str, Sequence[str]],
        seed: int,
        device: Literal["auto", "cpu", "cuda"],
    ) -> None:
        _check(network, train, val, settings, metrics)
        self.network, self.settings, self.metrics, self.seed = network, settings, metrics, seed
        self.val = {task: val[task] for task in network.tasks}
        self.step = TextStep(network, settings, device)
        ordered = {task: train[task] for task in network.tasks}
        self.batches = TaskBatches(ordered, settings.batch_size, settings.sampling_exponent, seed)
        self.alternating = settings.schedule == "alternating" and network.settings.alignment != "none"
        self.alignment_steps = round(settings.alignment_share * self.batches.steps_per_epoch) if self.alternating else 0
        self.alignment_batches = TaskBatches(
            ordered, settings.batch_size, settings.sampling_exponent, seed_for(seed, "alignment phase")
        )
        self.learning_rate = settings.learning_rate

    @property
    def total(self) -> int:
        """Number of steps of all epochs."""
        return self.settings.epochs * (self.batches.steps_per_epoch + self.alignment_steps)

    def fit(self, state: Mapping[str, Any] | None, on_epoch: OnTextEpoch, progress: Progress) -> FittedText:
        """Train all epochs that are left; see `fit_text`."""
        history = self.resume(state) if state is not None else []
        best = dict(state["best"]) if state is not None else {}
        for epoch in range(len(history) + 1, self.settings.epochs + 1):
            report = self._epoch(epoch, progress)
            history.append(report)
            if not best or report.val_mean > best["val_mean"]:
                best = {"epoch": epoch, "val_mean": report.val_mean, "network": copy_to_cpu(self.network.state_dict())}
            on_epoch(report, self.state(history, best))
        self.network.load_state_dict(best["network"])
        self.network.eval()
        return FittedText(best["epoch"], best["val_mean"], best["network"], tuple(history))

    def _epoch(self, epoch: int, progress: Progress) -> TextEpochReport:
        start = time.perf_counter()
        self.network.train()
        main_steps = self.batches.epoch(epoch)
        alignment_steps = self.alignment_batches.epoch(epoch)[: self.alignment_steps]
        done = (epoch - 1) * (len(main_steps) + len(alignment_steps))
        fixed = self.network.alignment_parameters() if self.alternating else []
        losses = self._phase(main_steps, fixed, done, epoch, progress)
        alignment_losses = self._phase(
            alignment_steps, self.network.shared_parameters(), done + len(main_steps), epoch, progress
        )
        train_end = time.perf_counter()
        val_scores = self._validate(epoch)
        texts = sum(len(rows) for _, rows in main_steps + alignment_steps)
        return TextEpochReport(
            epoch,
            losses,
            alignment_losses,
            val_scores,
            sum(val_scores.values()) / len(val_scores),
            self.learning_rate,
            self.batches.padding_share(main_steps),
            train_end - start,
            texts / (train_end - start),
            time.perf_counter() - train_end,
        )

    def _phase(
        self,
        steps: list[tuple[str, Tensor]],
        fixed: list[torch.nn.Parameter],
        done: int,
        epoch: int,
        progress: Progress,
    ) -> dict[str, float]:
        """Make steps in which the `fixed` parameters do not change, and return each task's mean loss."""
        losses = []
        if self.settings.freeze_shared:
            fixed = fixed + self.network.shared_parameters()
        with frozen(fixed):
            for number, (task, rows) in enumerate(steps, start=done):
                self.learning_rate = learning_rate_at(number, self.total, self.settings)
                batch = self.batches.examples[task].batch(rows)
                losses.append(self.step(task, batch, self.learning_rate, seed=self.seed, number=number))
                progress(number + 1, self.total)
        self.step.catch_up()  # the next phase reads the table, and so does validation
        return _mean_losses([task for task, _ in steps], losses, epoch)

    def _validate(self, epoch: int) -> dict[str, float]:
        scores = {}
        for task, examples in self.val.items():
            probabilities = predict_text(self.network, task, examples)
            if not probabilities.isfinite().all():
                raise DivergenceError(f"the network's outputs for {task} are not finite after epoch {epoch}: {_REMEDY}")
            scores[task] = average(self.metrics[task], examples.targets.numpy(), probabilities.numpy())
        return scores

    def state(self, history: list[TextEpochReport], best: dict[str, Any]) -> dict[str, Any]:
        """Collect the state to resume from: plain values and tensors on the CPU."""
        return {
            "determined_by": self._determinants(),
            "network": copy_to_cpu(self.network.state_dict()),
            **copy_to_cpu(self.step.state_dict()),
            "history": [dict(vars(report)) for report in history],
            "best": dict(best),
        }

    def resume(self, state: Mapping[str, Any]) -> list[TextEpochReport]:
        """Load a state to resume from, and return the reports of its epochs."""
        check_resumable(state["determined_by"], self._determinants())
        self.network.load_state_dict(state["network"])
        self.step.load_state_dict(state)
        return [TextEpochReport(**record) for record in state["history"]]

    def _determinants(self) -> dict[str, Any]:
        """Return all that the results depend on; a state is only resumed if it agrees."""
        return {
            "seed": self.seed,
            "training": self.settings.model_dump(mode="json"),
            "network": self.network.settings.model_dump(mode="json"),
            "tasks": dict(self.network.tasks),
            "metrics": {task: list(names) for task, names in self.metrics.items()},
            "number of texts": {task: len(texts) for task, texts in self.batches.examples.items()},
        }


def _mean_losses(tasks: list[str], losses: list[Tensor], epoch: int) -> dict[str, float]:
    if not losses:
        return {}
    # read once per phase: reading the loss of each step would make the host wait for the GPU
    phase_losses = torch.stack(losses).cpu()
    if not phase_losses.isfinite().all():
        step = int((~phase_losses.isfinite()).nonzero()[0, 0])
        raise DivergenceError(
            f"the loss of {tasks[step]} is not finite in epoch {epoch}, step {step + 1} of {len(losses)}: {_REMEDY}"
        )
    return {
        task: float(phase_losses[[i for i, name in enumerate(tasks) if name == task]].mean())
        for task in dict.fromkeys(tasks)
    }


def _check(
    network: TextNetwork,
    train: Mapping[str, TextExamples],
    val: Mapping[str, TextExamples],
    settings: TextTrainingSettings,
    metrics: Mapping[str, Sequence[str]],
) -> None:
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
            "with freeze_shared there is nothing to alternate with: set schedule: joint, or freeze_shared: false"
        )


def _check_fits(network: TextNetwork, task: str, examples: TextExamples) -> None:
    if task not in network.tasks:
        raise unknown_name("task", task, network.tasks)
    words, classes = network.words.num_embeddings, network.tasks[task]
    if int(examples.ids.max()) >= words:
        raise SettingError(
            f"{task} has token {int(examples.ids.max())}, but the network has embeddings for tokens 0 to {words - 1}: "
            "use the vocabulary that the network was made with"
        )
    if int(examples.targets.max()) >= classes:
        raise SettingError(
            f"{task} has class {int(examples.targets.max())}, but the network's head has classes 0 to {classes - 1}: "
            "use the classes that the network was made with"
        )
    longest = network.encoder.longest if isinstance(network.encoder, PretrainedEncoder) else None
    if longest is not None and int(examples.lengths.max()) > longest:
        raise SettingError(
            f"{task} has a text of {int(examples.lengths.max())} tokens, but the encoder takes at most {longest}: "
            "lower the maximum length"
        )
