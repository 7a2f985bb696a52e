"""The comparison of two versions finds what differs, and nothing else."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checkouts import compared, trained_anew

RESULTS: dict[str, Any] = {
    "schema": "medmtl/study/1",
    "arms": [
        {"method": "svd", "seed": 0, "mean": {"value": 0.7, "lo": None}, "seconds": 3.0, "reused": True, "hash": "a"}
    ],
    "notes": ["Noise is in the training labels only."],
}


def differences(folder: Path, change: dict[str, Any]) -> tuple[list[str], set[tuple[str, str]]]:
    for name, results in (("one", RESULTS), ("other", change)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "results.json").write_text(json.dumps(results))
    return compared(folder / "one", folder / "other")


def test_the_same_results_do_not_differ_whatever_their_times(tmp_path: Path) -> None:
    other = copy.deepcopy(RESULTS)
    other["arms"][0] |= {"seconds": 9.0, "reused": False}
    assert differences(tmp_path, other) == ([], set())


@pytest.mark.parametrize(
    ("key", "value"), [("method", "uniform"), ("seed", 1), ("mean", {"value": 0.7 + 1e-16}), ("hash", "b"), ("new", 1)]
)
def test_any_other_change_of_an_arm_is_found(tmp_path: Path, key: str, value: Any) -> None:
    other = copy.deepcopy(RESULTS)
    other["arms"][0][key] = value
    found, sentences = differences(tmp_path, other)
    assert len(found) >= 1
    assert all(f".arms[0].{key}" in line for line in found)
    assert not sentences


def test_a_lost_arm_and_a_lost_key_are_found(tmp_path: Path) -> None:
    assert len(differences(tmp_path, RESULTS | {"arms": []})[0]) == 1
    assert len(differences(tmp_path, {"schema": RESULTS["schema"], "notes": RESULTS["notes"]})[0]) == 1


def test_a_sentence_that_differs_is_listed_and_is_no_difference(tmp_path: Path) -> None:
    found, sentences = differences(tmp_path, RESULTS | {"notes": ["Only training labels are noisy."]})
    assert not found
    assert sentences == {("Noise is in the training labels only.", "Only training labels are noisy.")}


def test_an_arm_that_was_not_reused_is_named(tmp_path: Path) -> None:
    arms = [{"hash": "a", "reused": True}, {"hash": "b", "reused": False}]
    (tmp_path / "results.json").write_text(json.dumps({"arms": arms}))
    assert list(trained_anew({}, "", tmp_path)) == ["arms trained anew: b"]
    killed = {"killed": True}
    assert not list(trained_anew(killed, "svd: goes on after epoch 3 of 12", tmp_path))
    assert list(trained_anew(killed, "svd: epoch 1", tmp_path))
