"""systemd/backup and systemd/restore on the whole stack: all that a hospital cannot make again comes back."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import mlflow
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from tasks.arms.mlflow_runs import ARM_TAG
from tasks.images.exported_program import load_program
from tests.stack import tiny
from tests.stack.service import ROOT
from tests.stack.services import MlflowServer, postgres_program
from tests.stack.stack import Stack

pytestmark = pytest.mark.slow

NAME = "restored"
NIGHTS = ("2026-11-02", "2026-11-03")
TRAINING = tiny.SETTINGS | {"split": {"name": "hashed", "shares": [0.5, 0.2, 0.3]}}
PIXELS = np.random.default_rng(17).integers(0, 256, (9, 1, 32, 32), np.uint8)
OWNER, PASSWORD = "owner", "p@ss:w/rd%"  # of the new databases: no superuser, as the page makes one
RUNS = "SELECT id::text, name, state_type::text FROM flow_run ORDER BY 1"
RESTORE = str(ROOT / "systemd" / "restore")


class Place:
    """Databases and folders that are saved, or into which a backup is put back."""

    def __init__(self, stack: Stack, folder: Path, databases: tuple[str, str], user: str) -> None:
        self.stack, self.folder, self.databases, self.user = stack, folder, databases, user
        self.home, self.artifacts, self.runs = folder / "home", folder / "mlflow-artifacts", folder / "runs"
        self.series, self.trained = self.runs / f"nightly-{NAME}", self.runs / "trained"
        self.backups = stack.folder / "backups"
        self.client: dict[str, str] = {}  # variables of commands, beside those of the stack

    def url(self, database: str, driver: str = "postgresql") -> str:
        return f"{driver}://{self.user}@127.0.0.1:{self.stack.postgres.port}/{database}"

    def environment(self) -> dict[str, str]:
        programs = Path(str(postgres_program("pg_dump"))).parent
        return {
            "MEDMTL_HOME": str(self.home),
            "MEDMTL_BACKUPS": str(self.backups),
            "MEDMTL_BACKUPS_KEPT": "2",
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
            "MLFLOW_BACKEND_STORE_URI": self.url(self.databases[0]),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.url(self.databases[1], "postgresql+asyncpg"),
            "PATH": os.pathsep.join(map(str, (Path(sys.executable).parent, programs, os.environ["PATH"]))),
        }

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the page as it is typed there, through systemd/run, with a medmtl.env of this place."""
        variables = self.folder / "medmtl.env"
        variables.write_text("".join(f"{name}='{value}'\n" for name, value in self.environment().items()))
        return subprocess.run(
            [ROOT / "systemd" / "run", *command],
            env=os.environ | {"MEDMTL_ENV": str(variables), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    def holds(self) -> tuple[list[str], list[int]]:
        """The files of the folders, and how many tables each database has."""
        files = sorted(str(path) for folder in (self.home, self.artifacts, self.runs) for path in folder.rglob("*"))
        count = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
        return files, [self.stack.postgres.query(database, count)[0][0] for database in self.databases]


def flow(stack: Stack, name: str, settings: dict[str, Any], out: Path, **variables: str) -> None:
    """Run a flow by its command."""
    config = stack.folder / "backup.json"  # JSON is YAML
    config.write_text(json.dumps(settings | {"model_name": NAME}))
    stack.run_command("flows.cli", name, "--config", str(config), "--out", str(out), **variables)


def night(date: str) -> dict[str, Any]:
    return TRAINING | {"night": date}


@pytest.fixture(scope="module")
def saved(stack: Stack) -> Place:
    """The stack with a champion, a finished arm and two nights, of which nothing is saved yet."""
    place = Place(stack, stack.folder, ("mlflow", "prefect"), f"medmtl:{stack.postgres.password}")
    flow(stack, "train", TRAINING, place.trained)
    stack.run_command("flows.cli", "promote", "--version", "1", "--model", NAME)
    for date in NIGHTS:
        flow(stack, "nightly", night(date), place.series)
    return place


@pytest.fixture(scope="module")
def backup(saved: Place) -> Path:
    done = saved.run(str(ROOT / "systemd" / "backup"))
    assert (done.returncode, done.stderr) == (0, "")
    (made,) = saved.backups.iterdir()
    assert done.stdout.startswith(f"backup: {made}, ")
    return made


@pytest.fixture(scope="module")
def empty(backup: Path, saved: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Databases and folders in which nothing is, of a user who is no superuser."""
    ask, databases = saved.stack.postgres.query, ("mlflow_new", "prefect_new")
    ask("postgres", f"CREATE ROLE {OWNER} LOGIN PASSWORD '{PASSWORD}'")
    for database in databases:
        ask("postgres", f"CREATE DATABASE {database} OWNER {OWNER}")
    return Place(saved.stack, tmp_path_factory.mktemp("new"), databases, f"{OWNER}:{quote(PASSWORD, safe='')}")


@pytest.fixture(scope="module")
def refusals(empty: Place, backup: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """What restore said where it must not begin, and what it was to say; each time nothing was there afterwards."""
    damaged = Path(shutil.copytree(backup, tmp_path_factory.mktemp("backups") / "damaged"))
    with (damaged / "mlflow.dump").open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"?")
    found = [(refused(empty, damaged), f"{damaged} is damaged (mlflow.dump): take another backup")]
    (damaged / "SHA256SUMS").unlink()
    found.append((refused(empty, damaged), f"{damaged} is no backup"))
    for folder in (empty.home, empty.artifacts, empty.runs):
        folder.mkdir()
        (folder / "mine").touch()
        found.append((refused(empty, backup), f"{folder} is not empty: move it away"))
        shutil.rmtree(folder)
    for name, database in zip(("mlflow", "prefect"), empty.databases, strict=True):
        empty.stack.postgres.query(database, "CREATE TABLE mine (number integer)")
        found.append((refused(empty, backup), f"the database {name} is not empty: it has 1 tables"))
        empty.stack.postgres.query(database, "DROP TABLE mine")
    assert empty.holds() == ([], [0, 0])
    return found


def refused(place: Place, backup: Path) -> str:
    """The one line with which a backup is refused."""
    before = place.holds()
    done = place.run(RESTORE, str(backup))
    assert (done.returncode, done.stdout) == (2, "")
    assert place.holds() == before
    return done.stderr


@pytest.fixture(scope="module")
def restored(refusals: object, empty: Place, backup: Path) -> Iterator[Place]:
    """What was put back, with a server of MLflow on it that the commands of these tests use."""
    done = empty.run(RESTORE, str(backup))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"restore: {backup} is back\n", "")
    server = MlflowServer(empty.folder, empty.url(empty.databases[0]))
    server.start()
    try:
        server.wait_until_up()
        empty.client |= {"MLFLOW_TRACKING_URI": server.url, "MEDMTL_HOME": str(empty.home)}
        yield empty
    finally:
        server.kill()


def test_what_is_damaged_and_what_is_in_use_is_refused_in_one_line(refusals: list[tuple[str, str]]) -> None:
    assert [said for said, _ in refusals] == [f"restore: {wanted}\n" for _, wanted in refusals]


def test_the_same_version_is_the_champion_and_predicts_the_same_numbers(saved: Place, restored: Place) -> None:
    versions, predicted = [], []
    for address in (saved.stack.mlflow.url, restored.client["MLFLOW_TRACKING_URI"]):
        mlflow.set_tracking_uri(address)
        version = MlflowClient().get_model_version_by_alias(NAME, "champion")
        versions.append((version.version, version.run_id, version.tags))
        predicted.append(load_program(f"models:/{NAME}@champion").predict(PIXELS))
    assert versions[0] == versions[1]
    np.testing.assert_allclose(*predicted, atol=1e-6, rtol=0)


def test_the_keys_of_patients_and_the_runs_of_prefect_are_the_same(saved: Place, restored: Place) -> None:
    key = restored.home / "patient.key"
    assert key.read_bytes() == (saved.home / "patient.key").read_bytes()
    assert (key.stat().st_mode & 0o777, restored.home.stat().st_mode & 0o777) == (0o600, 0o700)
    runs = restored.stack.postgres.query(restored.databases[1], RUNS)
    assert [state for _, name, state in runs if "nightly" in name][-2:] == ["COMPLETED", "COMPLETED"]
    assert set(runs) <= set(saved.stack.postgres.query(saved.databases[1], RUNS))


def test_the_lines_of_an_upgrade_leave_databases_of_this_version_alone(restored: Place) -> None:
    page = (ROOT / "docs" / "leave_running.md").read_text(encoding="utf-8").split("\n## Upgrade\n")[1]
    lines = re.findall(r"systemd/run (.* database upgrade .*|.*mlflow db upgrade .*)", page.split("\n## ")[0])
    assert len(lines) == 2
    before = restored.holds()
    for line in lines:
        done = restored.run(*shlex.split(line))
        assert done.returncode == 0, done.stderr
    assert restored.holds() == before


def test_a_training_and_the_next_night_train_nothing_and_the_series_goes_on(restored: Place) -> None:
    mlflow.set_tracking_uri(restored.client["MLFLOW_TRACKING_URI"])
    now = time.time_ns() // 1_000_000
    flow(restored.stack, "train", TRAINING, restored.runs / "again", **restored.client)
    assert [arm["reused"] for arm in results(restored.runs / "again")["arms"]] == [True]
    flow(restored.stack, "nightly", night("2026-11-04"), restored.series, **restored.client)
    arrivals = results(restored.series / "2026-11-04")["arrivals"]
    assert (arrivals["new_images"], arrivals["decoded"]) == (0, 0)
    page = (restored.series / "series.html").read_text()
    assert [date for date in (*NIGHTS, "2026-11-04") if f"{date}/report.html" in page] == [*NIGHTS, "2026-11-04"]
    assert not new_arms(restored, now)


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def new_arms(place: Place, since_ms: int) -> list[tuple[Any, ...]]:
    """Runs of arms that were begun since then."""
    return place.stack.postgres.query(
        place.databases[0],
        f"SELECT name FROM runs JOIN tags USING (run_uuid) WHERE key = '{ARM_TAG}' AND start_time >= {since_ms}",
    )
