"""A home that an older version of medmtl left, after the upgrade of docs/leave_running.md: all of it is used on."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from flows.cli import OK, exit_code
from tasks.arms import mlflow_runs
from tasks.images.championship import HISTORY_TAG
from tasks.images.exported_program import load_program

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BEFORE = "0ed9e9b1c47a44de8e28aeed8b9afbfb0a1f7188"  # it logged models in the format of MLflow's pytorch
SETTINGS = """
data: {size: 32, phantom: {patients: 60, size: 64}}
split: {name: hashed, shares: [0.5, 0.2, 0.3]}
training: {epochs: 1}
"""
TRAIN = ["train", "--config", "settings.yaml"]
NIGHT = ["nightly", "--config", "settings.yaml", "--night"]
COMMANDS = [[*TRAIN, "--out", "trained"], ["promote", "--version", "1"], [*NIGHT, "2026-11-02"]]
OLD_CODE = """
import json, sys
import mlflow, numpy
from flows.cli import exit_code

for command in json.loads(sys.argv[1]):
    assert exit_code(command) == 0, command
mlflow.set_tracking_uri(sys.argv[2])
predicted = mlflow.pyfunc.load_model("models:/medmtl/1").predict(numpy.load("pixels.npy"))
numpy.save("predicted.npy", predicted)
"""


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the version before."""
    folder = tmp_path_factory.mktemp("before")
    there = subprocess.run(
        ["git", "cat-file", "-e", f"{BEFORE}^{{commit}}"], cwd=ROOT, capture_output=True, check=False
    )
    if there.returncode:
        pytest.skip(f"the version before is not here: a git history with commit {BEFORE[:7]}")
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive, check=True)
    return folder


@pytest.fixture(scope="module")
def work(server: str, old_code: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a home, of the runs of the version before in it, and of what its champion predicted."""
    folder = tmp_path_factory.mktemp("upgrade")
    (folder / "settings.yaml").write_text(SETTINGS)
    np.save(folder / "pixels.npy", np.random.default_rng(17).integers(0, 256, (9, 1, 32, 32), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDMTL_HOME", str(folder / "home"))
        patch.setenv("PREFECT_API_URL", server)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        arguments = [json.dumps(COMMANDS), f"sqlite:///{folder}/home/mlflow.db"]
        done = subprocess.run(
            [sys.executable, "-c", OLD_CODE, *arguments],
            env=os.environ | {"PYTHONPATH": str(old_code)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        upgrade_database()
        yield folder


def upgrade_database() -> None:
    """Run the line that the page names for a home without servers."""
    page = (ROOT / "docs" / "leave_running.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ +\.venv/bin/(mlflow db upgrade sqlite:\S+)", page, re.MULTILINE)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["bash", "-c", line], env=os.environ | {"PATH": programs}, capture_output=True, check=True)


@pytest.fixture(autouse=True)
def _in_work(work: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDMTL_HOME", str(work / "home"))
    monkeypatch.setenv("PREFECT_API_URL", server)
    monkeypatch.chdir(work)
    mlflow_runs.connect()


def results(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "results.json").read_text())
    return found


def champion() -> str:
    return str(MlflowClient().get_model_version_by_alias("medmtl", "champion").version)


def test_the_old_champion_predicts_the_numbers_that_it_predicted_before() -> None:
    assert champion() == "1"
    tags = MlflowClient().get_model_version("medmtl", "1").tags
    history = [text for key, text in tags.items() if key.startswith(HISTORY_TAG)]
    assert history == ["champion, by medmtl promote, though it was never evaluated"]
    predicted = load_program("models:/medmtl/1").predict(np.load("pixels.npy"))
    # in a process with another number of threads the last bits differ
    np.testing.assert_allclose(predicted, np.load("predicted.npy"), atol=1e-6, rtol=0)


def test_medmtl_predict_takes_the_old_champion_and_says_that_its_decoder_is_not_known(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(["predict", "home/phantoms", "--out", "predicted"]) == OK
    said = capfd.readouterr().err
    assert "the model does not say which version decoded its training images" in said
    assert "167 of 167 files predicted, 0 refused" in said


def test_the_same_training_reuses_the_old_arm() -> None:
    assert exit_code([*TRAIN, "--out", "again"]) == OK
    assert [arm["reused"] for arm in results("again")["arms"]] == [True]
    assert results("again")["arms"][0]["mlflow_run_id"] == results("trained")["arms"][0]["mlflow_run_id"]


def test_a_new_challenger_is_judged_against_the_old_champion() -> None:
    assert exit_code([*TRAIN, "--epochs", "2", "--out", "challenger"]) == OK
    Path("evaluate.yaml").write_text("".join(SETTINGS.splitlines(keepends=True)[:3]))
    assert exit_code(["evaluate", "--config", "evaluate.yaml", "--out", "evaluated"]) == OK
    assert "compared with version 1" in results("evaluated")["verdict"]["reason"]


def test_the_next_night_goes_on_with_the_old_series_and_leaves_its_pages() -> None:
    series = Path("runs/nightly-medmtl")
    before = {path: path.read_bytes() for path in (series / "2026-11-02").iterdir() if path.is_file()}
    assert (series / "2026-11-02" / "report.html") in before
    assert exit_code([*NIGHT, "2026-11-03", "--epochs", "2"]) == OK
    assert {path: path.read_bytes() for path in before} == before
    assert (series / "series.html").read_text().count("report.html") == 2
    assert results("runs/nightly-medmtl/2026-11-03")["champion"]["version"] == champion() == "1"
