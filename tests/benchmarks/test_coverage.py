"""The 95 % intervals of every shipped design hold the truth 95 times in 100, as far as so few studies can tell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def measured(studies: int, folder: Path, *options: str) -> list[dict[str, Any]]:
    out = folder / "coverage.json"
    command = [sys.executable, "-m", "benchmarks.coverage", f"--studies={studies}", "--json", str(out), *options]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    return json.loads(out.read_text())


def test_a_few_studies_of_pairs_are_covered_and_counted(tmp_path: Path) -> None:
    rows = measured(40, tmp_path, "--design", "pairs, 10 x 3 seeds")
    assert [row["over"] for row in rows] == ["pairs, seeds and patients"] * 3
    assert all(row["studies"] == 40 for row in rows)
    assert all(row["coverage"] > 0.8 for row in rows)
    assert [row["false_alarms"] is None for row in rows] == [False, False, True]


@pytest.mark.long
def test_every_designs_intervals_cover_and_a_bootstrap_of_few_seeds_does_not(tmp_path: Path) -> None:
    rows = measured(300, tmp_path)
    margin = 4 * (0.95 * 0.05 / 300) ** 0.5
    for row in rows:
        assert row["coverage"] == pytest.approx(0.95, abs=margin), row
        assert row["false_alarms"] is None or row["false_alarms"] < 0.05 + margin
    two_seeds = [row for row in rows if row["design"] == "default study"]
    assert {row["over"] for row in two_seeds} == {"patients"}
    assert max(row["bootstrap"] for row in two_seeds) < 0.6
