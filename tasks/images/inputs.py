"""What an arm trains on and is scored on, and its network at the start."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from data_prep.errors import DataError
from data_prep.labels.splits import Split, make_split
from data_prep.noise.registry import NoiseMask
from data_prep.store.store import Store
from models.data.image_batches import Examples, examples
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network
from models.weighting.oracle import realised_noise
from models.weighting.registry import Weighting, make_weighting
from tasks.images.spec import ImageArm
from tasks.runtime.readers_writer_lock import exclusive


@dataclass(frozen=True)
class ImageInputs:
    """The store and its split, the noise, the examples of each part with the arm's labels (noisy in training only), the
    network and its weighting, both at their start."""

    store: Store
    split: Split
    mask: NoiseMask
    train: Examples
    val: Examples
    test: Examples
    network: MultiTaskNetwork
    weighting: Weighting


def load_image_inputs(arm: ImageArm) -> ImageInputs:
    """Open and split the store and make the network; no pixels are read but for their mean and deviation.

    Raises:
        DataError: the store or the weights file cannot be read.
        SettingError: the network's settings do not fit the images or the weights, or the method's the labels.
    """
    store = Store.open(arm.store.path)
    split = make_split(arm.split, store.images, store.patients)
    mask = NoiseMask.load(arm.mask.path)
    columns = [store.labels.index(label) for label in arm.labels]
    train = _part(store, split.train, mask.targets)
    val, test = (_part(store, rows, store.targets[rows][:, columns]) for rows in (split.val, split.test))
    weights = _pretrained(arm.network)
    with exclusive():
        network = initial_network(arm.network, arm.labels, train.pixels, seed=arm.seed, weights=weights)
    harm = realised_noise(torch.from_numpy(mask.clean), torch.from_numpy(mask.targets))
    weighting = make_weighting(arm.method, len(arm.labels), seed=arm.seed, label_noise=harm)
    return ImageInputs(store, split, mask, train, val, test, network, weighting)


def _part(store: Store, rows: np.ndarray, targets: np.ndarray) -> Examples:
    return examples(store.pixels, targets, hashed_patients(store.population, store.patients[rows]), rows)


def _pretrained(network: NetworkSettings) -> Mapping[str, torch.Tensor] | None:
    """The contents of the weights file, if one is named.

    Raises:
        DataError: it cannot be read.
    """
    if network.weights_file is None:
        return None
    try:
        if network.weights_file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(network.weights_file)
        return torch.load(network.weights_file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and safetensors each raise their own
        raise DataError(
            f"cannot read the weights in {network.weights_file} ({type(error).__name__}: {error}): "
            "give a safetensors file, or a state dict saved by torch"
        ) from error
