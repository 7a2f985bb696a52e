"""systemd/backup and systemd/restore without servers, where all is in MEDMTL_HOME, in databases of SQLite."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flows.cli import OK, exit_code
from tasks.images.exported_program import load_program

SCRIPTS = Path(__file__).parents[2] / "systemd"
PIXELS = np.random.default_rng(17).integers(0, 256, (9, 1, 32, 32), np.uint8)

NEXT_PROCESS = """
import sys, numpy
from flows.cli import exit_code
from tasks.images.exported_program import load_program

assert exit_code(sys.argv[1:]) == 0
numpy.save("predicted.npy", load_program("models:/medmtl@champion").predict(numpy.load("pixels.npy")))
"""  # this process still has the lost database open


def without_mlflow() -> dict[str, str]:
    """The variables of this process, but for MLflow's address, which MLflow sets to the store that it used last."""
    return {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}


def script(name: str, *arguments: str, kept: int = 7) -> "subprocess.CompletedProcess[str]":
    variables = without_mlflow() | {"MEDMTL_BACKUPS": "backups", "MEDMTL_BACKUPS_KEPT": str(kept)}
    return subprocess.run([SCRIPTS / name, *arguments], env=variables, capture_output=True, text=True, check=False)


def back_up(kept: int = 7) -> Path:
    done = script("backup", kept=kept)
    assert (done.returncode, done.stderr) == (0, "")
    return Path(done.stdout.removeprefix("backup: ").partition(",")[0])


def contents(*folders: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_home_that_was_lost_is_put_back_with_its_champion_and_its_arms(
    medmtl_home: Path, small_train: list[str]
) -> None:
    trained, runs = ["train", *small_train, "--out", "runs/trained"], Path("runs")
    assert exit_code(trained) == OK
    assert exit_code(["promote", "--version", "1"]) == OK
    (medmtl_home / "prefect").mkdir(exist_ok=True)  # as where no PREFECT_API_URL names a server
    with closing(sqlite3.connect(medmtl_home / "prefect" / "prefect.db")) as other:
        other.execute("CREATE TABLE mine (number INTEGER)")
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("INSERT INTO mine VALUES (17)")
        other.commit()  # while it is in use: the row is in the journal only
        backup = back_up()
    key, before = (medmtl_home / "patient.key").read_bytes(), contents(runs)
    predicted = load_program("models:/medmtl@champion").predict(PIXELS)

    refused = script("restore", str(backup))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"restore: {medmtl_home} is not empty: move it away\n"
    for folder in (medmtl_home, runs):
        folder.rename(folder.with_name("lost " + folder.name))
    done = script("restore", str(backup))
    assert (done.returncode, done.stderr) == (0, "")

    assert ((medmtl_home / "patient.key").read_bytes(), contents(runs)) == (key, before)
    with closing(sqlite3.connect(medmtl_home / "prefect" / "prefect.db")) as other:
        assert other.execute("SELECT number FROM mine").fetchall() == [(17,)]
    np.save("pixels.npy", PIXELS)
    again = [sys.executable, "-c", NEXT_PROCESS, *trained[:-1], "runs/again"]
    subprocess.run(again, env=without_mlflow() | {"PYTHONPATH": str(SCRIPTS.parent)}, check=True)
    np.testing.assert_allclose(np.load("predicted.npy"), predicted, atol=1e-6, rtol=0)
    assert [arm["reused"] for arm in json.loads(Path("runs/again/results.json").read_text())["arms"]] == [True]


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a key and a table of nights."""
    home = tmp_path / "home"
    (home / "nights").mkdir(parents=True)
    (home / "nights" / "arrivals.csv").write_text("image,first_seen\n")
    (home / "patient.key").write_bytes(b"k" * 32)
    monkeypatch.setenv("MEDMTL_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.mark.parametrize("damage", ["a byte", "a file", "the sums"])
def test_a_damaged_backup_is_refused_in_one_line_and_changes_nothing(damage: str, quick: Path) -> None:
    backup = back_up()
    if damage == "a byte":
        content = bytearray((backup / "home.tar").read_bytes())
        content[len(content) // 2] ^= 1
        (backup / "home.tar").write_bytes(content)
    else:
        (backup / ("home.tar" if damage == "a file" else "SHA256SUMS")).unlink()
    shutil.rmtree(quick)
    done = script("restore", str(backup))
    why = "is no backup" if damage == "the sums" else "is damaged (home.tar): take another backup"
    assert (done.returncode, done.stderr) == (2, f"restore: {backup} {why}\n")
    assert not quick.exists()


def test_only_the_newest_backups_stay_and_what_a_stopped_one_left_goes(quick: Path) -> None:
    folder = quick.parent / "backups"
    old = [folder / f"2020-11-0{day}T12-00-00Z" for day in range(1, 5)]
    for path in (*old, folder / "2020-11-05T12-00-00Z.part", folder / "mine"):
        path.mkdir(parents=True)
    new = back_up(kept=3)
    assert sorted(folder.iterdir()) == sorted([*old[2:], folder / "mine", new])
    assert {path.stat().st_mode & 0o777 for path in (new, *new.iterdir())} == {0o700, 0o600}
