"""What a weighting sees of a finished network."""

import numpy as np
import pytest
import torch

from models.data.image_batches import examples
from models.randomness import random_subset
from models.training import image_step, image_training
from models.training.image_training import feature_pass, fit
from models.weighting.base import FeatureBatch
from models.weighting.feature_weights import join_batches
from tests.models.training.test_image_training import SETTINGS, TRAIN, VAL, Looking, mapped, toy_network


def finished():
    """A network whose running statistics are not those of a batch."""
    network = toy_network()
    for name, buffer in network.named_buffers():
        if "running" in name:
            low, high = (-0.1, 0.1) if "mean" in name else (0.5, 1.5)
            buffer.uniform_(low, high, generator=torch.Generator().manual_seed(0))
    return network


def whole(network, data=TRAIN, rows=None, seed=0):
    return join_batches(feature_pass(network, data, seed)(rows))


@pytest.mark.parametrize("training", [True, False])
def test_the_features_are_the_networks_in_evaluation_mode_and_its_mode_stays(monkeypatch, training):
    monkeypatch.setattr(image_step, "INFERENCE_BATCH", 40)  # 90 images in three batches
    network = finished().train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = list(feature_pass(network, TRAIN, seed=0)(None))
    assert [len(batch.features) for batch in batches] == [40, 40, 10]
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    features, targets, patients, networks = join_batches(batches)
    assert features.std(0).max() > 0.01
    torch.testing.assert_close(features, network.eval().features(TRAIN.pixels).detach(), rtol=1e-5, atol=1e-6)
    assert torch.equal(targets, TRAIN.targets)
    assert torch.equal(patients, TRAIN.patient_numbers)
    assert not networks.any()


def test_a_sample_has_the_rows_that_its_seed_draws_with_their_labels_and_patients():
    network, everything = finished(), whole(finished())
    for seed in (0, 1):
        rows = random_subset(seed, "feature pass", 90, 25)
        sample = whole(network, rows=25, seed=seed)
        for part, expected in zip(sample, everything, strict=True):
            torch.testing.assert_close(part, expected[rows], rtol=1e-5, atol=1e-6)
    assert not torch.equal(random_subset(0, "feature pass", 90, 25), random_subset(1, "feature pass", 90, 25))


def test_sizes_are_numbers_shares_or_all_and_a_share_has_a_least_number(monkeypatch):
    monkeypatch.setattr(image_training, "MIN_SAMPLE_SIZE", 30)
    network = finished()
    assert [len(whole(network, rows=rows).targets) for rows in (None, 20, 1000, 0.1, 0.5)] == [90, 20, 90, 30, 45]


def test_images_in_a_store_have_the_same_features(tmp_path):
    stored = mapped(tmp_path, TRAIN, "train")
    for ours, expected in zip(whole(finished(), stored, 25)[:2], whole(finished(), rows=25)[:2], strict=True):
        assert torch.equal(ours, expected)


def test_a_running_pass_over_the_kept_network_has_the_same_features():
    """The training's own pass and this one sample alike, so that finished and running features can be compared."""
    rule, network = Looking(25), toy_network()
    fit(network, rule, TRAIN, VAL, SETTINGS.model_copy(update={"epochs": 1}), seed=3, device="cpu")
    for ours, expected in zip(whole(network, rows=25, seed=3), rule.seen[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_joined_batches_keep_their_order():
    targets = np.arange(6).reshape(3, 2) % 2
    data = examples(np.zeros((3, 4, 4), np.uint8), targets, ("a",), patient_numbers=np.array([5, 5, 7]))
    batch = FeatureBatch(torch.arange(3.0)[:, None], data.targets, data.patient_numbers, torch.tensor([0, 1, 1]))
    joined = join_batches([FeatureBatch(*(part[:1] for part in batch)), FeatureBatch(*(part[1:] for part in batch))])
    assert all(torch.equal(ours, expected) for ours, expected in zip(joined, batch, strict=True))
