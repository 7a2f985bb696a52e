"""The public recipe is the one that torchxrayvision's scripts state, and it gets the same start as ours."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.compare_recipes import (
    Data,
    augmentation,
    public_network,
    public_scores,
    scaled,
    task_weights,
    train_publicly,
    weighted_loss,
)
from models.data.image_batches import examples
from models.networks.multitask import NetworkSettings, initial_network

LABELS = ("Effusion", "Mass", "Hernia")


def targets_of(n: int, seed: int = 0) -> Tensor:
    return torch.randint(-1, 2, (n, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)


def test_tasks_with_fewer_positives_weigh_more() -> None:
    targets = torch.zeros(10, 3, dtype=torch.int8)
    for task, positives in enumerate((6, 2, 1)):
        targets[:positives, task] = 1
    targets[9] = -1
    # max - count + mean: 6 - 6 + 3, 6 - 2 + 3, 6 - 1 + 3
    torch.testing.assert_close(task_weights(targets), torch.tensor([3.0, 7.0, 8.0]) / 8)


def test_the_loss_is_the_sum_over_tasks_of_the_mean_of_the_known_labels() -> None:
    targets = targets_of(16)
    targets[:, 2] = -1  # a task without a known label adds nothing
    logits = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))
    weights = torch.tensor([1.0, 0.5, 0.25])
    by_task = torch.zeros(())
    for task in range(3):
        known = targets[:, task] >= 0
        if known.any():
            loss = nn.BCEWithLogitsLoss()(logits[known, task], targets[known, task].float())
            by_task += weights[task] * loss
    torch.testing.assert_close(weighted_loss(logits, targets, weights), by_task)


def test_pixels_run_from_minus_to_plus_1024() -> None:
    torch.testing.assert_close(scaled(torch.tensor([0, 255], dtype=torch.uint8)), torch.tensor([-1024.0, 1024.0]))


def test_the_augmentation_turns_shifts_and_scales_as_far_as_the_scripts_say() -> None:
    torch.manual_seed(0)
    image, augment = torch.zeros(1, 101, 101), augmentation()
    image[0, 48:53, 48:53], image[0, 48:53, 68:73] = 700.0, -300.0  # in the middle, and 20 px to the right of it
    centres, arms = [], []
    for _ in range(400):
        drawn = augment(image)[0]
        assert set(drawn.unique().tolist()) == {-300.0, 0.0, 700.0}
        middle, right = ((drawn == value).nonzero().float().mean(0) for value in (700.0, -300.0))
        centres.append(middle - 50)
        arms.append(right - middle)
    shifts, arm = torch.stack(centres), torch.stack(arms)
    lengths, degrees = arm.norm(dim=1) / 20, torch.rad2deg(torch.atan2(arm[:, 0], arm[:, 1]))
    torch.testing.assert_close(shifts.abs().amax(0), torch.tensor([15.0, 15.0]), rtol=0, atol=1.5)
    torch.testing.assert_close(torch.stack([degrees.min(), degrees.max()]), torch.tensor([-45.0, 45.0]), rtol=0, atol=4)
    torch.testing.assert_close(
        torch.stack([lengths.min(), lengths.max()]), torch.tensor([0.85, 1.15]), rtol=0, atol=0.04
    )


@pytest.mark.parametrize("backbone", ["conv4", "resnet18", "test_vit"])
def test_both_begin_with_the_same_weights_of_the_backbone(backbone: str) -> None:
    settings = NetworkSettings(backbone=backbone)
    pixels = torch.randint(0, 256, (4, 160, 160), dtype=torch.uint8)
    ours = initial_network(settings, LABELS, pixels, seed=3).eval()
    public = public_network(ours, settings, seed=3).eval()
    assert public(pixels[:, None].float()).shape == (4, 3)
    state, first = public.state_dict(), ours.trunks[0].backbone.state_dict()
    assert len(state) == len(first) + 2
    assert all(torch.equal(state[name], value) for name, value in first.items())


class ScriptedData(Data):
    """Validation AUCs that are given."""

    aucs: Iterator[float]

    def val_auc(self, scores: NDArray) -> float:
        return next(self.aucs)


def trained(aucs: list[float]) -> dict[str, Tensor]:
    pixels = torch.randint(0, 256, (80, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    parts = {part: examples(pixels, targets_of(80), (part,)) for part in ("train", "val")}
    data = ScriptedData(LABELS, parts, np.arange(0))
    object.__setattr__(data, "aucs", iter(aucs))
    first = initial_network(NetworkSettings(), LABELS, pixels, seed=0)
    network = public_network(first, NetworkSettings(), seed=0)
    train_publicly(network, data, len(aucs), seed=0, device=torch.device("cpu"), normalise=scaled)
    return network.state_dict()


def test_the_epoch_with_the_best_validation_auc_is_kept() -> None:
    best_of_three, second, third = trained([0.5, 0.9, 0.6]), trained([0.5, 0.9]), trained([0.5, 0.6, 0.9])
    assert all(torch.equal(value, second[name]) for name, value in best_of_three.items())
    assert not all(torch.equal(value, third[name]) for name, value in best_of_three.items())


def test_scores_do_not_depend_on_the_batches() -> None:
    pixels = torch.randint(0, 256, (130, 1, 64, 64), dtype=torch.uint8)
    network = public_network(initial_network(NetworkSettings(), LABELS, pixels, seed=0), NetworkSettings(), seed=0)
    scores = public_scores(network, pixels, scaled, torch.device("cpu"))
    assert scores.shape == (130, 3)
    alone = public_scores(network, pixels[128:], scaled, torch.device("cpu"))
    np.testing.assert_allclose(scores[128:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("against", ["public", pytest.param("before", marks=pytest.mark.long)])
def test_the_command_compares_both_over_seeds_and_patients(tmp_path: Path, against: str) -> None:
    out = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.compare_recipes", f"--against={against}", "--patients=120"]
    command += ["--seeds=3", "--epochs=1", "--phantoms", "901", "902"]
    command += ["--device=cpu", f"--data={tmp_path}", f"--json={out}"]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    found: dict[str, Any] = json.loads(out.read_text())
    for part in found["parts"].values():
        differences = [pair["ours"] - pair[against] for pair in part["test_auc"].values()]
        assert part["difference"]["delta"] == pytest.approx(sum(differences) / 3)
        assert 0 < len(part["scored_labels"]) < 14
    whole = found["difference"]
    assert whole["over"] == "seeds and patients"
    assert whole["lo"] < whole["delta"] < whole["hi"]
    assert whole["delta"] == pytest.approx(np.mean([part["difference"]["delta"] for part in found["parts"].values()]))
    assert found["training"]["epochs"] == 1
