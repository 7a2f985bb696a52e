"""State of a network and of its training: evaluation mode, copies to resume from, and the check before resuming."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.errors import SettingError


@contextmanager
def evaluation_mode(network: torch.nn.Module) -> Iterator[None]:
    """Put the network into evaluation mode without gradients during the block, and back into its mode afterwards."""
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        network.train(was_training)


def copy_to_cpu(tree: Any) -> Any:
    """Copy nested dictionaries and lists, with every tensor copied to the CPU."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(tree, Mapping):
        return {key: copy_to_cpu(value) for key, value in tree.items()}
    return [copy_to_cpu(value) for value in tree] if isinstance(tree, list) else tree


def check_resumable(saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """Check that a saved state belongs to the current training.

    Args:
        saved: all that the results of the saved training depend on, by name.
        current: the same of this training.

    Raises:
        SettingError: the two differ.
    """
    if saved != current:
        changed = [name for name, value in saved.items() if value != current.get(name)]
        raise SettingError(
            f"the state to resume from was made with another {', '.join(changed)}: "
            "use the settings it was made with, or start a new training"
        )
