"""`medmtl theory` with tiny settings: computed, reported, reused, one deleted part computed again."""

import json
import struct
from pathlib import Path

import numpy as np
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
augmentation:
  closed_form: {cases: 5, dimensions: 20}
  simulation: {cases: [{dimensions: 12, samples: 6, ridge: 0.1, noise: 0.5}], draws: 2000}
  leading_order: {dimensions: 12, samples: 6}
  composition: {dimensions: 12, samples: 6, transforms: 2}
  mixup: {cases: [{dimensions: 12, samples: 6, ridge: 0.1, noise: 0.5}], multiples: [1, 50], draws: 20}
  order: {cases: [{dimensions: 12, samples: 6, ridge: 0.1, noise: 0.5}], designs: 4}
  map: {dimensions: 12, samples: 6, relative_ridges: [0.1, 10.0], noises: [0.1, 1.0], projections: [0.1, 0.5]}
  digit_ridge: {samples: 30, held_out: 50, copies: 1, ridges: [0.01, 0.1], label_noises: [0.0, 0.4]}
seeds: 2
seeds_of_slow: 1
"""


def write_digits(folder: Path) -> None:
    """Write images in which a digit is a row, in MNIST's format."""
    folder.mkdir()
    labels = np.arange(100, dtype=np.uint8) % 10
    images = np.random.default_rng(0).integers(0, 40, (100, 10, 10), dtype=np.uint8)
    images[np.arange(100), labels] += 200
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"t10k-{name}-ubyte").write_bytes(header + array.tobytes())


def test_the_theory_is_reported_and_its_parts_are_computed_once(
    medmtl_home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = ["theory", "--config", "tiny.yaml"]
    assert exit_code([*command, "--out", "first"]) == OK
    first = json.loads(Path("first/results.json").read_text())
    assert first["schema"] == "medmtl/theory/2"
    assert first["reused"] == 0
    assert all(row["off"] == 0 for row in first["capacity"] if row["width"] >= 3)
    assert max(row["sine"] for row in first["proposition_3"]) < 1e-8
    augmentation = first["augmentation"]
    assert all(row["largest_difference"] < 1e-10 for row in augmentation["closed_form"])
    assert all(cell["agree"] == 2 for cell in augmentation["map"] if cell["convention"] == "kept")
    assert augmentation["digits"] is None
    page = Path("first/report.html").read_text()
    assert page.startswith("<!doctype html>")
    log = capfd.readouterr().err
    assert "Traceback" not in log
    assert "optimum, task 2:" in log
    for check in first["checks"] + augmentation["checks"]:
        assert f"{check['result']}: {check['rule']} ({check['found']})" in log
    assert "digits: left out, no folder of MNIST's files was named" in log
    assert "Left out: no folder of MNIST's files was named" in page

    stored = sorted((medmtl_home / "theory").iterdir())
    assert len(stored) == (5 + 7) * 2 + 2
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


def test_digits_join_the_report_and_leave_the_other_parts_as_they_were(
    medmtl_home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    (tmp_path / "digits.yaml").write_text(TINY + "digits: digits\n")
    write_digits(tmp_path / "digits")
    assert exit_code(["theory", "--config", "tiny.yaml", "--out", "without"]) == OK
    assert exit_code(["theory", "--config", "digits.yaml", "--out", "with"]) == OK
    without, found = (json.loads(Path(out, "results.json").read_text()) for out in ("without", "with"))
    assert found["reused"] == len(list((medmtl_home / "theory").iterdir())) - 2
    digits = found["augmentation"].pop("digits")
    assert digits["files"] == ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    assert without["augmentation"].pop("digits") is None
    assert found["augmentation"]["map"] == without["augmentation"]["map"]
    plain = [row["error"]["mean"] for row in digits["best"] if row["arm"] == "plain" and not row["label_noise"]]
    assert max(plain) < 0.5, "rows of ten times the noise are easy to tell apart"
    assert "Errors on digits" in capfd.readouterr().err

    (tmp_path / "digits" / "t10k-labels-idx1-ubyte").write_bytes(b"damaged")
    assert exit_code(["theory", "--config", "digits.yaml", "--out", "damaged"]) == BAD_INPUT
    assert "not an IDX file" in capfd.readouterr().err
