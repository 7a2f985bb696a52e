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
from models.networks.multitask import MultiTaskNetwork, NetworkSettings
from models.training.cross_fit import cross_fit
from models.training.image_training import TrainingSettings, feature_pass
from models.weighting.feature_weights import join_batches
from models.weighting.label_trust import label_trust
from models.weighting.oracle import OracleSettings, noise_weights, realised_noise
from models.weighting.permuted import PermutedWeightsSettings
from models.weighting.registry import UniformSettings
from models.weighting.svd_rules import Svd, SvdSettings
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
    second = arm(tmp_path, 3, ("Mass", "Nodule")).model_copy(update={"method": SvdSettings()})
    inputs = load_image_inputs(second)
    source = load_image_inputs(second.model_copy(update={"seed": 4})).network
    start_weighting(second, inputs, source, lambda done, total: pytest.fail("nothing is trained"))

    def weights(network: MultiTaskNetwork) -> torch.Tensor:
        weighting = Svd(SvdSettings(), 2)
        weighting.start(feature_pass(network, inputs.train, 3))
        return weighting.weights()

    assert torch.equal(inputs.weighting.weights(), weights(source))
    assert not torch.equal(inputs.weighting.weights(), weights(inputs.network))


def test_label_trust_starts_from_features_of_networks_trained_without_the_images_patient(tmp_path: Path) -> None:
    training = TrainingSettings(epochs=2)
    given = arm(tmp_path, 3, ("Mass", "Nodule")).model_copy(update={"method": TrustSettings(), "training": training})
    inputs = load_image_inputs(given)
    before = {name: value.clone() for name, value in inputs.network.state_dict().items()}
    steps: list[tuple[int, int]] = []
    start_weighting(given, inputs, None, lambda done, total: steps.append((done, total)))
    cross_fitted = cross_fit(inputs.network, inputs.train, inputs.val, training, seed=3, device="cpu")
    features, targets, patients, networks = join_batches(cross_fitted(None))
    assert inputs.weighting.trust() == label_trust(features, targets, patients, networks=networks)
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert all(torch.equal(value, before[name]) for name, value in inputs.network.state_dict().items())
