"""Checkpoints, stores and leftovers: what nobody will use again goes, what is needed or locked stays."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from filelock import FileLock
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource

from tasks.operations.clean import shrink_databases
from tasks.operations.removable import CleanSettings
from tasks.runtime.home import home
from tests.tasks.operations.made_up_home import FILE_BYTES, MadeUpHome, aged

ARMS, STORES, PIXELS = "checkpoints of arms", "stores", "files of decoded pixels"
HOLDER = """
import os, sys
from tasks.runtime.lease import lease_name
print(lease_name(), flush=True)
sys.stdin.read()
"""


def test_a_checkpoint_goes_only_if_nobody_will_resume_it(made_up: MadeUpHome) -> None:
    older, newer = made_up.night("2026-10-01", status="KILLED"), made_up.night("2026-10-02", status="KILLED")
    study, reusing = made_up.run("study", status="KILLED"), made_up.run("study")
    made_up.run("arm", arm="finished")
    made_up.client.delete_run(made_up.run("arm", status="KILLED", arm="given_up"))
    made_up.run("arm", status="KILLED", parent=older, arm="outdated")
    made_up.run("arm", status="KILLED", parent=newer, arm="of_newest")
    made_up.run("arm", status="KILLED", parent=study, arm="of_study")
    taken = made_up.run("arm", status="KILLED", parent=older, arm="taken")
    made_up.client.set_tag(reusing, "mlflow.note.content", f"its arms: {taken}")
    made_up.run("arm", status="KILLED", arm="of_nobody")
    made_up.run("arm", arm="locked")
    made_up.run("arm", arm="young")
    for name in (
        "finished",
        "given_up",
        "outdated",
        "of_newest",
        "of_study",
        "taken",
        "of_nobody",
        "locked",
        "unknown",
    ):
        made_up.checkpoint(name)
    made_up.checkpoint("young", days=2)
    arms = made_up.root / "arms"
    (arms / "stopped.removed").mkdir()

    with FileLock(arms / "locked.lock"):
        would = made_up.clean(keep=5, dry_run=True)[ARMS]
        assert len(list(arms.iterdir())) == 21
        done = made_up.clean(keep=5)[ARMS]
    assert (done.removed, done.size) == (would.removed, would.size)
    left = {"of_newest", "of_study", "taken", "of_nobody", "locked", "unknown", "young"}
    assert {path.name for path in arms.iterdir() if path.is_dir()} == left
    assert done.kept == {
        "can be resumed": 2,
        "needed by a study": 2,
        "in use": 1,
        "of another MLflow store": 1,
        "younger than 10 days": 1,
    }
    assert made_up.clean(keep=5)[ARMS].removed == 1  # the lock is free now
    assert made_up.clean(keep=5)[ARMS].removed == 0


def test_a_checkpoint_that_is_taken_up_again_between_the_look_and_the_removal_stays(
    made_up: MadeUpHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up.run("arm", arm="taken_up")
    folder = made_up.checkpoint("taken_up")
    monkeypatch.setattr("tasks.operations.clean_arms.is_locked", lambda lock: False)
    with FileLock(made_up.root / "arms" / "taken_up.lock"):
        assert made_up.clean()[ARMS].kept == {"in use": 1}
    assert (folder / "checkpoint.pt").stat().st_size == FILE_BYTES


def test_the_newest_stores_of_each_source_stay_and_those_of_unfinished_arms(made_up: MadeUpHome) -> None:
    digest = 16 * "ab"
    stores = [made_up.store(f"s{days}", days=days) for days in (20, 30, 40, 50)]
    needed = made_up.store("needed", days=60, fingerprint=f"sha256:{2 * digest}")
    other = made_up.store("other", days=70, population="chestxray14")
    built_again = made_up.store("locked", days=80)
    damaged = made_up.store("damaged", days=90)
    (damaged / "manifest.json").write_text("{")
    aged(damaged, 90)
    arm = made_up.run("arm", status="KILLED", arm="unfinished")
    made_up.checkpoint("unfinished", days=40)
    mlflow.set_tracking_uri(home().tracking_uri)
    with mlflow.start_run(run_id=arm):
        mlflow.log_input(MetaDataset(LocalArtifactDatasetSource(needed.as_uri()), name="images", digest=digest))
    made_up.client.set_terminated(arm, "KILLED")
    (made_up.root / "stores" / "half.removed").mkdir()

    with FileLock(made_up.root / "stores" / "locked.lock"):
        found = made_up.clean(keep=2, older_than=35)[STORES]
    assert found.kept == {
        "among the newest 2": 3,
        "needed by an unfinished arm": 1,
        "in use": 1,
        "with a manifest that cannot be read": 1,
    }
    assert {path.name for path in (made_up.root / "stores").iterdir() if path.is_dir()} == {
        path.name for path in (*stores[:2], needed, other, built_again, damaged)
    }
    assert found.size >= 2 * FILE_BYTES
    made_up.client.set_terminated(arm, "FINISHED")  # its checkpoint goes, and the store with it
    assert made_up.clean(keep=2, older_than=35)[STORES].removed == 2


def test_decoded_pixels_go_with_the_last_store_that_uses_them(made_up: MadeUpHome) -> None:
    pool = made_up.root / "pixels" / "way"
    pool.mkdir(parents=True)
    (pool / "lock").touch()
    stores = [made_up.store("newest", days=1), made_up.store("older", days=30), made_up.store("oldest", days=40)]
    for name, users in (("00000", stores), ("00001", stores[1:]), ("00002", [])):
        (pool / f"{name}.npy").write_bytes(FILE_BYTES * b"p")
        (pool / f"{name}.json").write_text("{}")
        for store in users:
            os.link(pool / f"{name}.npy", store / f"{name}.npy")
    for store, days in zip(stores, (1, 30, 40), strict=True):
        aged(store, days)
    build = made_up.root / "stores" / "new.partial"
    build.mkdir()
    assert made_up.clean(dry_run=True)[PIXELS].kept == {"used by a store": 1, "needed by an unfinished build": 2}
    build.rmdir()

    would = made_up.clean(dry_run=True)
    assert len(list(pool.iterdir())) == 7
    with FileLock(pool / "lock"):  # a build is using the pool
        done = made_up.clean()
        assert (done[STORES].removed, done[PIXELS].removed, done[PIXELS].kept["in use"]) == (2, 0, 2)
    assert (would[STORES].removed, would[STORES].size) == (2, done[STORES].size)
    assert 2 * FILE_BYTES < done[STORES].size < 3 * FILE_BYTES  # without the pixels that they share
    done = made_up.clean()
    assert (
        (done[PIXELS].removed, done[PIXELS].size) == (would[PIXELS].removed, would[PIXELS].size) == (2, 2 * FILE_BYTES)
    )
    assert {path.name for path in pool.iterdir()} == {"lock", "00000.npy", "00000.json"}
    assert (stores[0] / "00000.npy").read_bytes() == FILE_BYTES * b"p"
    assert made_up.clean()[PIXELS].removed == 0


def test_stopped_builds_and_leftovers_go_when_they_are_old_and_free(made_up: MadeUpHome) -> None:
    stores, arms = made_up.root / "stores", made_up.root / "arms"
    for name, days in (("old.partial", 30), ("new.partial", 1), ("built.partial", 30)):
        (stores / name / "records").mkdir(parents=True)
        (stores / name / "pixels-00000.npy").write_bytes(b"1")
        aged(stores / name, days)
    arms.mkdir()
    files = [
        made_up.root / "mlflow.db.unfinished",
        arms / "checkpoint.pt.process.unfinished",
        arms / "gone.lock",
        stores / "gone.lock",
        stores / "built.lock",
    ]
    for file in files:
        file.touch()
        aged(file, 30)
    (arms / "now.unfinished").touch()
    with FileLock(stores / "built.lock"), FileLock(arms / "waiting.lock"):
        found = made_up.clean()
        assert (arms / "waiting.lock").exists()
    assert found["unfinished builds of stores"].removed == 1
    assert {path.name for path in stores.iterdir()} >= {"new.partial", "built.partial"}
    assert not (stores / "old.partial").exists()
    assert not any(file.exists() for file in files[:4])
    assert (arms / "now.unfinished").exists()
    made_up.clean(older_than=0)
    assert (arms / "now.unfinished").exists()  # a living process may be writing it


def test_what_belongs_to_the_user_is_never_looked_at(made_up: MadeUpHome) -> None:
    kept = ["downloads/a.tar.gz", "texts/glue/train.tsv", "phantoms/f/1.png", "patient.key", "runs/r/report.html"]
    for name in kept:
        (made_up.root / name).parent.mkdir(parents=True, exist_ok=True)
        (made_up.root / name).write_bytes(b"1")
        aged(made_up.root / name, 1000)
    made_up.clean(older_than=0)
    assert all((made_up.root / name).exists() for name in kept)


def test_a_database_is_written_anew_only_while_no_other_command_runs(tmp_path: Path) -> None:
    path = home().prefect / "prefect.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE log (line TEXT)")
        database.executemany("INSERT INTO log VALUES (?)", [(1000 * "x",)] * 4000)
        database.commit()
        database.execute("DELETE FROM log WHERE rowid > 10")
        database.commit()
    before = path.read_bytes()
    command = [sys.executable, "-c", HOLDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(os.environ)) as other:
        assert other.stdout
        assert other.stdin
        assert other.stdout.readline()
        assert shrink_databases(home(), CleanSettings()).kept == {"while another command runs": 1}
        other.stdin.close()
    assert shrink_databases(home(), CleanSettings(dry_run=True)).removed == 1
    assert path.read_bytes() == before
    assert shrink_databases(home(), CleanSettings()).removed == 1
    assert path.stat().st_size < len(before) / 10
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM log").fetchone() == (10,)
    assert shrink_databases(home(), CleanSettings()).removed == 0
