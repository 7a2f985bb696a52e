"""A made-up home: MLflow runs, models, stores and checkpoints of any state and age, with files of known size."""

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow.entities import LoggedModelStatus
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from tasks.arms import mlflow_runs
from tasks.operations.clean import Cleaned, clean
from tasks.operations.removable import CleanSettings
from tasks.runtime.home import home
from tasks.runtime.lease import lease_name

FILE_BYTES = 1000
DAY_MS = 24 * 3600 * 1000


class MadeUpHome:
    """What a test puts into MEDMTL_HOME; `database` is an empty one of MLflow, to copy."""

    def __init__(self, database: Path) -> None:
        self.root = home().root
        shutil.copy(database, self.root / "mlflow.db")
        self.experiment = mlflow_runs.connect()
        self.client = MlflowClient()

    def run(self, kind: str, status: str = "FINISHED", days: float = 30, parent: str = "", **tags: str) -> str:
        """A run that ended so many days ago, with a file; `RUNNING` is of this process, `DEAD` of one that is gone."""
        now = time.time_ns() // 1_000_000
        all_tags = {"medmtl.kind": kind, **{f"medmtl.{name}": value for name, value in tags.items()}}
        if parent:
            all_tags["mlflow.parentRunId"] = parent
        mine = lease_name()
        all_tags["medmtl.process"] = mine if status == "RUNNING" else f"{mine.partition(':')[0]}:{16 * '0'}"
        start = int(now - days * DAY_MS)
        made = self.client.create_run(self.experiment, start_time=start, tags=all_tags, run_name=kind)
        self.log(made.info.run_id, {"file.bin": FILE_BYTES * "x"})
        if status not in ("RUNNING", "DEAD"):
            self.client.set_terminated(made.info.run_id, status, end_time=start)
        return str(made.info.run_id)

    def night(self, date: str, series: str = "lungs", **how: object) -> str:
        return self.run("night", night=date, series=series, **how)  # type: ignore[arg-type]

    def log(self, run_id: str, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            self.client.log_text(run_id, text, name)

    def model(self, run_id: str, ready: bool = True) -> str:
        """A logged model of a run, with a file; an incomplete one unless it is ready."""
        made = self.client.create_logged_model(self.experiment, "model", source_run_id=run_id)
        (self.root / "weights").write_bytes(FILE_BYTES * b"w")
        get_artifact_repository(made.artifact_location).log_artifact(str(self.root / "weights"))
        if ready:
            self.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
        return str(made.model_id)

    def register(self, run_id: str, model_id: str, name: str = "lungs", by_id: bool = True) -> str:
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        if by_id:
            made = self.client.create_model_version(name, f"models:/{model_id}", run_id=run_id, model_id=model_id)
        else:
            made = self.client.create_model_version(name, self.client.get_logged_model(model_id).artifact_location)
        return str(made.version)

    def checkpoint(self, arm: str, days: float = 30) -> Path:
        folder = self.root / "arms" / arm
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").write_bytes(FILE_BYTES * b"c")
        (folder.parent / f"{arm}.lock").touch()
        return aged(folder, days)

    def store(self, name: str, days: float = 30, population: str = "local", fingerprint: str = "") -> Path:
        folder = self.root / "stores" / name
        folder.mkdir(parents=True)
        manifest = {
            "population": population,
            "size": 64,
            "labels": ["Mass"],
            "fingerprint": fingerprint or f"sha256:{name}",
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "pixels-00000.npy").write_bytes(FILE_BYTES * b"p")
        return aged(folder, days)

    def clean(self, keep: int = 1, older_than: float = 10, dry_run: bool = False) -> dict[str, Cleaned]:
        rows = clean(home(), CleanSettings(keep=keep, older_than=older_than, dry_run=dry_run))
        return {row.what: row for row in rows}

    def run_ids(self) -> set[str]:
        """All runs in MLflow's database, deleted ones too."""
        found = self.client.search_runs([self.experiment], run_view_type=3)
        return {run.info.run_id for run in found}

    def run_files(self) -> set[str]:
        """The ids of the runs that have files."""
        return {path.name for path in (self.root / "mlflow-artifacts").iterdir()} - {"models"}

    def model_files(self) -> set[str]:
        folder = self.root / "mlflow-artifacts" / "models"
        return {path.name for path in folder.iterdir()} if folder.exists() else set()


def aged(path: Path, days: float) -> Path:
    """Set the time of the last change of a file, or of a folder and all in it."""
    moment = time.time() - days * 24 * 3600
    for each in (*path.rglob("*"), path):
        os.utime(each, (moment, moment))
    return path
