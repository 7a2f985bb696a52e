import numpy as np
import pytest
from pydantic import ValidationError

from models.theory.propositions import CapacitySettings, Theorem2Settings, capacity, proposition_3, theorem_2

SMALL = CapacitySettings(tasks=3, directions=1, apart=0.1, dimensions=5, samples=12, starts=4, beyond=1)


def test_there_is_transfer_below_a_width_of_k_and_none_from_there_on() -> None:
    changes = np.array([[row["change"] for row in capacity(SMALL, seed)] for seed in range(10)])
    assert (changes[:, 2:] == 0).all()
    assert changes[:, 0].mean() < -0.2  # the thetas lie near one line
    assert all(row["off"] == 0 for row in capacity(SMALL, 0)[2:])
    assert all(row["off"] > 0 for row in capacity(SMALL, 0)[:2])


def test_the_numerical_optimum_has_the_span_of_proposition_3() -> None:
    rows = [row for seed in range(3) for row in proposition_3(SMALL, seed)]
    assert [row["width"] for row in rows[:2]] == [1, 2]
    assert max(row["sine"] for row in rows) < 1e-8


def test_the_targets_error_falls_to_a_plateau_within_theorem_2s_bound() -> None:
    settings = Theorem2Settings(source_samples=(30, 3000, 30_000, 100_000))
    found = [theorem_2(settings, seed) for seed in range(8)]
    mean = {key: float(np.mean([seed[key] for seed in found])) for key in found[0]}
    assert max(seed["c"] for seed in found) <= 1 / 3
    assert mean["30"] > 2 * mean["30000"]
    assert mean["100000"] == pytest.approx(mean["30000"], rel=0.1)
    assert mean["100000"] < mean["own"] / 2
    assert all(seed[str(m)] <= seed["bound"] for seed in found for m in settings.source_samples)


def test_tasks_without_finite_single_task_error_are_refused() -> None:
    with pytest.raises(ValidationError, match="samples must be at least dimensions"):
        CapacitySettings(dimensions=20, samples=20)
