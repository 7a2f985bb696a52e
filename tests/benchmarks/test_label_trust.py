"""What the intervals of label trust hold is counted by side, by length of training and by true rate."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.label_trust import Mask, coverage
from models.weighting.label_trust import LabelTrust


def mask(epochs: int, rates: list[float], lo: list[float], hi: list[float]) -> Mask:
    k = len(rates)
    trust = LabelTrust((0.2,) * k, tuple(lo), tuple(hi), tuple(range(1, k + 1)), (10,) * k)
    return Mask(epochs, np.array(rates), {}, trust)


def test_misses_are_counted_by_side_by_epochs_and_by_rate() -> None:
    runs = [mask(3, [0.05, 0.35], [0.1, 0.3], [0.2, 0.5]), mask(7, [0.08, 0.45], [0.0, 0.1], [0.1, 0.4])]
    rows = {row["of"]: row for row in coverage(runs)}
    assert list(rows) == [
        "all labels", "after 3 epochs", "after 7 epochs", "rate 0.0 to 0.1", "rate 0.3 to 0.4", "rate 0.4 to 0.5",
    ]  # fmt: skip
    found = {name: (row["labels"], row["held"], row["truth_below"], row["truth_above"]) for name, row in rows.items()}
    assert found["all labels"] == (4, 0.5, 0.25, 0.25)
    assert found["after 3 epochs"] == (2, 0.5, 0.5, 0)
    assert found["after 7 epochs"] == (2, 0.5, 0, 0.5)
    assert found["rate 0.0 to 0.1"] == (2, 0.5, 0.5, 0)
    assert found["rate 0.4 to 0.5"] == (1, 0, 0, 1)
    assert rows["after 7 epochs"]["width"] == pytest.approx(0.2)


@pytest.mark.long
def test_trust_is_held_against_the_true_rates_of_a_small_phantom(tmp_path: Path) -> None:
    out = tmp_path / "trust.json"
    command = [sys.executable, "-m", "benchmarks.label_trust", "--masks=2", "--epochs", "1", "2", "--patients=100"]
    subprocess.run([*command, "--json", str(out)], cwd=Path(__file__).parents[2], check=True, capture_output=True)
    found = json.loads(out.read_text())
    assert found["coverage"][0]["labels"] == 28
    assert found["rows"]["trust"]["rms_error"] > 0
