"""Inputs of a classification arm: training, validation and test examples, and the initial network."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_prep.labels.splits import Split
from data_prep.noise.classes import draw_class_noise
from data_prep.store.store import Store
from models.data.image_batches import Examples, examples
from models.networks.multitask import MultiTaskNetwork, initial_network
from models.weighting.registry import UniformSettings, Weighting, make_weighting
from tasks.classes.spec import ClassArm
from tasks.data.open_split import open_split
from tasks.images.inputs import hashed_parts, read_weights, training_statistics


@dataclass(frozen=True)
class ClassInputs:
    """The inputs of an arm; the network is in its initial state.

    Attributes:
        store: the images and their classes.
        split: of the images.
        clean: (n,) int16, the classes of the training images without noise.
        train: training images, with wrong classes where the arm has noise.
        val: validation images.
        test: test images.
        network: one head with an output for each class.
        weighting: of the only task.
    """

    store: Store
    split: Split
    clean: NDArray[np.int16]
    train: Examples
    val: Examples
    test: Examples
    network: MultiTaskNetwork
    weighting: Weighting


def load_class_inputs(arm: ClassArm) -> ClassInputs:
    """Open and split the store, draw the noise and create the network; no pixel is read but for the first arm.

    Raises:
        DataError: the store or the weights file cannot be read.
        SettingError: the network's settings do not fit the images or the weights file.
    """
    store, split = open_split(arm.store, arm.split)
    count, rows = len(store.classes), (split.train, split.val, split.test)
    clean, *others = (store.targets[of_part][:, 0] for of_part in rows)
    # the noise floor trains on the noise of the arm that it is compared with
    noisy = draw_class_noise(clean, count, arm.noise_rate, arm.paired_seed)
    train, val, test = (
        examples(store.pixels, targets[:, None], names, part)
        for targets, names, part in zip((noisy, *others), hashed_parts(store, split), rows, strict=True)
    )
    network = initial_network(
        arm.network,
        store.labels,
        train.pixels,
        seed=arm.seed,
        weights=read_weights(arm.network),
        statistics=None if arm.network.pretrained else training_statistics(store, split),
        classes=count,
        targets=train.targets,
    )
    weighting = make_weighting(UniformSettings(), 1, seed=arm.seed)
    return ClassInputs(store, split, clean, train, val, test, network, weighting)
