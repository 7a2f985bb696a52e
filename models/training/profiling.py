"""Profile of a training: time of each part, a lower bound of a step's time (roofline), and an estimate of an epoch's.

The lower bound, called the floor, is a roofline model (Williams, Waterman, Patterson: Roofline, CACM 2009). A step
needs a number of operations and moves a number of bytes. The device's best rates of both are measured here: by a matrix
product in the step's precision and by a copy within its memory. If the device did both at the same time and nothing
else, the step would take the longer of the two times. The bytes are those that no implementation can avoid if it keeps
what the backward pass needs: parameters, gradients, optimiser state and saved activations, each written and read as
often as the step must. Intermediate results that are not saved do not count. Data that stays in a cache between two
uses moves faster than assumed: if a whole step fits into the caches, as with small networks on a CPU, only the time of
the operations is a true lower bound.

Shapes: n images, b images of a batch, s x s pixels, k labels.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from models.augmentation.policies import NO_POLICY, PolicySettings
from models.data.image_batches import Examples, steps_per_epoch
from models.networks.multitask import MultiTaskNetwork
from models.training.fabric import Device
from models.training.image_step import Batch, Step
from models.training.image_training import ImageEpochReport, TrainingSettings, fit
from models.training.loop import OnEpoch, Part
from models.training.selection import Selection
from models.weighting.registry import UniformSettings, Weighting, make_weighting

_STEP: tuple[Part, ...] = ("input", "selection", "forward", "backward", "optimiser")
_TRIALS, _TRIAL_SECONDS = 5, 0.1  # of each measurement of the device; the best trial counts
_PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}  # of square matrices
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # many times larger than the caches
_WARM_UP, _TIMED = 2, 5  # steps of an estimate
_VALIDATION_COST = 1 / 3  # of a training step, per image: the forward pass


@dataclass(frozen=True)
class PartTime:
    """Time of one part of a training."""

    part: str
    seconds: float  # per step
    share: float  # of the time of all parts


@dataclass(frozen=True)
class DeviceLimits:
    """Best measured rates of a device."""

    operations_per_second: float  # a multiplication with an addition counts as two
    bytes_per_second: float  # sum of bytes read and written
    precision: str  # of the operations: float32 or bfloat16


@dataclass(frozen=True)
class StepFloor:
    """Lower bound of a step: its operations, its bytes, and the device's limits."""

    operations: float  # of the forward and the backward pass
    bytes: float
    limits: DeviceLimits

    @property
    def operation_seconds(self) -> float:
        """Lower bound by the operations."""
        return self.operations / self.limits.operations_per_second

    @property
    def byte_seconds(self) -> float:
        """Lower bound by the bytes."""
        return self.bytes / self.limits.bytes_per_second

    @property
    def seconds(self) -> float:
        """Lower bound if operations and copies run at the same time."""
        return max(self.operation_seconds, self.byte_seconds)


@dataclass(frozen=True)
class Profile:
    """Time of each part of a training.

    Attributes:
        rows: input (row numbers, gathering, augmentation), selection (scoring and choosing candidates), forward,
            backward (including the weighting's work in it), optimiser, rest (of the step), logging (the caller's work
            after steps and epochs), validation, and weighting (the work of both between epochs, per step). On a GPU
            each part is timed by waiting for the device before and after it, so that the parts add up to more than
            `step_seconds`.
        step_seconds: time of a step without timed parts; excludes the work between epochs.
        images: mean number per step.
        floor: lower bound of a step.
    """

    rows: tuple[PartTime, ...]
    step_seconds: float
    images: float
    floor: StepFloor

    @property
    def of_floor(self) -> float:
        """Ratio of the time of a step to its lower bound."""
        return self.step_seconds / self.floor.seconds


def profile(
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    val: Examples,
    settings: TrainingSettings,
    *,
    on_epoch: OnEpoch[ImageEpochReport] = lambda report, state: None,
    **how: Any,
) -> Profile:
    """Train a copy of the network as `fit` would, and measure the time of each part.

    The first epoch is a warm-up; in every second of the others the parts are not timed, to measure the time of a step
    without a clock. Three epochs are enough, unless the weighting acts only in a later epoch.

    Args:
        network: as for `fit`; it does not change.
        weighting: as for `fit`; it is trained.
        train: training images.
        val: validation images.
        settings: of the training.
        on_epoch: as for `fit`; its time is in the row `logging`.
        how: `seed`, `policy`, `device` and `progress`, as for `fit`; the time of `progress` is in the row `logging`.

    Raises:
        SettingError: as in `fit`; also for more than one device.
    """
    clock = _Clock(settings.epochs)
    reports: list[ImageEpochReport] = []

    def end_epoch(report: ImageEpochReport, state: dict[str, Any]) -> None:
        on_epoch(report, state)
        reports.append(report)
        clock.epoch += 1

    fit(deepcopy(network), weighting, train, val, settings, on_epoch=end_epoch, clock=clock, **how)
    steps = steps_per_epoch(len(train), settings.batch_size)
    without_clock = [report.seconds for report in reports if report.epoch > 1 and not clock.is_timed(report.epoch)]
    timed = [report.seconds for report in reports if clock.is_timed(report.epoch)]
    timed_steps = steps * len(timed)
    spent: dict[str, float] = {part: clock.spent[part] / timed_steps for part in _STEP}
    in_step = sum(spent.values()) + clock.spent["logging in a step"] / timed_steps
    spent["rest"] = max(0.0, sum(timed) / timed_steps - in_step)
    spent["logging"] = (clock.spent["logging in a step"] + clock.spent["logging of an epoch"]) / timed_steps
    spent["validation"] = sum(report.validation_seconds for report in reports) / (steps * len(reports))
    spent["weighting"] = sum(report.weighting_seconds for report in reports) / (steps * len(reports))
    total = sum(spent.values())
    return Profile(
        tuple(PartTime(part, seconds, seconds / total) for part, seconds in spent.items()),
        sum(without_clock or timed) / (steps * len(without_clock or timed)),
        len(train) / steps,
        step_floor(network, train, settings, device=how.get("device", "auto")),
    )


def step_floor(
    network: MultiTaskNetwork, train: Examples, settings: TrainingSettings, *, device: Device = "auto"
) -> StepFloor:
    """Compute the lower bound of a step of mean size, with uniform weights; the network does not change."""
    images = len(train) / steps_per_epoch(len(train), settings.batch_size)
    step = Step(deepcopy(network), make_weighting(UniformSettings(), train.targets.shape[1]), settings, device)
    step.network.train()
    batch = _first_images(train, min(int(images), settings.micro_batch or int(images)), step.device)
    operations, activations = _operations_and_activations(step, batch)
    scale = images / len(batch.pixels)  # from the micro-batch to the step
    parameters = sum(_bytes(p) for p in step.network.parameters())
    state = sum(_bytes(t) for slots in step.optimizer.state.values() for t in slots.values() if isinstance(t, Tensor))
    # parameters: read by the forward pass, the backward pass and the optimiser, which also writes them: 4;
    # gradients: written and read: 2
    moved = 6 * parameters + 2 * state + 2 * activations * scale + _bytes(batch.pixels) * scale
    with step.fabric.autocast():
        mixed = torch.is_autocast_enabled(step.device.type)
        precision = torch.get_autocast_dtype(step.device.type) if mixed else torch.float32
    return StepFloor(operations * scale, moved, measure_limits(step.device, precision))


def measure_limits(device: torch.device, precision: torch.dtype) -> DeviceLimits:
    """Measure a device by the best of a few matrix products and copies (takes about 1 s, and 2 GiB on a GPU)."""
    side, size = _PRODUCT_SIDE[device.type], _COPY_BYTES[device.type]
    a, b = (torch.ones(side, side, device=device, dtype=precision) for _ in range(2))
    source, target = (torch.ones(size, device=device, dtype=torch.uint8) for _ in range(2))
    with _matmul_precision_of_convolutions():
        product = _best_seconds(lambda: torch.mm(a, b), device)
    copy = _best_seconds(lambda: target.copy_(source), device)
    return DeviceLimits(2 * side**3 / product, 2 * size / copy, str(precision).removeprefix("torch."))


def estimate_epoch_seconds(
    network: MultiTaskNetwork,
    weighting: Weighting,
    train: Examples,
    validation_images: int,
    settings: TrainingSettings,
    *,
    policy: PolicySettings = NO_POLICY,
    device: Device = "auto",
) -> float:
    """Estimate the seconds of an epoch from the median of five training steps, which change the network.

    The estimate has augmentation, and selection as if it began at once. It leaves out reading images that do not fit
    into memory, the weighting's work between epochs, and compilation.

    Raises:
        SettingError: there is no such device, or the weighting cannot work with a split batch.
    """
    step = Step(network, weighting, settings, device)
    network.train()
    count = min(len(train), settings.batch_size)
    images = _first_images(train, count, step.device)
    selection, rows = Selection(step, policy, weighting, seed=0, steps=0, n=count), torch.arange(count)
    times = []
    for number in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        drawn = selection.draw(rows, 1, number)
        used = (rows if drawn is None else torch.cat((rows, drawn.partner_rows))).to(step.device)
        step(selection(selection.augment(drawn, images.pixels[used], images.targets[used], used), number))
        _synchronize()
        times.append(time.perf_counter() - start)
    steps = steps_per_epoch(len(train), settings.batch_size)
    return statistics.median(times[_WARM_UP:]) * (steps + _VALIDATION_COST * validation_images / count)


def _first_images(train: Examples, count: int, device: torch.device) -> Batch:
    return Batch(train.pixels[:count].to(device), train.targets[:count].to(device))


class _Clock:
    """Times the parts of the epochs for which `is_timed` is true; on a GPU it waits for the device around each part."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self.epoch = 1  # the current one
        self.spent: dict[str, float] = dict.fromkeys([*_STEP, "logging in a step", "logging of an epoch"], 0.0)
        self._stepping = True

    def is_timed(self, epoch: int) -> bool:
        """Return true for the last epoch and every second one before it, except the first of several."""
        return ((self._epochs - epoch) % 2 == 0 and epoch > 1) or self._epochs == 1

    @contextmanager
    def __call__(self, part: Part) -> Iterator[None]:
        self._stepping = part in _STEP or (part == "logging" and self._stepping)
        if not self.is_timed(self.epoch) or part in ("validation", "weighting"):  # both are in the epoch's report
            yield
            return
        name = part if part != "logging" else "logging in a step" if self._stepping else "logging of an epoch"
        _synchronize()
        start = time.perf_counter()
        yield
        _synchronize()
        self.spent[name] += time.perf_counter() - start


def _operations_and_activations(step: Step, batch: Batch) -> tuple[int, int]:
    """Count the operations of one step, and the bytes that its forward pass saves for the backward pass."""
    saved: dict[int, int] = {}
    parameters = {p.untyped_storage().data_ptr() for p in step.network.parameters()}

    def save(tensor: Tensor) -> Tensor:  # the graph holds the tensor, so no other tensor gets its address
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with FlopCounterMode(display=False) as counter, saved_tensors_hooks(save, lambda tensor: tensor):
        step(batch)
    return counter.get_total_flops(), sum(saved.values())


def _best_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Measure the mean time of one call in a few trials, and return the shortest."""
    work()
    best = float("inf")
    for _ in range(_TRIALS):
        _synchronize()
        start, calls = time.perf_counter(), 0
        while time.perf_counter() - start < _TRIAL_SECONDS:
            work()
            calls += 1
            if calls % 8 == 0 or device.type == "cpu":
                _synchronize()  # a GPU has always work, but only few calls are queued
        _synchronize()
        best = min(best, (time.perf_counter() - start) / calls)
    return best


@contextmanager
def _matmul_precision_of_convolutions() -> Iterator[None]:
    """Let 32-bit matrix products on a GPU use TensorFloat-32 if convolutions do; by default only convolutions do."""
    before = torch.get_float32_matmul_precision()
    if torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
