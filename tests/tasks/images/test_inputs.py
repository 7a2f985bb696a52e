"""What an arm's inputs are, and what of them is computed for the first arm only."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.labels.splits import PARTS, SplitSettings
from data_prep.noise.entries import RandomNoise
from data_prep.noise.registry import NoNoise, draw_noise
from data_prep.store.store import Pixels
from models.evaluation.leakage import hashed_patients
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings, feature_pass
from models.weighting.feature_weights import join_batches
from models.weighting.label_trust import label_trust
from models.weighting.oracle import OracleSettings, noise_weights, realised_noise
from models.weighting.permuted import PermutedWeightsSettings
from models.weighting.registry import UniformSettings
from models.weighting.trust import TrustSettings
from tasks.data.open_split import open_split
from tasks.images.inputs import load_image_inputs, start_weighting
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
        same_patient = store.patients[rows][:, None] == store.patients[rows]
        numbers = examples.patient_numbers.numpy()
        assert np.array_equal(numbers[:, None] == numbers, same_patient)
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


def test_the_network_begins_with_the_prevalence_of_the_noisy_labels(tmp_path: Path) -> None:
    given = arm(tmp_path, 0, ("Mass", "Nodule"))
    opened, parts = open_split(given.store, given.split)
    noise = RandomNoise(rate=0.9, labels=("Nodule",))
    mask = draw_noise(noise, opened.targets[parts.train], given.labels, 0)
    mask.save(tmp_path / "noisy.npz")
    noisy = given.model_copy(
        update={"noise": noise, "mask": MaskRef(path=tmp_path / "noisy.npz", fingerprint=mask.fingerprint)}
    )
    inputs = load_image_inputs(noisy)
    biases = torch.cat([head.bias.detach() for head in inputs.network.heads]).double()
    positives = torch.from_numpy(mask.targets == 1).sum(0)
    assert positives.tolist() != (opened.targets[parts.train] == 1).sum(0).tolist()
    expected = (positives + 0.5) / (len(mask.targets) + 1)
    torch.testing.assert_close(biases.sigmoid(), expected.double(), rtol=1e-5, atol=0)


def test_an_oracle_and_its_control_get_the_noise_of_the_mask(tmp_path: Path) -> None:
    given = arm(tmp_path, 0, ("Mass", "Nodule"))
    opened, parts = open_split(given.store, given.split)
    mask = draw_noise(RandomNoise(rate=0.5, labels=("Mass",)), opened.targets[parts.train], given.labels, 0)
    mask.save(tmp_path / "noisy.npz")
    noisy = given.model_copy(update={"mask": MaskRef(path=tmp_path / "noisy.npz", fingerprint=mask.fingerprint)})
    expected = noise_weights(realised_noise(torch.from_numpy(mask.clean), torch.from_numpy(mask.targets)))
    assert expected[0] < expected[1]
    for method in (OracleSettings(), PermutedWeightsSettings(of=OracleSettings())):
        weights = load_image_inputs(noisy.model_copy(update={"method": method})).weighting.weights()
        assert torch.equal(weights.sort().values, expected.sort().values)


def test_a_weighting_starts_from_the_source_networks_features_of_the_arms_own_training_images(tmp_path: Path) -> None:
    first = arm(tmp_path, 3, ("Mass", "Nodule"))
    inputs = load_image_inputs(first.model_copy(update={"method": TrustSettings()}))
    source = load_image_inputs(first.model_copy(update={"seed": 4})).network
    assert inputs.weighting.trust() is None
    start_weighting(inputs, source, 3)
    found = inputs.weighting.trust()
    features, targets, patients = join_batches(feature_pass(source, inputs.train, 3)(None))
    assert torch.equal(targets, inputs.train.targets)
    assert found == label_trust(features, targets, patients)
    own = join_batches(feature_pass(inputs.network, inputs.train, 3)(None))
    assert found != label_trust(*own)
