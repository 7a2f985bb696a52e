"""The benchmark of what a selection prefers: its wrong labels, its intervals, and a short training."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from benchmarks.report import t_interval
from benchmarks.selection import CLASSES, Found, Setting, show, train, with_wrong_labels
from models.augmentation.operations import LISTS


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.4, 1.0])
def test_so_many_labels_are_wrong_as_was_asked_and_never_by_chance_right(rate: float) -> None:
    labels = np.arange(1000) % CLASSES
    noisy = with_wrong_labels(labels, rate, seed=3)
    assert (noisy != labels).mean() == rate
    assert np.isin(noisy, np.arange(CLASSES)).all()
    if rate == 1:
        distance = (noisy - labels) % CLASSES
        assert np.bincount(distance, minlength=CLASSES)[1:].min() > 70
    assert np.array_equal(noisy, with_wrong_labels(labels, rate, seed=3))


def test_the_interval_is_students_over_seeds() -> None:
    values = [0.1, 0.4, 0.2, 0.7]
    low, high = t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) / 2)
    assert t_interval(values) == pytest.approx((np.mean(values), low, high))
    assert t_interval([0.3])[1:] == (float("-inf"), float("inf"))


def test_differences_are_of_the_same_seed(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        Found(policy, 0.0, seed, 0.9 + 0.01 * seed + gain, None, {})
        for seed in range(3)
        for policy, gain in (("composed", 0.0), ("highest", 0.02))
    ]
    record = show(found, [0.0])
    assert record["highest, noise 0"]["accuracy less composed's"] == pytest.approx((0.02, 0.02, 0.02))
    assert "+2.00 [+2.00, +2.00]" in capsys.readouterr().out


@pytest.mark.slow
def test_a_short_training_tells_what_was_chosen_and_learnt(shared_data: Path) -> None:
    setting = Setting(shared_data / "vision", images=300, epochs=2, backbone="conv4", device="cpu", threads=1)
    highest, composed = (train(setting, policy, 0.4, seed=0) for policy in ("highest", "composed"))
    assert set(highest.ratios) == {operation.name for operation in LISTS["paper"]}
    assert composed.ratios == {}
    assert all(0 <= each.accuracy <= 1 and 0 <= each.agreement <= 1 for each in (highest, composed))
