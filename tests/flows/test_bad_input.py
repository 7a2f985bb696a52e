"""Bad input: one clear line, exit code 2, and nothing that was there is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from flows.cli import BAD_INPUT, OK, exit_code

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
