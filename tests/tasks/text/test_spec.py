"""Specification of a text arm: what MLflow shows of it."""

import hashlib
import json
from pathlib import Path

import torch

from models.augmentation.word_replacement import UncertainWordPolicy, WordPolicy
from models.networks.text import TextNetworkSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import Source
from tasks.arms.mlflow_runs import flatten
from tasks.data.pretrained import VectorsRef
from tasks.data.texts import SentimentData
from tasks.text.spec import TextArm


def arm() -> TextArm:
    return TextArm(
        method="transfer",
        condition="SST to MR",
        data=SentimentData(folder=Path("sentences"), tasks=("mr", "sst")),
        overlap_group=("sst", "mr"),
        tasks={"mr": "sha256:1"},
        vocabulary_tasks={"sst": "sha256:2"},
        network=TextNetworkSettings(),
        training=TextTrainingSettings(),
        max_length=50,
        vectors=VectorsRef(path=Path("vectors.txt"), fingerprint="sha256:3"),
        source=Source(hash="0123456789abcdef"),
        seed=0,
        device="cpu",
        threads=1,
    )


def test_mlflow_parameters_keep_their_old_keys() -> None:
    parameters = arm().parameters()
    keys = "seed device threads method condition data together tasks words_of keep_overlap network training max_length"
    assert set(parameters) == {*keys.split(), "encoder", "vectors", "source", "keep_network", "policy"}
    assert parameters["together"] == ["sst", "mr"]
    assert flatten(parameters)["words_of.sst"] == "sha256:2"


def test_mlflow_parameters_contain_no_path() -> None:
    assert "folder" not in arm().parameters()["data"]
    assert arm().parameters()["vectors"] == {"fingerprint": "sha256:3"}


def test_the_hash_depends_on_content_not_on_names_and_folders() -> None:
    renamed = arm().model_copy(
        update={"method": "other", "condition": "other", "data": SentimentData(folder=Path("b"))}
    )
    assert renamed.hash == arm().hash
    assert arm().model_copy(update={"vocabulary_tasks": {"sst": "sha256:4"}}).hash != arm().hash


def test_an_arm_without_a_policy_has_the_hash_and_name_that_it_had_before_there_were_policies() -> None:
    inputs = [*arm().hash_inputs(), [1, torch.__version__, 2]]
    before = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    assert arm().hash == before
    assert arm().title == "transfer · SST to MR · seed 0"
    under = arm().model_copy(update={"policy": WordPolicy()})
    assert under.title == "transfer · SST to MR · composed · seed 0"
    others = [under, arm().model_copy(update={"policy": UncertainWordPolicy()})]
    assert len({before, *(other.hash for other in others)}) == 3


def test_an_arm_of_the_noise_floor_is_the_arm_of_its_seed_under_another_name() -> None:
    floor = arm().model_copy(update={"seed": 5, "floor_of": 0})
    assert floor.hash == arm().model_copy(update={"seed": 5}).hash
    assert (floor.paired_seed, floor.levels["method"]) == (0, "transfer, other seeds")
