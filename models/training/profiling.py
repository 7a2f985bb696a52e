"""Where the time of a training goes, and the least that a step of its network could take on the same device.

The floor is a roofline (Williams, Waterman, Patterson: Roofline, CACM 2009): a step does so many operations and moves
so many bytes, and the device has a best rate of either, measured here by a matrix product in the step's precision and
by a copy within its memory. Had it nothing to do but these, and did both at once, it would take the longer of the two
times. The bytes are those that nobody can save who keeps what the backward pass needs: parameters, gradients,
optimiser state and saved activations, each written and read as often as the step must. Intermediate results that are
not kept are not counted. What stays in a cache between two uses moves faster than counted: where a whole step fits
into the caches, as small networks do on a CPU, only the operations are a true floor.

Shapes: n images, b images of a batch, s x s pixels, k labels.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from models.data.image_batches import Examples, steps_per_epoch
from models.networks.multitask import MultiTaskNetwork
from models.training.image_step import Batch, Part, Step
from models.training.image_training import EpochReport, OnEpoch, Progress, TrainingSettings, fit
from models.weighting.registry import UniformSettings, Weighting, make_weighting

_STEP: tuple[Part, ...] = ("input", "forward", "backward", "optimiser")
_TRIALS, _TRIAL_SECONDS = 5, 0.1  # of each measurement of the device; the best one counts
_PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}  # of square matrices
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # many times the caches


@dataclass(frozen=True)
class Row:
    """A part of training."""

    part: str
    seconds: float  # per step
    share: float  # of all parts together


@dataclass(frozen=True)
class Limits:
    """What a device does at best, measured."""

    operations_per_second: float  # a multiplication and an addition are two
    bytes_per_second: float  # read and written, together
    precision: str  # of the operations: float32 or bfloat16


@dataclass(frozen=True)
class Floor:
    """The least of a step."""

    operations: float  # of the forward and the backward pass
    bytes: float
    limits: Limits

    @property
    def operation_seconds(self) -> float:
        """For the operations alone."""
        return self.operations / self.limits.operations_per_second

    @property
    def byte_seconds(self) -> float:
        """For the bytes alone."""
        return self.bytes / self.limits.bytes_per_second

    @property
    def seconds(self) -> float:
        """For both at once."""
        return max(self.operation_seconds, self.byte_seconds)


@dataclass(frozen=True)
class Profile:
    """Where the time of a training went.

    `rows`: input (rows, gathering, augmentation), forward, backward (with the weighting's part in it), optimiser, rest
    (of the step), logging (what the caller does after steps and epochs), validation and weighting (between epochs, per
    step). On a GPU they are timed by waiting for it before and after each, so that they add up to more than a step
    takes that is left alone; that is `step_seconds`, without what comes between epochs.
    """

    rows: tuple[Row, ...]
    step_seconds: float
    images: float  # per step, mean
    floor: Floor

    @property
    def of_floor(self) -> float:
        """How many times the floor a step takes."""
        return self.step_seconds / self.floor.seconds


def profile(
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    val: Examples,
    settings: TrainingSettings,
    *,
    seed: int,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    on_epoch: OnEpoch = lambda report, state: None,
    progress: Progress = lambda done, total: None,
) -> Profile:
    """Trains a copy of the network as `fit` would, and says where the time went.

    The first epoch warms up; of the others every second one is left alone, to know what a step takes without a clock.
    Three epochs are enough, unless the weighting is to act later.

    Args:
        weighting: at its start; it is trained too.
        on_epoch, progress: as for `fit`; their time is the row `logging`.

    Raises:
        SettingError: as `fit`; also where several devices are asked for.
    """
    clock = _Clock(settings.epochs)
    reports: list[EpochReport] = []

    def ended(report: EpochReport, state: dict[str, Any]) -> None:
        on_epoch(report, state)
        reports.append(report)
        clock.epoch += 1

    fit(
        deepcopy(network), weighting, train, val, settings,
        seed=seed, device=device, on_epoch=ended, progress=progress, clock=clock,
    )  # fmt: skip
    steps = steps_per_epoch(len(train), settings.batch_size)
    free = [report.seconds for report in reports if report.epoch > 1 and not clock.times(report.epoch)]
    timed = [report.seconds for report in reports if clock.times(report.epoch)]
    unit = steps * len(timed)
    spent: dict[str, float] = {part: clock.spent[part] / unit for part in _STEP}
    in_step = sum(spent.values()) + clock.spent["logging in a step"] / unit
    spent["rest"] = max(0.0, sum(timed) / unit - in_step)
    spent["logging"] = (clock.spent["logging in a step"] + clock.spent["logging of an epoch"]) / unit
    spent["validation"] = sum(report.validation_seconds for report in reports) / (steps * len(reports))
    spent["weighting"] = sum(report.weighting_seconds for report in reports) / (steps * len(reports))
    whole = sum(spent.values())
    return Profile(
        tuple(Row(part, seconds, seconds / whole) for part, seconds in spent.items()),
        sum(free or timed) / (steps * len(free or timed)),
        len(train) / steps,
        floor(network, train, settings, device=device),
    )


def floor(
    network: MultiTaskNetwork,
    train: Examples,
    settings: TrainingSettings,
    *,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Floor:
    """The least that a step of mean size could take, under uniform weights, on the device as it is now (seconds).

    The network and the examples stay as they are.
    """
    images = len(train) / steps_per_epoch(len(train), settings.batch_size)
    step = Step(deepcopy(network), make_weighting(UniformSettings(), len(network.labels)), settings, device)
    step.network.train()
    some = slice(0, min(int(images), settings.micro_batch or int(images)))
    batch = Batch(train.pixels[some].to(step.device), train.targets[some].to(step.device))
    operations, activations = _operations_and_activations(step, batch)
    per_image = images / len(batch.pixels)
    parameters = sum(_bytes(p) for p in step.network.parameters())
    state = sum(_bytes(t) for of_one in step.optimizer.state.values() for t in of_one.values() if isinstance(t, Tensor))
    # parameters: read forward, backward and by the optimiser, which writes them; gradients: written, read
    moved = 6 * parameters + 2 * state + 2 * activations * per_image + _bytes(batch.pixels) * per_image
    with step.fabric.autocast():
        mixed = torch.is_autocast_enabled(step.device.type)
        precision = torch.get_autocast_dtype(step.device.type) if mixed else torch.float32
    return Floor(operations * per_image, moved, limits(step.device, precision))


def limits(device: torch.device, precision: torch.dtype) -> Limits:
    """Measures a device: the best of a few matrix products and copies (about a second, 2 GiB on a GPU)."""
    side, size = _PRODUCT_SIDE[device.type], _COPY_BYTES[device.type]
    a, b = (torch.ones(side, side, device=device, dtype=precision) for _ in range(2))
    source, target = (torch.ones(size, device=device, dtype=torch.uint8) for _ in range(2))
    with _as_convolutions_multiply():
        product = _best_seconds(lambda: torch.mm(a, b), device)
    copy = _best_seconds(lambda: target.copy_(source), device)
    return Limits(2 * side**3 / product, 2 * size / copy, str(precision).removeprefix("torch."))


class _Clock:
    """Times the parts of the epochs that `times` names; on a GPU it waits for the device around each of them."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self.epoch = 1  # the one that is under way
        self.spent: dict[str, float] = dict.fromkeys([*_STEP, "logging in a step", "logging of an epoch"], 0.0)
        self._stepping = True

    def times(self, epoch: int) -> bool:
        """The last epoch, and every second one before it but the first."""
        return ((self._epochs - epoch) % 2 == 0 and epoch > 1) or self._epochs == 1

    @contextmanager
    def __call__(self, part: Part) -> Iterator[None]:
        self._stepping = part in _STEP or (part == "logging" and self._stepping)
        if not self.times(self.epoch) or part in ("validation", "weighting"):  # these two are in the epoch's report
            yield
            return
        name = part if part != "logging" else "logging in a step" if self._stepping else "logging of an epoch"
        _wait()
        begun = time.perf_counter()
        yield
        _wait()
        self.spent[name] += time.perf_counter() - begun


def _operations_and_activations(step: Step, batch: Batch) -> tuple[int, int]:
    """Of one step: its operations, and the bytes that its forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in step.network.parameters()}

    def keep(tensor: Tensor) -> Tensor:  # the graph holds it, so that its address is not given to another
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(keep, lambda tensor: tensor):
        step(batch)
    return counter.get_total_flops(), sum(kept.values())


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    """The least mean time of one call among a few trials."""
    work()
    best = float("inf")
    for _ in range(_TRIALS):
        _wait()
        begun, calls = time.perf_counter(), 0
        while time.perf_counter() - begun < _TRIAL_SECONDS:
            work()
            calls += 1
            if calls % 8 == 0 or device.type == "cpu":
                _wait()  # a GPU is kept busy, but not ahead by much
        _wait()
        best = min(best, (time.perf_counter() - begun) / calls)
    return best


@contextmanager
def _as_convolutions_multiply() -> Iterator[None]:
    """On a GPU, convolutions in 32 bits use TensorFloat-32 unless told not to; matrix products only if told to."""
    before = torch.get_float32_matmul_precision()
    if torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
