"""A classification study, small: what it trains, compares, reports and refuses."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flows.classify import ClassifySettings
from flows.cli import BAD_INPUT, OK, exit_code
from models.augmentation.policies import (
    ComposedPolicy,
    RandAugmentPolicy,
    SimplePolicy,
    TrivialAugmentPolicy,
    UncertaintyPolicy,
)
from tasks.records.study import read_results
from tests.flows.test_study import runs

STUDY = """
policies: [{kind: composed}, {kind: uncertainty}, {kind: compute_matched}]
wrong_labels: [0.0, 0.4]
lengths: [1, 3]
seeds: 3
runner: {threads: 1}
training: {batch_size: 16, compile: "off"}
"""


def write_images(folder: Path, classes: int = 3, each: int = 30, parts: tuple[str, ...] = ("train", "test")) -> None:
    """Write colour images of classes that differ in their colour, in a folder for each class of each part."""
    rng = np.random.default_rng(0)
    for part in parts:
        for number in range(classes):
            into = folder / part / f"class {number}"
            into.mkdir(parents=True)
            for image in range(each):
                pixels = rng.integers(0, 200, (16, 16, 3), dtype=np.uint8)
                pixels[..., number] += 55
                cv2.imwrite(str(into / f"{image:03d}.png"), pixels)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "images")
    return tmp_path / "images"


@pytest.mark.slow
def test_a_classification_compares_policies_at_equal_steps_and_at_equal_computing(
    medmtl_home: Path, images: Path
) -> None:
    Path("study.yaml").write_text(STUDY)
    command = ["classify", "--config", "study.yaml", "--data", str(images), "--size", "16", "--out", "out"]
    assert exit_code(command) == OK
    results = read_results(Path("out/results.json"))
    composed, uncertainty, matched = "composed", "uncertainty", "compute_matched"
    assert {arm.policy for arm in results.arms} == {composed, uncertainty, matched}
    assert len(results.arms) == 2 * 2 * 3 * (3 + 2)  # rates, lengths, seeds, policies and the floors of two baselines
    assert all(arm.status == "finished" for arm in results.arms)
    pairs = {(c.method, c.baseline, c.experiment) for c in results.comparisons}
    assert pairs == {(uncertainty, composed, None), (uncertainty, matched, "equal compute")}
    assert len(results.comparisons) == 2 * 2 * 2
    assert len(results.floor) == 2 * 2 * 2
    assert len(results.interactions) == 2 * (2 + 2)
    noisy = [arm for arm in results.arms if arm.condition.kind == "symmetric"]
    assert all(("wrong_labels_learnt" in arm.facts) is (arm in noisy) for arm in results.arms)
    assert all(arm.facts["chosen_on_test"] >= 0 for arm in results.arms)
    page = Path("out/report.html").read_text()
    for text in ("Which augmentation", "Equal", "after 3 epochs", "published results often do", "What the selection"):
        assert text in page
    assert [run.info.status for run in runs("study")] == ["FINISHED"]
    assert exit_code([*command, "--force"]) == OK
    again = read_results(Path("out/results.json"))
    assert all(arm.reused for arm in again.arms)
    assert again.comparisons == results.comparisons


@pytest.mark.slow
def test_the_dry_run_of_a_classification_trains_nothing(medmtl_home: Path, images: Path) -> None:
    Path("study.yaml").write_text(STUDY)
    command = ["classify", "--config", "study.yaml", "--data", str(images), "--size", "16", "--dry-run"]
    assert exit_code(command) == OK
    assert not runs("arm")
    assert not Path("runs").exists()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run `medmtl classify`, check that it is refused, and return its only line that is no log line."""
    assert exit_code(["classify", *arguments]) == BAD_INPUT
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("medmtl: ")]
    return line


def _no_class(folder: Path) -> None:
    write_images(folder, classes=2)
    (folder / "train" / "empty").mkdir()


def _one_class(folder: Path) -> None:
    write_images(folder, classes=1)


def _another_class_in_test(folder: Path) -> None:
    write_images(folder, classes=2)
    (folder / "test" / "class 0").rename(folder / "test" / "other")


def _broken_batch(folder: Path) -> None:
    """Write CIFAR-10's files, of which the third was cut off."""
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        batch = {"data": np.zeros((10, 3072), np.uint8), "labels": list(range(10))}
        whole = pickle.dumps(batch, protocol=2)
        (folder / name).write_bytes(whole[: len(whole) // 2] if number == 2 else whole)
    names = {"label_names": [f"class {number}" for number in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_no_class, ("empty", "no image")),
        (_one_class, ("one class",)),
        (_another_class_in_test, ("other",)),
    ],
)
def test_images_that_cannot_be_classified_are_refused_in_one_line(
    medmtl_home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: Callable[[Path], None],
    words: tuple[str, ...],
) -> None:
    write(tmp_path / "images")
    line = refused(capsys, "--data", str(tmp_path / "images"), "--out", "out")
    assert all(word in line for word in words), line


def test_a_broken_batch_file_is_refused_in_one_line(
    medmtl_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _broken_batch(tmp_path / "batches")
    assert "data_batch_3" in refused(capsys, "--data", "cifar10", "--from", str(tmp_path / "batches"), "--out", "out")


def test_a_named_set_without_its_folder_is_refused_in_one_line(
    medmtl_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--from" in refused(capsys, "--data", "mnist", "--out", "out")


def test_policies_are_of_natural_images_where_nothing_else_is_said() -> None:
    kinds = ["none", "simple", "composed", "uncertainty", "randaugment", "trivialaugment", "compute_matched"]
    settings = ClassifySettings.model_validate({"policies": [{"kind": kind} for kind in kinds]})
    assert [policy.name for policy in settings.policies] == kinds
    policies: dict[str, Any] = {policy.name: policy for policy in settings.policies}
    composed, matched = policies["composed"], policies["compute_matched"]
    assert policies["simple"].slots == SimplePolicy(images="natural").slots
    for policy, of_radiographs in (
        (composed, ComposedPolicy(operations="paper")),
        (policies["uncertainty"], UncertaintyPolicy(operations="paper")),
        (policies["randaugment"], RandAugmentPolicy(operations="randaugment")),
        (policies["trivialaugment"], TrivialAugmentPolicy(operations="trivialaugment")),
        (matched, ComposedPolicy(operations="paper")),
    ):
        assert policy.slots == of_radiographs.slots
    assert matched.of == composed
    given = ClassifySettings.model_validate({"policies": [{"kind": "composed", "operations": ["rotate"]}]})
    assert {operation.name for operation in given.policies[0].slots[0].operations} == {"rotate"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"wrong_labels": [0.4, 0.4]}, "twice"),
        ({"lengths": [3, 3]}, "twice"),
        ({"baseline_policy": "compose"}, "composed"),
        ({"training": {"averaging": 0.9}}, "score_tests"),
        ({"policies": [{"kind": "none"}, {"kind": "none"}]}, "named twice"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(Exception, match=words):
        ClassifySettings.model_validate(given)
