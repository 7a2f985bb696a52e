"""Inputs of an image arm: training, validation and test examples, the initial network and the weighting method."""

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
    """The inputs of an image arm.

    The examples have the arm's labels, noisy in training only. Network and weighting are in their initial state.
    """

    store: Store
    split: Split
    mask: NoiseMask
    train: Examples
    val: Examples
    test: Examples
    network: MultiTaskNetwork
    weighting: Weighting


def load_image_inputs(arm: ImageArm) -> ImageInputs:
    """Open and split the store and create the network; pixels are read only for their mean and standard deviation.

    Raises:
        DataError: the store or the weights file cannot be read.
        SettingError: the network's settings do not fit the images or the weights file, or the method's settings do
            not fit the labels.
    """
    store = Store.open(arm.store.path)
    split = make_split(arm.split, store.images, store.patients)
    mask = NoiseMask.load(arm.mask.path)
    columns = [store.labels.index(label) for label in arm.labels]
    train = _examples(store, split.train, mask.targets)
    val, test = (_examples(store, rows, store.targets[rows][:, columns]) for rows in (split.val, split.test))
    weights = _pretrained_weights(arm.network)
    with exclusive():
        network = initial_network(arm.network, arm.labels, train.pixels, seed=arm.seed, weights=weights)
    label_noise = realised_noise(torch.from_numpy(mask.clean), torch.from_numpy(mask.targets))
    weighting = make_weighting(arm.method, len(arm.labels), seed=arm.seed, label_noise=label_noise)
    return ImageInputs(store, split, mask, train, val, test, network, weighting)


def _examples(store: Store, rows: np.ndarray, targets: np.ndarray) -> Examples:
    return examples(store.pixels, targets, hashed_patients(store.population, store.patients[rows]), rows)


def _pretrained_weights(network: NetworkSettings) -> Mapping[str, torch.Tensor] | None:
    """Read the weights file, if the settings name one.

    Raises:
        DataError: the file cannot be read.
    """
    if network.weights_file is None:
        return None
    try:
        if network.weights_file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(network.weights_file)
        return torch.load(network.weights_file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle and safetensors raise errors of their own
        raise DataError(
            f"cannot read the weights in {network.weights_file} ({type(error).__name__}: {error}): "
            "give a safetensors file, or a state dict saved by torch"
        ) from error
