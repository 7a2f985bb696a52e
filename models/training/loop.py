"""The training loop for every kind of data: epochs, schedule, validation, the best epoch, and the state to resume from.

A kind of data is a subclass of `Trainer`, which makes the steps of an epoch and scores the validation data. After every
epoch the loop gives its caller a state to resume from; on a CPU a resumed training gives the same bits as one without
a break. Nothing here draws random numbers.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor

from models.errors import DivergenceError, SettingError

Part = Literal["input", "selection", "forward", "backward", "optimiser", "logging", "validation", "weighting"]

Clock = Callable[[Part], AbstractContextManager[object]]
"""Returns the context in which a part of training runs. Parts do not overlap; one may run several times in a step."""

Progress = Callable[[int, int], None]
"""Called after every step with the number of steps done and the total."""

_NULL_CONTEXT = nullcontext()


def untimed(part: Part) -> AbstractContextManager[object]:
    """Return a context that does nothing: a `Clock` that measures no time."""
    return _NULL_CONTEXT


@dataclass(frozen=True)
class EpochReport:
    """The record of one epoch: what every kind of data has."""

    epoch: int  # counted from 1
    val_mean: float  # of the validation scores that have a value; nan if none has
    learning_rate: float  # of the last step
    seconds: float  # of the training steps
    items_per_second: float  # images or texts in the training steps
    validation_seconds: float


Report = TypeVar("Report", bound=EpochReport)
Result = TypeVar("Result")

OnEpoch = Callable[[Report, dict[str, Any]], None]
"""Called after every epoch with its report and the state to resume from (plain values and tensors on the CPU)."""


@dataclass(frozen=True)
class Fitted(Generic[Report]):
    """The result: `best_state` is the state dict after `best_epoch`, the epoch with the best `val_mean`."""

    best_epoch: int
    best_val_mean: float
    best_state: dict[str, Tensor]
    history: tuple[Report, ...]


def learning_rate_at(step: int, total: int, settings: Any) -> float:
    """Compute the learning rate of a step.

    It rises linearly during the warm-up. Then it is constant, or falls to zero: linearly, or as half a cosine.

    Args:
        step: counted from 0.
        total: number of steps of the training.
        settings: have `learning_rate`, the highest; `warmup`, a share of the steps; `decay`: none, linear or cosine.
    """
    warmup = settings.warmup * total
    if step < warmup:
        return settings.learning_rate * (step + 1) / (warmup + 1)
    if settings.decay == "cosine":
        return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    return settings.learning_rate * ((total - step) / (total - warmup) if settings.decay == "linear" else 1.0)


class Trainer(ABC, Generic[Report]):
    """One training. A subclass sets the attributes that are only annotated here, and says what an epoch does."""

    report_type: type[Report]
    remedy: str  # for a loss that is not finite
    network: torch.nn.Module
    settings: Any  # with `epochs`, and what `learning_rate_at` needs
    step: Any  # with `state_dict` and `load_state_dict`: all that a training changes but the network
    total_steps: int
    higher_is_better = True
    learning_rate: float  # of the current step
    clock: Clock

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that is validated and kept."""
        return self.network

    def begin(self, epochs: int, *, resumed: bool) -> None:
        """Prepare for the epochs that are left; do nothing by default."""
        return None

    @abstractmethod
    def train(self, epoch: int) -> tuple[int, dict[str, Any]]:
        """Train an epoch by `make_steps`; return its number of items, and fields of the report."""

    @abstractmethod
    def validate(self, epoch: int) -> tuple[Any, float]:
        """Return the validation scores as the report holds them, and their mean: nan if none has a value."""

    def end_epoch(self, epoch: int) -> dict[str, Any]:
        """React to the end of an epoch; return fields of the report, none by default."""
        return {}

    @abstractmethod
    def determinants(self) -> dict[str, Any]:
        """Return all that the results depend on; a state is only resumed if it agrees."""

    def fit(
        self,
        state: Mapping[str, Any] | None,
        on_epoch: OnEpoch[Report],
        progress: Progress,
        clock: Clock = untimed,
    ) -> Fitted[Report]:
        """Train all epochs that are left; see `models.training.image_training.fit`."""
        self.clock, self._progress = clock, progress
        history = self._resume(state) if state is not None else []
        best = _with_current_names(state["best"]) if state is not None else {}
        self.begin(self.settings.epochs - len(history), resumed=state is not None)
        for epoch in range(len(history) + 1, self.settings.epochs + 1):
            report = self._epoch(epoch)
            history.append(report)
            if not best or self._is_better(report.val_mean, best["val_mean"]):
                weights = copy_to_cpu(self.evaluated.state_dict())
                best = {"epoch": epoch, "val_mean": report.val_mean, "network": weights}
            with clock("logging"):
                on_epoch(report, self._state(history, best))
        self.network.load_state_dict(best["network"])
        self.network.eval()
        return Fitted(best["epoch"], best["val_mean"], best["network"], tuple(history))

    def make_steps(self, numbers: range, step: Callable[[int], Result]) -> list[Result]:
        """Make the steps of these numbers, counted from 0 in the whole training, and return their results."""
        results = []
        for number in numbers:
            self.learning_rate = learning_rate_at(number, self.total_steps, self.settings)
            results.append(step(number))
            start = time.perf_counter()
            with self.clock("logging"):
                self._progress(number + 1, self.total_steps)
            # it may wait for other trainings, which does not count as training time
            self._progress_seconds += time.perf_counter() - start
        return results

    def read_losses(self, losses: Sequence[Tensor], epoch: int, names: Sequence[str] = ()) -> Tensor:
        """Return the steps' losses as one tensor on the CPU; raise a DivergenceError if one is not finite.

        Call it once for many steps: reading the loss of each step would make the host wait for the GPU.
        """
        values = torch.stack(list(losses)).cpu()
        infinite = (~values.isfinite()).nonzero()
        if len(infinite):
            step = int(infinite[0, 0])
            of = f" of {names[step]}" if names else ""
            place = f"epoch {epoch}, step {step + 1} of {len(losses)}"
            raise DivergenceError(f"the loss{of} is not finite in {place}: {self.remedy}")
        return values

    def check_outputs(self, outputs: Tensor, epoch: int, name: str = "") -> None:
        """Raise a DivergenceError if an output of the network (for the task `name`) is not finite."""
        if not outputs.isfinite().all():
            of = f" for {name}" if name else ""
            raise DivergenceError(f"the network's outputs{of} are not finite after epoch {epoch}: {self.remedy}")

    def _epoch(self, epoch: int) -> Report:
        self._progress_seconds = 0.0
        start = time.perf_counter()
        self.network.train()
        items, fields = self.train(epoch)
        train_end = time.perf_counter()
        seconds = train_end - start - self._progress_seconds
        with self.clock("validation"):
            scores, mean = self.validate(epoch)
        fields |= {"validation_seconds": time.perf_counter() - train_end, "val_scores": scores, "val_mean": mean}
        fields |= {"seconds": seconds, "items_per_second": items / seconds, "learning_rate": self.learning_rate}
        return self.report_type(epoch=epoch, **fields, **self.end_epoch(epoch))

    def _is_better(self, mean: float, best: float) -> bool:
        """Compare an epoch with the best one before; if no epoch has a score, the last one is selected."""
        return math.isnan(best) or (mean > best if self.higher_is_better else mean < best)

    def _state(self, history: list[Report], best: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "determined_by": self.determinants(),
            "network": copy_to_cpu(self.network.state_dict()),
            **copy_to_cpu(self.step.state_dict()),
            "history": [dict(vars(report)) for report in history],
            "best": best,
        }

    def _resume(self, state: Mapping[str, Any]) -> list[Report]:
        """Load a state to resume from, and return the reports of its epochs."""
        saved, current = state["determined_by"], self.determinants()
        if saved != current:
            changed = [name for name in {**saved, **current} if saved.get(name) != current.get(name)]
            raise SettingError(
                f"the state to resume from was made with another {', '.join(changed)}: "
                "use the settings it was made with, or start a new training"
            )
        self.network.load_state_dict(state["network"])
        self.step.load_state_dict(state)
        return [self.report_type(**_with_current_names(record)) for record in state["history"]]


_FORMER_NAMES = {
    "val_auc": "val_scores",
    "val_mean_auc": "val_mean",
    "images_per_second": "items_per_second",
    "texts_per_second": "items_per_second",
}
"""Names in the states of versions in which images and texts had a loop each."""


def _with_current_names(record: Mapping[str, Any]) -> dict[str, Any]:
    return {_FORMER_NAMES.get(name, name): value for name, value in record.items()}


@contextmanager
def evaluation_mode(network: torch.nn.Module) -> Iterator[None]:
    """Put the network into evaluation mode without gradients during the block; each part gets its mode back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def copy_to_cpu(tree: Any) -> Any:
    """Copy nested dictionaries and lists, with every tensor copied to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: copy_to_cpu(value) for key, value in tree.items()}
    return [copy_to_cpu(value) for value in tree] if isinstance(tree, list) else tree
