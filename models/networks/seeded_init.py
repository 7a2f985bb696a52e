"""Seeded initial weights: the modules that a thread creates draw their random numbers from a generator of their own.

PyTorch's modules draw their initial weights from the global generator and accept no other. Arms that are created in
parallel threads would take each other's numbers from it. This mode hands a generator to every draw of the calling
thread. The numbers are those that the global generator would give after the same seed; it is itself left untouched.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# By name, since the Hugging Face library replaces functions of torch.nn.init with its own while it creates a model.
_INITIALISERS = {"uniform_", "normal_", "kaiming_uniform_"}
"""The in-place fills that torch.nn.init calls, and those of its functions that a mode intercepts first."""
_DRAWS = _INITIALISERS | {
    "bernoulli_", "cauchy_", "exponential_", "geometric_", "log_normal_", "random_", "bernoulli", "multinomial",
    "normal", "poisson", "rand", "rand_like", "randint", "randint_like", "randn", "randn_like", "randperm",
}  # fmt: skip
"""All functions that take a generator."""


class SeededInit(TorchFunctionMode):
    """A context manager that seeds what this thread draws; a generator that is passed explicitly stays in use.

    Args:
        seed: of the generator, 64 bits. None: initial weights are zeros, because they are set afterwards anyway.
    """

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self._zeros = seed is None
        self._generator = torch.Generator().manual_seed(seed or 0)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name, kwargs = getattr(func, "__name__", None), dict(kwargs or {})
        if self._zeros and name in _INITIALISERS:
            return (args[0] if args else kwargs["tensor"]).detach().zero_()
        if name in _DRAWS and kwargs.get("generator") is None:
            kwargs["generator"] = self._generator
        return func(*args, **kwargs)
