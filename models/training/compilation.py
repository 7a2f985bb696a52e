"""torch.compile of the feature extractor, used only where it makes training steps faster.

Compilation changes rounding and nothing else: the trial passes do not train and draw no random numbers.

Shapes: b images, s x s pixels, d features.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from models.networks.multitask import MultiTaskNetwork

Compile = Literal["auto", "on", "off"]

Extract = Callable[[Tensor], Tensor]
"""(b, 1, s, s) grey values -> (b, d) features; what `MultiTaskNetwork.features` does."""

Autocast = Callable[[], AbstractContextManager[object]]

_WARM_UP, _TIMED = 3, 7  # passes of each variant in the trial

_WORTH_COMPILING = 300
"""Least duration of the steps, in seconds, from which `auto` compiles. On an H100, compiling took about 13 s for conv4
and more than 25 s for ResNet-50; an arm of seconds cannot win that back."""


class Compiled(NamedTuple):
    """The feature extractor to use, and a note for people that says whether it is compiled and why."""

    extract: Extract
    note: str


def compile_if_faster(
    network: MultiTaskNetwork,
    autocast: Autocast,
    pixels: Tensor,
    wanted: Compile,
    *,
    steps: int,
    repeatedly: bool = False,
) -> Compiled:
    """Choose between `network.features` and its compiled form by the median time of a forward and a backward pass.

    Args:
        network: its parameters and running statistics do not change.
        autocast: returns the context of the training steps' precision.
        pixels: (b, 1, s, s), the batch for the trial.
        wanted: `auto` compares the two on a GPU if the steps take minutes; else, and on a CPU, compiling takes longer
            than it saves. `on` compiles without a comparison. If compiling fails, the extractor is not compiled.
        steps: number of training steps that the extractor is for.
        repeatedly: whether steps send several gradients back through one graph; not every compiled graph allows it.

    Returns:
        The extractor, with a note that gives the reason.
    """
    if wanted == "off" or (wanted == "auto" and pixels.device.type == "cpu"):
        return Compiled(network.features, "not compiled")
    eager_seconds = _seconds(network, network.features, autocast, pixels, repeatedly) if wanted == "auto" else 0.0
    if wanted == "auto" and steps * eager_seconds < _WORTH_COMPILING:
        return Compiled(network.features, f"not compiled: the steps take {steps * eager_seconds:.0f} s in all")
    # an epoch has two batch sizes, which differ by one: a graph for each is faster than one graph for any size
    compiled: Extract = torch.compile(network.features, dynamic=False)
    try:
        compiled_seconds = _seconds(network, compiled, autocast, pixels, repeatedly)
    except Exception as error:  # the compiler, its backend, C++ and Triton raise exceptions of many types
        first_line = str(error).partition("\n")[0][:200]
        return Compiled(network.features, f"not compiled: {type(error).__name__}: {first_line}")
    if wanted == "on":
        return Compiled(compiled, "compiled")
    ratio = eager_seconds / compiled_seconds
    if ratio > 1:
        return Compiled(compiled, f"compiled: {ratio:.2f} times as fast")
    return Compiled(network.features, f"not compiled: it would be {ratio:.2f} times as fast")


@contextmanager
def preserve_buffers(network: torch.nn.Module) -> Iterator[None]:
    """Restore the network's buffers, such as running statistics, at the end of the block."""
    before = [buffer.clone() for buffer in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)


def _seconds(
    network: MultiTaskNetwork, extract: Extract, autocast: Autocast, pixels: Tensor, repeatedly: bool
) -> float:
    """Measure the median time of a forward and a backward pass."""
    times = []
    with preserve_buffers(network):
        try:
            for _ in range(_WARM_UP + _TIMED):
                _synchronize(pixels.device)
                start = time.perf_counter()
                with autocast():
                    features = extract(pixels)
                value = features.float().sum()
                if repeatedly:
                    value.backward(retain_graph=True)
                value.backward()
                _synchronize(pixels.device)
                times.append(time.perf_counter() - start)
        finally:
            network.zero_grad()
    return statistics.median(times[_WARM_UP:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
