"""Skip weight initialization: a context in which modules are created without drawing random numbers.

PyTorch's modules draw their initial weights from the global generator and accept no other. If the weights are set
afterwards anyway, these draws are wasted. If arms are created in parallel threads they are even harmful: restoring the
generator's state afterwards undoes what another thread has drawn meanwhile. This mode affects only the calling thread.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

_RANDOM_FILLS = {"uniform_", "normal_", "kaiming_uniform_"}
"""Names of the in-place random fills: the Tensor methods that torch.nn.init calls, and those of its functions that a
mode intercepts first. Compared by name, since the Hugging Face library replaces functions of torch.nn.init with its own
while it creates a model."""


class SkipInit(TorchFunctionMode):
    """A context manager that fills with zeros, in this thread, what would be filled with random numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", None) in _RANDOM_FILLS:
            return (args[0] if args else (kwargs or {})["tensor"]).detach().zero_()
        return func(*args, **(kwargs or {}))
