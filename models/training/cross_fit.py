"""Cross-fitting: features of each training image from a network that was trained without the image's patient.

A network's features of its own training images know their labels, random ones too, if it has learnt them by heart. So
the patients are dealt into parts, and the features of each part come from a network that was trained on the others
(Chernozhukov et al.: Double/debiased machine learning, Econometrics Journal 21, 2018; Northcutt, Jiang, Chuang:
Confident learning, J. of Artificial Intelligence Research 70, 2021, find label errors by predictions made in this way).
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.augmentation.policies import NO_POLICY, PolicySettings
from models.data.image_batches import Examples, StoredPixels, steps_per_epoch
from models.errors import SettingError
from models.networks.multitask import MultiTaskNetwork, set_head_biases
from models.randomness import seed_for
from models.training.fabric import Device
from models.training.image_training import TrainingSettings, features_of, fit, sampled_rows
from models.training.loop import Progress
from models.weighting.base import FeatureBatch, FeaturePass, RuleSettings, SampleSize
from models.weighting.label_trust import FOLDS
from models.weighting.registry import UniformSettings, make_weighting

NETWORKS = 2
"""Networks, one for each part of the patients, which it does not train on. All together make as many steps as
NETWORKS - 1 trainings on all images; more give better features and cost more."""


def cross_fit(
    network: MultiTaskNetwork,
    train: Examples,
    val: Examples,
    settings: TrainingSettings,
    *,
    seed: int,
    policy: PolicySettings = NO_POLICY,
    device: Device = "auto",
    progress: Progress = lambda done, total: None,
) -> FeaturePass:
    """Train a network with uniform weights on all parts of the patients but one, for each part.

    Args:
        network: with the initial weights of all; it stays as it is. The heads' biases are those of each one's labels.
        train: training images.
        val: validation images, by whose mean AUC each network's best epoch is selected.
        settings: of each training.
        seed: of the parts, and of order, augmentation and sample, at least 0.
        policy: how the training images are augmented.
        device: see `models.training.image_training.fit`.
        progress: called after every step, with the steps of all networks.

    Returns:
        The pass over the training images, for `Weighting.start`. The parts follow one another.

    Raises:
        SettingError, DivergenceError: see `models.training.image_training.fit`.
    """
    held_out = patient_parts(train.patient_numbers, seed)
    others = [_select(train, (held_out != part).nonzero()[:, 0]) for part in range(NETWORKS)]
    steps = [settings.epochs * steps_per_epoch(len(data), settings.batch_size) for data in others]
    networks = []
    for part, data in enumerate(others):
        trained = deepcopy(network)
        set_head_biases(trained, data.targets)
        uniform = make_weighting(UniformSettings(), data.targets.shape[1])

        def on_step(done: int, total: int, before: int = sum(steps[:part])) -> None:
            progress(before + done, sum(steps))

        how: dict[str, Any] = {"seed": seed, "policy": policy, "device": device}
        fit(trained, uniform, data, val, settings, progress=on_step, **how)
        networks.append(trained)

    def batches(size: SampleSize) -> Iterator[FeatureBatch]:
        rows = sampled_rows(len(train), size, seed)
        for part, trained in enumerate(networks):
            yield from features_of(trained, train, rows[held_out[rows] == part], part)

    return batches


def patient_parts(patient_numbers: Tensor, seed: int) -> Tensor:
    """Deal the patients into NETWORKS parts of nearly equal numbers; return each image's part, (n,) int64."""
    patients, index = patient_numbers.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed_for(seed, "cross-fitting"))
    return (torch.randperm(len(patients), generator=generator) % NETWORKS)[index]


def check_patients(method: RuleSettings, patient_numbers: Tensor, seed: int) -> None:
    """Check that the images from whose features a rule estimates label trust are of enough patients.

    Args:
        method: of any rule.
        patient_numbers: (n,) int64, of the training images.
        seed: of the training.

    Raises:
        SettingError: a network gets images of fewer patients than label trust has folds.
    """
    if not method.estimates_trust:
        return
    rows = sampled_rows(len(patient_numbers), method.sample, seed)
    cross_fitted = method.feature_source == "cross_fitted"
    parts = patient_parts(patient_numbers, seed) if cross_fitted else torch.zeros_like(patient_numbers)
    fewest = min(len(patient_numbers[rows][parts[rows] == part].unique()) for part in parts.unique())
    if fewest < FOLDS:
        raise SettingError(
            f"{method.name} needs training images of at least {FOLDS} patients for each network; it would get "
            f"{fewest}: raise rows, take more images, or choose another method"
        )


def _select(data: Examples, rows: Tensor) -> Examples:
    """Return the images of some rows; `patients` still names all, which only makes `fit` stricter."""
    pixels = data.pixels.select(rows) if isinstance(data.pixels, StoredPixels) else data.pixels[rows]
    return replace(data, pixels=pixels, targets=data.targets[rows], patient_numbers=data.patient_numbers[rows])
