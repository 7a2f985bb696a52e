"""torch.compile for the feature extractor, where it pays for itself.

Compilation changes rounding and nothing else: the trials train nothing and draw nothing.

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

_WARM_UP, _TIMED = 3, 7  # steps of each kind in the trial


class Compiled(NamedTuple):
    """What to extract features with, and why, for people."""

    extract: Extract
    note: str


def compiled_if_faster(
    network: MultiTaskNetwork, autocast: Autocast, pixels: Tensor, wanted: Compile, *, repeatedly: bool = False
) -> Compiled:
    """The faster of `network.features` and its compiled form, by the medians of a few forward and backward passes.

    Args:
        network: whose parameters and running statistics stay as they are.
        autocast: gives the context of the steps' precision.
        pixels: (b, 1, s, s), a batch to try it with.
        wanted: `auto` compares on a GPU and leaves a CPU alone, where compiling takes longer than it saves; `on`
            compiles without a comparison. Whatever cannot be compiled is not, and the note says why.
        repeatedly: whether steps send several gradients back through one graph, which not every compiled one bears.
    """
    if wanted == "off" or (wanted == "auto" and pixels.device.type == "cpu"):
        return Compiled(network.features, "not compiled")
    # an epoch has two sizes of batch, one apart: a graph for each is faster than one for any
    compiled: Extract = torch.compile(network.features, dynamic=False)
    try:
        fast = _seconds(network, compiled, autocast, pixels, repeatedly)
    except Exception as reason:  # the compiler, its backend and the C++ or Triton below raise each their own
        first_line = str(reason).partition("\n")[0][:200]
        return Compiled(network.features, f"not compiled: {type(reason).__name__}: {first_line}")
    if wanted == "on":
        return Compiled(compiled, "compiled")
    ratio = _seconds(network, network.features, autocast, pixels, repeatedly) / fast
    if ratio > 1:
        return Compiled(compiled, f"compiled: {ratio:.2f} times as fast")
    return Compiled(network.features, f"not compiled: it would be {ratio:.2f} times as fast")


@contextmanager
def buffers_kept(network: torch.nn.Module) -> Iterator[None]:
    """Leaves the network's buffers, such as running statistics, as they were before."""
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
    """Median time of a forward and a backward pass."""
    times = []
    with buffers_kept(network):
        try:
            for _ in range(_WARM_UP + _TIMED):
                _wait(pixels.device)
                begun = time.perf_counter()
                with autocast():
                    features = extract(pixels)
                value = features.float().sum()
                if repeatedly:
                    value.backward(retain_graph=True)
                value.backward()
                _wait(pixels.device)
                times.append(time.perf_counter() - begun)
        finally:
            network.zero_grad()
    return statistics.median(times[_WARM_UP:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
