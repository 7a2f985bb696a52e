"""torchvision's functions do what our operations do, so that speeds of the like are compared; and the command runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.augmentation_speed import POLICIES, TORCHVISION, by_policy, composed_by_torchvision, magnitude_of
from models.augmentation.augment import augment
from models.augmentation.draws import Draw
from models.augmentation.operations import LISTS, NAMES
from tests.models.augmentation.test_geometry import smooth_images


def ours(images, name, magnitude):
    drawn = Draw(
        torch.full((len(images), 1), NAMES.index(name)),
        torch.full((len(images), 1), magnitude, dtype=torch.float64),
        torch.full((len(images), 1, 2), 0.5, dtype=torch.float64),
        torch.full((len(images), 1), -1),
    )
    return augment(images, drawn, images[:0], ("bilinear", "black"))


def test_torchvision_has_every_operation_of_the_list():
    assert set(TORCHVISION) == {operation.name for operation in LISTS["radiograph"]}


@pytest.mark.parametrize("operation", [each for each in LISTS["radiograph"] if each.name != "cutout"], ids=str)
def test_torchvisions_function_gives_our_image(operation):
    images = smooth_images(0, 4, 1, 60)
    magnitude = operation.low + 0.7 * (operation.high - operation.low)
    for signed in (magnitude, -magnitude) if operation.signed else (magnitude,):
        expected = ours(images, operation.name, signed).int()
        pictures = [TORCHVISION[operation.name](Image.fromarray(image[0].numpy()), signed) for image in images]
        by_pillow = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])[:, None]).int()
        for found in (TORCHVISION[operation.name](images, signed).int(), by_pillow):
            # without the edges, where Pillow's and torchvision's black begin apart
            apart, moved = ((each - expected)[..., 4:-4, 4:-4].abs().float().mean() for each in (found, images.int()))
            assert apart < 1.5
            assert apart < moved / 2


def test_torchvisions_cutout_hides_as_much_as_ours_but_for_the_edge():
    images = torch.zeros(1, 1, 40, 40, dtype=torch.uint8)
    for _ in range(20):
        assert 1 <= (TORCHVISION["cutout"](images, 0.2) == 128).sum() <= 64
    assert (np.asarray(TORCHVISION["cutout"](Image.fromarray(images[0, 0].numpy()), 0.2)) == 128).any()


def test_the_compositions_change_images_about_as_often_as_ours():
    """A quarter of ours carries no operation; a few of the others change so little that nothing is seen."""
    images = smooth_images(1, 1, 1, 48).expand(400, 1, 48, 48)
    theirs = torch.stack([composed_by_torchvision(image) for image in images])
    mine = by_policy(POLICIES["composed"], images.contiguous(), torch.arange(400), epoch=1)
    for found in (theirs, mine):
        assert 0.6 < (found != images).flatten(1).any(1).float().mean() < 0.85


def test_magnitudes_fill_the_range_of_an_operation():
    operation = next(each for each in LISTS["radiograph"] if each.name == "rotate")
    drawn = [magnitude_of(operation) for _ in range(400)]
    assert -10 <= min(drawn) < -9
    assert 9 < max(drawn) <= 10


@pytest.mark.long
def test_the_command_measures_rates_policies_and_steps(tmp_path: Path):
    small = {"size": 16, "batch": 4, "images": 16, "steps": 1, "threads": 1, "rounds": 1, "backbone": "conv4"}
    flags = [f"--{name}={value}" for name, value in small.items()] + ["--device=cpu", f"--json={tmp_path}/found.json"]
    command = [sys.executable, "-m", "benchmarks.augmentation_speed", *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rates"] == json.loads(done.stdout.splitlines()[-1])["rates"]
    assert [each["policy"] for each in found["rates"]] == ["composed", "randaugment"]
    assert [each["policy"] for each in found["policies"]] == list(POLICIES)
    none, _, uncertainty = found["steps"]
    assert none["of_plain_step"]["step"]["median"] == 1
    assert uncertainty["of_plain_step"]["selection"]["median"] > none["of_plain_step"]["selection"]["median"]
