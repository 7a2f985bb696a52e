"""Modules made without drawing their first weights.

PyTorch's modules draw from the global generator as they are made, and take no other. Where weights are set afterwards
anyway those draws are in vain, and where arms are made in parallel threads they are harmful: giving the generator back
its state afterwards undoes what another thread draws meanwhile. A mode of the calling thread alone leaves them out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.overrides import TorchFunctionMode

_DRAWS = {"uniform_", "normal_", "kaiming_uniform_"}
"""Tensor's methods, in terms of which torch.nn.init draws, and its functions that a mode meets first. By name, since
the Hugging Face library puts functions of its own in their places while it makes a model."""


class SkipInit(TorchFunctionMode):
    """Inside, in this thread, what would be filled with random numbers is filled with zeros."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", None) in _DRAWS:
            return (args[0] if args else (kwargs or {})["tensor"]).detach().zero_()
        return func(*args, **(kwargs or {}))
