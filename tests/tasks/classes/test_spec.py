"""What an arm of a classification is called, and what its hash depends on."""

from pathlib import Path
from typing import Any

import pytest

from data_prep.labels.class_split import ClassSplitSettings
from models.augmentation.natural_images import NaturalComposedPolicy, NaturalUncertaintyPolicy
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from tasks.classes.spec import METHOD, ClassArm
from tasks.data.ingest import StoreRef


def arm(**changed: Any) -> ClassArm:
    store = StoreRef(name="mnist", path=Path("store"), fingerprint="sha256:1", reused=False)
    fields = {
        "method": METHOD,
        "condition": "clean",
        "store": store,
        "split": ClassSplitSettings(),
        "split_fingerprint": "sha256:2",
        "noise_rate": 0.0,
        "length": "8 epochs",
        "network": NetworkSettings(),
        "training": TrainingSettings(),
        "score_tests": True,
        "seed": 3,
        "device": "cpu",
        "threads": 1,
    }
    return ClassArm(**fields | changed)


def test_the_title_names_what_varies_and_the_floor() -> None:
    assert arm(policy=NaturalComposedPolicy()).title == "clean · composed · 8 epochs · seed 3"
    assert arm(floor_of=1).title == "single, other seeds · clean · none · 8 epochs · seed 3"


def test_a_name_changes_no_hash_and_a_place_neither() -> None:
    moved = StoreRef(name="digits", path=Path("elsewhere"), fingerprint="sha256:1", reused=True)
    same = arm(length="eight", condition="as it is", store=moved, split=ClassSplitSettings(seed=4))
    assert same.hash == arm().hash


@pytest.mark.parametrize(
    "changed",
    [
        {"policy": NaturalComposedPolicy()},
        {"policy": NaturalUncertaintyPolicy()},
        {"noise_rate": 0.4},
        {"training": TrainingSettings(epochs=9)},
        {"network": NetworkSettings(backbone="wide_resnet_10_1")},
        {"score_tests": False},
        {"seed": 4},
        {"split_fingerprint": "sha256:3"},
    ],
)
def test_what_changes_the_numbers_changes_the_hash(changed: dict[str, Any]) -> None:
    assert arm(**changed).hash != arm().hash


def test_wrong_labels_of_the_floor_are_those_of_the_arm_that_it_is_compared_with() -> None:
    assert arm(seed=4, floor_of=3).hash == arm(seed=4).hash  # without noise the same training
    noisy, floor = arm(seed=4, noise_rate=0.4), arm(seed=4, floor_of=3, noise_rate=0.4)
    assert floor.hash != noisy.hash
    assert (floor.paired_seed, noisy.paired_seed) == (3, 4)
