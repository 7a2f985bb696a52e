"""Weights from samples: larger samples agree better with all images, and the last row draws whole patients."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.weight_sampling import SIZES, image_samples, measure, patient_samples, sampling_error
from models.randomness import random_subset
from models.weighting.base import FeatureBatch


def made_up(n: int = 1500, k: int = 5) -> FeatureBatch:
    """Features of two networks; labels of unequal strength and noise."""
    rng = np.random.default_rng(0)
    clean = rng.random((n, k)) < 0.2
    x = rng.standard_normal((n, 8)) + clean @ (rng.standard_normal((k, 8)) * np.linspace(0.5, 2, k)[:, None])
    coins = rng.random((n, k)) < np.linspace(0, 0.6, k)
    noisy = np.where(coins, rng.random((n, k)) < 0.5, clean).astype(np.int8)
    return FeatureBatch(*map(torch.as_tensor, (x.astype(np.float32), noisy, np.arange(n) // 3, np.arange(n) // 3 % 2)))


@pytest.mark.parametrize("kind", ["svd", "trust"])
def test_weights_of_more_images_are_nearer_to_those_of_all(kind: str) -> None:
    rows = measure(kind, made_up(), samples=10)
    assert [row["images"] for row in rows] == ["256", "512", "1024", "1500, other patients"]
    assert {row["weights"] for row in rows} == {kind}
    correlations = [row["correlation"].median for row in rows[:3]]
    deviations = [row["deviation"].median for row in rows[:3]]
    assert correlations == sorted(correlations)
    assert deviations == sorted(deviations, reverse=True)
    assert correlations[-1] > 0.95


def test_a_sample_is_what_a_feature_pass_of_that_seed_takes() -> None:
    drawn = list(image_samples(1000, SIZES[0], 3))
    for seed, rows in enumerate(drawn):
        np.testing.assert_array_equal(rows, random_subset(seed, "feature pass", 1000, SIZES[0]))


def test_other_patients_come_with_all_their_images_some_of_them_more_than_once() -> None:
    patients = np.array([4, 4, 7, 9, 9, 9])
    for rows in patient_samples(patients, 20):
        times = np.bincount(rows, minlength=6)
        assert times[0] == times[1]
        assert times[3] == times[4] == times[5]
        assert times[0] + times[2] + times[3] == 3


def test_the_sampling_error_is_a_correlation_over_labels_and_a_deviation_over_samples() -> None:
    everything = np.array([0.5, 1.0, 1.5])
    correlation, deviation = sampling_error(everything, np.array([[0.4, 1.0, 1.6], [0.6, 1.0, 1.4]]))
    assert correlation == pytest.approx((1, 1, 1))
    assert deviation.median == pytest.approx(np.std([0.4, 0.6], ddof=1))
    assert (deviation.low, deviation.high) == pytest.approx((deviation.median / 2, deviation.median))


@pytest.mark.long
def test_the_table_is_measured_on_a_small_phantom(tmp_path: Path) -> None:
    out = tmp_path / "sampling.json"
    command = [sys.executable, "-m", "benchmarks.weight_sampling", "--patients=150", "--epochs=1", "--samples=2"]
    subprocess.run([*command, "--json", str(out)], cwd=Path(__file__).parents[2], check=True, capture_output=True)
    rows = json.loads(out.read_text())["rows"]
    assert {row["noise"] for row in rows} == {"clean", "40 % coins on half"}
    assert {row["weights"] for row in rows} == {"svd", "trust"}
