"""The exported program of a logged model: from raw pixels to probabilities, without the code that trained it.

n images, c channels, s side in pixels, k outputs.
"""

from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from data_prep.errors import DataError
from models.networks.multitask import MultiTaskNetwork, Probabilities
from tasks.arms.outages import outlasts_outages
from tasks.runtime.part_errors import is_away

SUFFIX = ".pt2"

_MOST_IMAGES, _MOST_VALUES = 256, 2**24  # of a batch: of large images there are fewer, so that memory is bounded


class Program:
    """A loaded program; it computes on the CPU, where it was exported."""

    def __init__(self, exported: ExportedProgram) -> None:
        """Take the program."""
        self._exported, self._module = exported, exported.module()

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights under the names that they have in the network."""
        return {name.removeprefix("network."): value for name, value in self._exported.state_dict.items()}

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Predict probabilities, in batches of `batch_images`: (n, c, s, s) uint8 -> (n, k) float32 in [0, 1]."""
        batches = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).split(batch_images(*pixels.shape[1:3]))
        with torch.inference_mode():
            return np.concatenate([self._module(batch).numpy() for batch in batches])


def batch_images(channels: int, size: int) -> int:
    """Return how many images of `size` pixels a side are predicted at a time."""
    return max(1, min(_MOST_IMAGES, _MOST_VALUES // (channels * size * size)))


def example_input(channels: int, size: int) -> NDArray[np.uint8]:
    """Return two images of all grey values in order, (2, channels, size, size) uint8.

    Two, because a batch size of one would be exported as a constant.
    """
    return np.resize(np.arange(256, dtype=np.uint8), (2, channels, size, size))


def export_network(network: MultiTaskNetwork, folder: Path) -> Path:
    """Export a network, on any device, as a program for any number of images; return its file in a folder."""
    example = torch.from_numpy(example_input(network.channels, network.size))
    on_cpu = Probabilities(deepcopy(network).cpu())  # the exporter runs the example, which is on the CPU
    exported = torch.export.export(on_cpu, (example,), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    for node in exported.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names folders of this machine
    path = folder / f"network{SUFFIX}"
    torch.export.save(exported, path)
    return path


@outlasts_outages
def load_program(uri: str) -> Program:
    """Load the program of a model in MLflow, also of one that an older version logged.

    Args:
        uri: of the model, as models:/NAME/3 or models:/m-....

    Raises:
        DataError: MLflow does not have it, or it cannot be read.
    """
    try:
        with TemporaryDirectory() as folder:
            model = mlflow.artifacts.download_artifacts(uri, dst_path=folder)
            (program,) = Path(model).rglob(f"*{SUFFIX}")
            return Program(torch.export.load(program))
    except (MlflowException, OSError, ValueError, RuntimeError) as error:
        if is_away(error):
            raise
        why = str(error).partition("\n")[0]
        raise DataError(f"the model {uri} cannot be loaded ({why}): train or register it again") from error
