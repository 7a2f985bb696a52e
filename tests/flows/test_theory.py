"""`medmtl theory` with tiny settings: computed, reported, reused, one deleted part computed again."""

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from flows.cli import BAD_INPUT, OK, exit_code
from tasks.arms import mlflow_runs

pytestmark = pytest.mark.slow

TINY = """
experiments:
  linear: {dimensions: 10, target_samples: 20}
  source_samples: [20, 200]
  solvers: {steps: [100], sweeps: [10]}
  map:
    {cosines: [0.9], norms: [1.0], conditions: [3.0], target_samples: [30], source_samples: [20, 200],
     solvers: {steps: [], sweeps: [10]}}
  capacity: {tasks: 3, dimensions: 5, samples: 10, starts: 4, beyond: 1}
  theorem_2: {dimensions: 10, target_samples: 100, source_samples: [30, 3000, 10000]}
  fitting: {starts: 1}
  figure_2: {dimensions: 4, target_samples: 20, source_samples: 50}
  linked_figure_3: {dimensions: 10, target_samples: 20, source_samples: [20]}
seeds: 2
seeds_of_slow: 1
"""


def test_the_theory_is_reported_and_its_parts_are_computed_once(
    medmtl_home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ["theory", "--config", "tiny.yaml"]
    assert exit_code([*command, "--out", "first"]) == OK
    first = json.loads(Path("first/results.json").read_text())
    assert first["schema"] == "medmtl/theory/1"
    assert first["reused"] == 0
    assert all(row["off"] == 0 for row in first["capacity"] if row["width"] >= 3)
    assert max(row["sine"] for row in first["proposition_3"]) < 1e-8
    assert Path("first/report.html").read_text().startswith("<!doctype html>")
    log = capfd.readouterr().err
    assert "Traceback" not in log
    assert "optimum, task 2:" in log

    stored = sorted((medmtl_home / "theory").iterdir())
    assert len(stored) == 5 * 2 + 2
    stored[0].unlink()
    assert exit_code([*command, "--out", "second"]) == OK
    second = json.loads(Path("second/results.json").read_text())
    assert second["reused"] == len(stored) - 1
    per_run = {"reused", "seconds", "environment", "git"}
    assert {k: v for k, v in second.items() if k not in per_run} == {k: v for k, v in first.items() if k not in per_run}

    runs = MlflowClient().search_runs([mlflow_runs.connect()])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert "change/optimum/task 3" in runs[0].data.metrics

    assert exit_code([*command, "--out", "first", "--seeds", "0"]) == BAD_INPUT
    assert "seeds: input should be greater than or equal to 1; got 0" in capfd.readouterr().err
    assert exit_code([*command, "--out", "first", "--seed", "1"]) == BAD_INPUT
    assert "--force" in capfd.readouterr().err
