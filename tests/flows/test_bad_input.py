"""Bad input: one clear line, exit code 2, and nothing that was there is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.cli import BAD_INPUT, OK, exit_code
from flows.settings import compose
from flows.study import StudySettings

pytestmark = pytest.mark.slow

Refused = Callable[..., str]


@pytest.fixture
def refused(medmtl_home: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a command that must be refused; gives its last line on the terminal."""

    def run(*arguments: str) -> str:
        assert exit_code(list(arguments)) == BAD_INPUT
        said = capfd.readouterr().err
        assert "Traceback" not in said
        return said.splitlines()[-1]

    return run


def folder_of_images(folder: Path, rows: str, images: int = 6) -> str:
    folder.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (images, 48, 48), dtype=np.uint8)
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    (folder / "labels.csv").write_text(rows)
    return str(folder)


ROWS = "image,patient,Mass\n" + "".join(f"{number}.png,p{number},{number % 2}\n" for number in range(6))


def test_data_that_cannot_be_used(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no image found" in refused("ingest", "--data", "empty")
    assert "no such folder" in refused("ingest", "--data", "nowhere")
    line = refused("ingest", "--data", folder_of_images(tmp_path / "a", "image,Mass\n0.png,1\n"))
    assert "no column 'Patient ID'" in line
    assert "'image', 'Mass'" in line  # the columns that were found
    broken = Path(folder_of_images(tmp_path / "b", ROWS))
    for name in ("0.png", "1.png", "2.png"):
        (broken / name).write_bytes((broken / name).read_bytes()[:-20])
    line = refused("ingest", "--data", str(broken))
    assert "of 6 images cannot be read, the limit is 5%" in line
    assert "0.png: truncated" in line


def test_names_and_values_that_are_none(refused: Refused, small: list[str], small_train: list[str]) -> None:
    assert "did you mean svd?" in refused("study", *small, "--method", "svdd")
    assert "did you mean 'resnet18'?" in refused("train", *small_train, "--backbone", "resnet_18")
    line = refused("study", *small, "--noise", "random", "--noise-rate", "20")
    assert "noise rate must lie in [0, 1]; got 20. Did you mean 0.2?" in line
    line = refused("study", *small, "--noise", "random", "--noise-rate", "0.2", "--noise-label", "Efusion")
    assert "did you mean Effusion?" in line
    assert "conv4" in refused("train", *small_train, "--backbone", "conv5")
    assert "use --split random" in refused("study", *small, "--split", "chexnet")


LISTS = {
    "invert": "turns the grey scale of a radiograph, so that air looks like bone: leave invert out",
    "solarize": "turns the grey scale of a radiograph, so that air looks like bone: leave solarize out",
    "vertical_flip": "turns a radiograph upside down: leave vertical_flip out",
    "{name: posterize, low: 8, high: 2}": "leaves 2 bits of a radiograph's grey values; findings need 5: leave",
    "{name: translate_x, high: 0.34}": "out of a radiograph, by 34%; the limit is 25%: leave translate_x out",
}
"""Operation that destroys labels -> why, and the remedy."""

POLICIES = {
    "{kind: uncertainy}": "policies.1: unknown kind 'uncertainy'; did you mean uncertainty?",
    "{kind: composed, operations: [rotate, equalise]}": "unknown operation 'equalise'; did you mean 'equalize'?",
    "{kind: composed, operations: papr}": "unknown list of operations 'papr'; did you mean 'paper'?",
    "{kind: randaugment, level: 31}": "randaugment.level: input should be less than or equal to 30; got '31'",
    "{kind: composed, operations: [{name: rotate, low: 300}]}": "of rotate must lie in -180 to 180; got ",
    "{kind: uncertainty, selected: 5}": "selected must be at most the number of candidates, 4; got 5",
    "{kind: none}": "policies: none is named twice in none, none; name each once",
    "{kind: randaugment, operations: randaugment}": "(translate_x; translate_y, posterize, solarize harm alike): ",
} | {f"{{kind: composed, operations: [rotate, {operation}]}}": said for operation, said in LISTS.items()}


def test_a_policy_that_cannot_be_used_is_one_line_before_any_work(
    refused: Refused, medmtl_home: Path, small: list[str]
) -> None:
    study = Path(small[1]).read_text()
    for policy, said in POLICIES.items():
        Path("policies.yaml").write_text(f"{study}policies: [{{kind: none}}, {policy}]\n")
        line = refused("study", "--config", "policies.yaml", "--out", "out")
        assert said in line
        assert "more)" not in line
    assert "did you mean simple?" in refused("study", *small, "--policy", "simpel")
    assert "one --policy; got none, simple" in refused("train", *small, "--policy", "none", "--policy", "simple")
    assert not Path("out").exists()
    assert not (medmtl_home / "stores").exists()
    assert not (medmtl_home / "mlflow-artifacts").exists()


def test_a_list_that_destroys_labels_can_be_asked_for_by_name(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("policies: [{kind: composed, operations: [rotate, invert], allow: [invert]}]\n")
    settings = compose(StudySettings, file, {})
    assert [operation.name for operation in settings.policies[0].drawn] == ["rotate", "invert"]


def test_a_damaged_store(
    refused: Refused, small: list[str], medmtl_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = Path("data.yaml")
    config.write_text("data: {size: 32, phantom: {patients: 60, size: 64}}\n")
    assert exit_code(["ingest", "--config", str(config), "--out", "in"]) == OK
    capfd.readouterr()
    pixels = next((medmtl_home / "stores").glob("*/pixels-00000.npy"))
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    line = refused("study", *small)
    assert "pixels-00000.npy is not what was written" in line
    assert "delete the folder" in line


def test_a_label_without_positives_is_null_with_its_reason(medmtl_home: Path, tmp_path: Path) -> None:
    rows = "image,patient,Mass,Never\n" + "".join(f"{n}.png,p{n},{n % 2},0\n" for n in range(60))
    data = folder_of_images(tmp_path / "images", rows, images=60)
    named = ["--label-column", "Mass", "--label-column", "Never"]  # a column of zeros is a label only if it is named
    assert exit_code(["train", "--data", data, *named, "--size", "32", "--epochs", "1", "--out", "out"]) == OK
    labels = json.loads(Path("out/results.json").read_text())["arms"][0]["labels"]
    scores = {label: found["score"] for label, found in labels.items()}
    assert scores["Never"]["value"] is None
    assert "no positive" in scores["Never"]["reason"]
    assert scores["Mass"]["value"] is not None
