"""What an arm's inputs are, and what of them is computed for the first arm only."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.labels.splits import PARTS, SplitSettings
from data_prep.noise.registry import NoNoise, draw_noise
from data_prep.store.store import Pixels
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import UniformSettings
from tasks.data.open_split import open_split
from tasks.images.inputs import load_image_inputs
from tasks.images.spec import ImageArm, MaskRef
from tests.tasks.small_store import write_small_store


def arm(folder: Path, seed: int, labels: tuple[str, ...]) -> ImageArm:
    """Of the store in `folder`."""
    store, split = write_small_store(folder / "store"), SplitSettings(seed=1)
    opened, parts = open_split(store, split)
    columns = [opened.labels.index(label) for label in labels]
    mask = draw_noise(NoNoise(), opened.targets[parts.train][:, columns], labels, seed)
    mask.save(folder / "mask.npz")
    return ImageArm(
        store=store,
        split=split,
        split_fingerprint=parts.fingerprint,
        labels=labels,
        condition="clean",
        noise=NoNoise(),
        mask=MaskRef(path=folder / "mask.npz", fingerprint=mask.fingerprint),
        method=UniformSettings(),
        network=NetworkSettings(),
        training=TrainingSettings(),
        seed=seed,
        device="cpu",
        threads=1,
    )


def test_the_examples_are_those_of_the_split_with_the_arms_labels(tmp_path: Path) -> None:
    inputs = load_image_inputs(arm(tmp_path, 0, ("Nodule",)))
    store, split = inputs.store, inputs.split
    for part in PARTS:
        examples, rows = getattr(inputs, part), getattr(split, part)
        assert np.array_equal(examples.pixels[:].numpy()[:, 0], store.pixels[rows])
        assert np.array_equal(examples.targets.numpy(), store.targets[rows][:, [1]])
        assert examples.patients == hashed_patients("here", store.patients[rows])
    training = store.pixels[split.train].astype(np.float64)
    assert inputs.network.mean.item() == pytest.approx(training.mean(), rel=1e-6)
    assert inputs.network.std.item() == pytest.approx(training.std(), rel=1e-6)


def test_a_second_arm_of_the_same_split_reads_no_pixel_and_gets_what_the_first_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = arm(tmp_path, 0, ("Mass", "Nodule"))
    mean = load_image_inputs(first).network.mean
    monkeypatch.setattr(Pixels, "__getitem__", lambda *_: pytest.fail("pixels were read"))
    second = load_image_inputs(first.model_copy(update={"seed": 7}))
    assert torch.equal(second.network.mean, mean)
