"""Cross-fitting: the features of an image are those of a network that never saw its patient's labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.errors import SettingError
from models.networks.multitask import set_head_biases
from models.randomness import random_subset
from models.training.cross_fit import NETWORKS, cross_fit, patient_parts
from models.training.image_training import feature_pass, fit
from models.weighting.feature_weights import join_batches
from models.weighting.registry import Uniform, UniformSettings
from tests.models.training.test_image_training import SETTINGS, TRAIN, VAL, mapped, toy_network

PART = patient_parts(TRAIN.patient_numbers, 3)


def crossed(train=TRAIN, rows=None, seed=3, **how):
    """The joined features, and the rows that they are of."""
    batch = join_batches(cross_fit(toy_network(), train, VAL, SETTINGS, seed=seed, device="cpu", **how)(rows))
    drawn = torch.arange(len(train)) if rows is None else random_subset(seed, "feature pass", len(train), rows)
    part = patient_parts(train.patient_numbers, seed)[drawn]
    return batch, torch.cat([drawn[part == each] for each in range(NETWORKS)])


def test_patients_are_dealt_whole_into_parts_of_nearly_equal_numbers_by_the_seed():
    assert all(len(PART[TRAIN.patient_numbers == each].unique()) == 1 for each in TRAIN.patient_numbers.unique())
    numbers = [len(TRAIN.patient_numbers[part == PART].unique()) for part in range(NETWORKS)]
    assert sum(numbers) == len(TRAIN.patient_numbers.unique())
    assert max(numbers) - min(numbers) <= 1
    assert torch.equal(PART, patient_parts(TRAIN.patient_numbers, 3))
    assert not torch.equal(PART, patient_parts(TRAIN.patient_numbers, 4))


def test_each_parts_features_are_those_of_a_network_trained_with_uniform_weights_on_the_other_patients():
    batch, rows = crossed()
    assert torch.equal(batch.targets, TRAIN.targets[rows])
    assert torch.equal(batch.patients, TRAIN.patient_numbers[rows])
    assert torch.equal(batch.networks, PART[rows])
    for part in range(NETWORKS):
        others = part != PART
        data = replace(
            TRAIN,
            pixels=TRAIN.pixels[others],
            targets=TRAIN.targets[others],
            patient_numbers=TRAIN.patient_numbers[others],
        )
        network = toy_network()
        set_head_biases(network, data.targets)
        fit(network, Uniform(UniformSettings(), 3), data, VAL, SETTINGS, seed=3, device="cpu")
        expected = join_batches(feature_pass(network, TRAIN, 3)(None)).features[rows]
        torch.testing.assert_close(
            batch.features[batch.networks == part], expected[batch.networks == part], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("part", range(NETWORKS))
def test_the_labels_of_a_patient_do_not_change_its_own_features_but_those_of_others(part):
    own = part == PART
    other = replace(TRAIN, targets=torch.where(own[:, None], 1 - TRAIN.targets.clamp(min=0), TRAIN.targets))
    one, rows = crossed()
    two, _ = crossed(other)
    assert torch.equal(one.features[own[rows]], two.features[own[rows]])
    assert not torch.equal(one.features[~own[rows]], two.features[~own[rows]])


def test_the_given_network_and_the_images_stay_as_they_are():
    network = toy_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    cross_fit(network, TRAIN, VAL, SETTINGS, seed=0, device="cpu")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.trained_on == toy_network().trained_on


def test_a_sample_has_the_rows_of_the_seed_each_from_its_network():
    everything, all_rows = crossed()
    sample, rows = crossed(rows=25)
    position = {int(row): place for place, row in enumerate(all_rows)}
    places = [position[int(row)] for row in rows]
    for ours, expected in zip(sample, everything, strict=True):
        torch.testing.assert_close(ours, expected[places], rtol=1e-5, atol=1e-6)


def test_images_in_a_store_have_the_same_features(tmp_path):
    stored, _ = crossed(replace(mapped(tmp_path, TRAIN, "train"), patient_numbers=TRAIN.patient_numbers))
    assert torch.equal(stored.features, crossed()[0].features)


def test_every_step_of_all_networks_is_reported():
    seen = []
    crossed(progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}
    halves = np.bincount(PART.numpy())
    assert len(seen) == sum(SETTINGS.epochs * -(-int(len(PART) - half) // SETTINGS.batch_size) for half in halves)


def test_a_patient_in_training_and_validation_is_refused():
    with pytest.raises(SettingError, match="patient"):
        cross_fit(toy_network(), TRAIN, TRAIN, SETTINGS, seed=0, device="cpu")
