"""Inputs of an image arm: training, validation and test examples, the initial network and the weighting method."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from data_prep.errors import DataError
from data_prep.labels.splits import PARTS, Split
from data_prep.noise.registry import NoiseMask
from data_prep.store.store import Store
from models.data.image_batches import Examples, StoredPixels, examples
from models.errors import SettingError
from models.evaluation.leakage import check_disjoint, hashed_patients
from models.networks.multitask import MultiTaskNetwork, NetworkSettings, initial_network, pixel_statistics
from models.training.cross_fit import cross_fit
from models.training.image_training import feature_pass
from models.weighting.oracle import realised_noise
from models.weighting.registry import Weighting, make_weighting
from tasks.arms.base import OnStep
from tasks.data.open_split import REMEMBERED, open_split
from tasks.images.model_registry import read_network
from tasks.images.spec import ImageArm


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

    @property
    def trained(self) -> tuple[MultiTaskNetwork, Weighting, Examples, Examples]:
        """What `models.training.image_training.fit` takes by position, but for the settings."""
        return self.network, self.weighting, self.train, self.val


def load_image_inputs(arm: ImageArm) -> ImageInputs:
    """Open and split the store and create the network; no pixel is read but for the first arm of a split.

    Raises:
        DataError: the store or the weights file cannot be read, or MLflow has not the network that the arm starts from.
        SettingError: the network's settings do not fit the images, the weights file or the network that the arm starts
            from, that network was trained on validation or test patients, or the method's settings do not fit the
            labels.
    """
    store, split = open_split(arm.store, arm.split)
    mask = NoiseMask.load(arm.mask.path)
    columns = [store.labels.index(label) for label in arm.labels]
    rows = split.train, split.val, split.test
    numbers = np.unique(store.patients, return_inverse=True)[1]
    targets = mask.targets, *(store.targets[of_part][:, columns] for of_part in rows[1:])
    train, val, test = (
        examples(store.pixels, of_part, patients, part, patient_numbers=numbers[part])
        for of_part, patients, part in zip(targets, hashed_parts(store, split), rows, strict=True)
    )
    weights = read_weights(arm.network)
    statistics = None if arm.network.pretrained else training_statistics(store, split)
    network = initial_network(
        arm.network,
        arm.labels,
        train.pixels,
        seed=arm.seed,
        weights=weights,
        statistics=statistics,
        targets=train.targets,
    )
    if arm.start.arm is not None:
        start_from(network, str(arm.start.arm.run_id))
        for scored_on in (val.patients, test.patients):
            check_disjoint(network.trained_on, scored_on)
    label_noise = realised_noise(torch.from_numpy(mask.clean), torch.from_numpy(mask.targets))
    weighting = make_weighting(arm.method, len(arm.labels), seed=arm.seed, label_noise=label_noise)
    return ImageInputs(store, split, mask, train, val, test, network, weighting)


def start_from(network: MultiTaskNetwork, run_id: str) -> None:
    """Give a network the weights of a finished arm's, with its normalisation of pixels and its training patients.

    Args:
        network: of the same labels, size and architecture; it changes in place.
        run_id: of the finished arm's MLflow run.

    Raises:
        DataError: MLflow has no model of the run.
        SettingError: the network does not fit.
    """
    facts, weights = read_network(run_id)
    expected = network.state_dict()
    first = next(
        (name for name in expected if name not in weights or weights[name].shape != expected[name].shape), None
    )
    problem = None
    if facts.labels != network.labels:
        problem = f"its labels are {', '.join(facts.labels)}, and not {', '.join(network.labels)}"
    elif facts.size != network.size:
        problem = f"it takes images of {facts.size} px, and not of {network.size} px"
    elif first is not None or len(weights) > len(expected):
        problem = f"it is another network (first difference: {first or (set(weights) - set(expected)).pop()})"
    if problem:
        raise SettingError(
            f"training cannot start from the network of run {run_id}: {problem}; start anew, or give the settings with "
            "which that one was trained"
        )
    network.load_state_dict(weights)
    network.trained_on = facts.trained_on


def start_weighting(arm: ImageArm, inputs: ImageInputs, source: MultiTaskNetwork | None, on_step: OnStep) -> None:
    """Let the weighting compute its weights from features before training.

    Args:
        arm: of the inputs.
        inputs: of the arm; the weighting changes, and nothing else.
        source: the arm's source, a finished network; None if the features are cross-fitted.
        on_step: called after every step of the networks that cross-fitting trains.
    """
    if source is not None:
        inputs.weighting.start(*(feature_pass(source, data, arm.seed) for data in (inputs.train, inputs.val)))
        return
    inputs.weighting.start(
        cross_fit(
            inputs.network,
            inputs.train,
            inputs.val,
            arm.training,
            seed=arm.seed,
            policy=arm.policy,
            device=arm.device,
            progress=on_step,
        )
    )


@lru_cache(REMEMBERED)
def hashed_parts(store: Store, split: Split) -> tuple[tuple[str, ...], ...]:
    """Hash the patients of each part, once in a process."""
    return tuple(hashed_patients(store.population, store.patients[getattr(split, part)]) for part in PARTS)


@lru_cache(REMEMBERED)
def training_statistics(store: Store, split: Split) -> tuple[float, float]:
    """Compute the mean and standard deviation of the training pixels, once in a process."""
    return pixel_statistics(StoredPixels(store.pixels, split.train))


def read_weights(network: NetworkSettings) -> Mapping[str, torch.Tensor] | None:
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
