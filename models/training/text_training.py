"""Training on texts of several tasks, one task per step, with or without alignment, by the loop in `loop`.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), Algorithm 1. `joint` trains B, R_i and A_i in the same steps. `alternating`
trains in each epoch first all parameters but the R_i, and then, in an alignment phase, only the R_i and A_i, while B
and the embeddings are fixed.

No shared random number generator is used (`models.randomness`, `models.networks.dropout`).

Shapes: n texts, b texts of a batch, l tokens, c classes of a task.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from models.augmentation.policies import NO_POLICY
from models.augmentation.word_replacement import TextPolicySettings
from models.data.text_batches import TaskBatches, TaskStep, TextExamples, sort_by_length
from models.errors import SettingError, unknown_name
from models.evaluation.metrics import average, find_metric
from models.networks.pretrained_encoder import PretrainedEncoder
from models.networks.text import TextNetwork
from models.randomness import seed_for
from models.training.fabric import Device
from models.training.loop import EpochReport, Fitted, OnEpoch, Progress, Trainer, evaluation_mode
from models.training.text_selection import TextSelection
from models.training.text_step import TextStep, TextStepSettings, frozen

INFERENCE_BATCH = 128
"""Largest number of texts per batch without gradients."""

INFERENCE_TOKENS = 8_192
"""Largest number of tokens per batch without gradients, if there are several texts in it."""


class TextTrainingSettings(TextStepSettings):
    """Settings of a training on texts. The defaults are those of sentiment analysis (word embeddings, LSTM)."""

    epochs: int = Field(20, ge=1, le=100_000, description="passes over the training texts")
    batch_size: int = Field(32, ge=1, le=1_000_000, description="largest number of texts per step")
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

    def check(self) -> None:
        """Check that the settings go together where both have an effect; raise SettingError otherwise."""
        if self.freeze_shared and self.schedule == "alternating":
            raise SettingError(
                "with freeze_shared there is nothing to alternate with: set schedule: joint, or freeze_shared: false"
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
class TextEpochReport(EpochReport):
    """The record of one epoch. The keys of its dictionaries are tasks; `val_mean` is the mean over the tasks."""

    losses: dict[str, float]  # mean training loss of the steps outside the alignment phase, nats
    alignment_losses: dict[str, float]  # of the alignment phase; empty if there is none
    val_scores: dict[str, float]  # each task's metric, or the mean of its metrics
    padding_share: float  # of the tokens in the training batches, in [0, 1)
    drawn: tuple[int, ...] = ()  # candidates with each operation of `WORD_OPERATIONS` in this epoch's selections
    chosen: tuple[int, ...] = ()  # selected candidates with each of them; both empty without a selection


def fit_text(  # noqa: PLR0913  what is trained by position, the rest by keyword
    network: TextNetwork,
    train: Mapping[str, TextExamples],
    val: Mapping[str, TextExamples],
    settings: TextTrainingSettings,
    *,
    metrics: Mapping[str, Sequence[str]] | None = None,
    policy: TextPolicySettings = NO_POLICY,
    seed: int,
    device: Device = "auto",
    state: Mapping[str, Any] | None = None,
    on_epoch: OnEpoch[TextEpochReport] = lambda report, state: None,
    progress: Progress = lambda done, total: None,
) -> Fitted[TextEpochReport]:
    """Train the network in place; it ends with the weights of the best epoch, in evaluation mode.

    Args:
        network: as `initial_text_network` makes it; if `state` is given, its weights are replaced.
        train: training texts of each of the network's tasks.
        val: validation texts of each task.
        settings: of the training.
        metrics: names in `models.evaluation.metrics.METRICS` by task; the best epoch is selected by their mean. None:
            accuracy for all tasks.
        policy: how the training texts are augmented.
        seed: of order, dropout and augmentation, at least 0.
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
    return _TextTrainer(network, train, val, settings, metrics, policy, seed, device).fit(state, on_epoch, progress)


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


class _TextTrainer(Trainer[TextEpochReport]):
    """One training: its optimisers, its batches and its phases."""

    report_type = TextEpochReport
    remedy = "lower learning_rate, lengthen warmup, set clip, or set precision to 32"
    network: TextNetwork
    settings: TextTrainingSettings
    step: TextStep

    def __init__(
        self,
        network: TextNetwork,
        train: Mapping[str, TextExamples],
        val: Mapping[str, TextExamples],
        settings: TextTrainingSettings,
        metrics: Mapping[str, Sequence[str]],
        policy: TextPolicySettings,
        seed: int,
        device: Device,
    ) -> None:
        self.network, self.settings, self.metrics, self.policy, self.seed = network, settings, metrics, policy, seed
        self._check(train, val)
        self.val = {task: val[task] for task in network.tasks}
        self.step = TextStep(network, settings, device)
        ordered = {task: train[task] for task in network.tasks}
        self.batches = TaskBatches(ordered, settings.batch_size, settings.sampling_exponent, seed)
        self.alternating = settings.schedule == "alternating" and network.settings.alignment != "none"
        self.alignment_steps = round(settings.alignment_share * self.batches.steps_per_epoch) if self.alternating else 0
        self.alignment_seed = seed_for(seed, "alignment phase")
        self.alignment_batches = TaskBatches(
            ordered, settings.batch_size, settings.sampling_exponent, self.alignment_seed
        )
        self.total_steps = settings.epochs * (self.batches.steps_per_epoch + self.alignment_steps)
        self.selection = TextSelection(self.step, policy, ordered, steps=self.total_steps)

    def train(self, epoch: int) -> tuple[int, dict[str, Any]]:
        """Train the phases of one epoch."""
        main_steps = self.batches.epoch(epoch)
        alignment_steps = self.alignment_batches.epoch(epoch)[: self.alignment_steps]
        done = (epoch - 1) * (len(main_steps) + len(alignment_steps))
        fixed = self.network.alignment_parameters() if self.alternating else []
        self.selection.begin_epoch()
        losses = self._phase(main_steps, fixed, done, epoch, self.seed)
        shared = self.network.shared_parameters()
        alignment_losses = self._phase(alignment_steps, shared, done + len(main_steps), epoch, self.alignment_seed)
        return sum(len(step.rows) for step in main_steps + alignment_steps), {
            "losses": losses,
            "alignment_losses": alignment_losses,
            "padding_share": self.batches.padding_share(main_steps),
            **self.selection.counts(),
        }

    def _phase(
        self, steps: list[TaskStep], fixed: list[torch.nn.Parameter], done: int, epoch: int, seed: int
    ) -> dict[str, float]:
        """Make steps in which the `fixed` parameters do not change, and return each task's mean loss.

        The seed is that of the phase's augmentation.
        """
        if self.settings.freeze_shared:
            fixed = fixed + self.network.shared_parameters()

        def make_step(number: int) -> Tensor:
            step = steps[number - done]
            batch = self.selection(step, seed=seed, number=number)
            return self.step(step.task, batch, self.learning_rate, seed=self.seed, number=number)

        with frozen(fixed):
            losses = self.make_steps(range(done, done + len(steps)), make_step)
        self.step.catch_up()  # the next phase reads the table, and so does validation
        if not losses:
            return {}
        tasks = [step.task for step in steps]
        values = self.read_losses(losses, epoch, tasks)
        rows = {task: [i for i, name in enumerate(tasks) if name == task] for task in dict.fromkeys(tasks)}
        return {task: float(values[steps_of_task].mean()) for task, steps_of_task in rows.items()}

    def validate(self, epoch: int) -> tuple[dict[str, float], float]:
        """Score each task on its validation texts."""
        scores = {}
        for task, examples in self.val.items():
            probabilities = predict_text(self.network, task, examples)
            self.check_outputs(probabilities, epoch, task)
            scores[task] = average(self.metrics[task], examples.targets.numpy(), probabilities.numpy())
        return scores, sum(scores.values()) / len(scores)

    def determinants(self) -> dict[str, Any]:
        """Return all that the results depend on; a state is only resumed if it agrees."""
        return {
            "seed": self.seed,
            "training": self.settings.model_dump(mode="json"),
            "network": self.network.settings.model_dump(mode="json"),
            "tasks": dict(self.network.tasks),
            "metrics": {task: list(names) for task, names in self.metrics.items()},
            "number of texts": {task: len(texts) for task, texts in self.batches.examples.items()},
            **({} if self.policy == NO_POLICY else {"policy": self.policy.model_dump(mode="json")}),
        }

    def _check(self, train: Mapping[str, TextExamples], val: Mapping[str, TextExamples]) -> None:
        tasks = self.network.tasks
        for what, given in (("training texts", train), ("validation texts", val), ("metrics", self.metrics)):
            if set(given) != set(tasks):
                raise SettingError(
                    f"{what} are given for {', '.join(sorted(given))}; the network's tasks are "
                    f"{', '.join(sorted(tasks))}"
                )
        for task, classes in tasks.items():
            _check_fits(self.network, task, train[task])
            _check_fits(self.network, task, val[task])
            for name in self.metrics[task]:
                if find_metric(name).name == "f1" and classes != 2:
                    raise SettingError(f"f1 is for two classes; {task} has {classes}: choose accuracy")
        self.settings.check()
        if self.policy != NO_POLICY and isinstance(self.network.encoder, PretrainedEncoder):
            raise SettingError(
                f"policy {self.policy.name} replaces words, but a pretrained encoder reads subwords: set policy none, "
                "or take an encoder over words: lstm, cnn or mlp"
            )


def _check_fits(network: TextNetwork, task: str, examples: TextExamples) -> None:
    if task not in network.tasks:
        raise unknown_name("task", task, network.tasks)
    words, classes = network.words.num_embeddings, network.tasks[task]
    token, target, length = (int(numbers.max()) for numbers in (examples.ids, examples.targets, examples.lengths))
    if token >= words:
        raise SettingError(
            f"{task} has token {token}, but the network has embeddings for tokens 0 to {words - 1}: "
            "use the vocabulary that the network was made with"
        )
    if target >= classes:
        raise SettingError(
            f"{task} has class {target}, but the network's head has classes 0 to {classes - 1}: "
            "use the classes that the network was made with"
        )
    longest = network.encoder.longest if isinstance(network.encoder, PretrainedEncoder) else None
    if longest is not None and length > longest:
        raise SettingError(
            f"{task} has a text of {length} tokens, but the encoder takes at most {longest}: lower the maximum length"
        )
