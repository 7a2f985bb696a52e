"""The 95 % intervals of every shipped design hold the truth 95 times in 100, as far as so few studies can tell."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def measured(studies: int, folder: Path, *options: str) -> dict[str, list[dict[str, Any]]]:
    out = folder / "coverage.json"
    command = [sys.executable, "-m", "benchmarks.coverage", f"--studies={studies}", "--json", str(out), *options]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True)
    return json.loads(out.read_text())


def test_a_few_studies_of_pairs_are_covered_and_counted(tmp_path: Path) -> None:
    rows = measured(20, tmp_path, "--design", "pairs, 10 x 3 seeds")["differences"]
    assert [row["over"] for row in rows] == ["pairs, seeds and patients"] * 3
    assert all(row["studies"] == 20 for row in rows)
    assert all(row["coverage"] > 0.8 for row in rows)
    assert [row["false_alarms"] is None for row in rows] == [False, False, True]


def test_intervals_of_one_arm_are_counted_by_the_number_of_patients_with_the_finding(tmp_path: Path) -> None:
    tables = measured(10, tmp_path, "--design", "one arm")
    assert tables["differences"] == []
    names = list(dict.fromkeys(row["interval"] for row in tables["arms"]))
    assert [name.split(",")[0] for name in names] == ["label"] * 4 + ["mean over labels"]
    assert sorted({row["auc"] for row in tables["arms"]}) == [0.7, 0.8, 0.9, 0.95, 0.97]
    assert {row["intervals"] for row in tables["arms"] if row["interval"] == "mean over labels"} == {10}
    assert sum(row["intervals"] for row in tables["arms"] if row["auc"] == 0.9) <= 10 * 15
    assert all(row["coverage"] > 0.7 for row in tables["arms"])


@pytest.mark.long
def test_every_designs_intervals_cover_and_a_bootstrap_of_few_seeds_does_not(tmp_path: Path) -> None:
    tables = measured(300, tmp_path)
    margin = 4 * (0.95 * 0.05 / 300) ** 0.5
    for row in tables["differences"]:
        assert row["coverage"] == pytest.approx(0.95, abs=margin), row
        assert row["false_alarms"] is None or row["false_alarms"] < 0.05 + margin
    for row in tables["arms"]:
        least = 0.93 - 4 * (0.93 * 0.07 / min(300, row["intervals"])) ** 0.5
        assert row["coverage"] > least, row
        assert row["auc"] > 0.9 or row["coverage"] < 0.97 + margin, row
    by_design = {
        design: [row for row in tables["differences"] if row["design"] == design]
        for design in ("default study", "all, 2 seeds")
    }
    assert {row["over"] for row in by_design["default study"]} == {"seeds and patients"}
    assert {row["over"] for row in by_design["all, 2 seeds"]} == {"patients"}
    assert max(row["bootstrap"] for row in by_design["all, 2 seeds"]) < 0.6
