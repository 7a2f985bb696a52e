"""What MLflow remembers: a parent run per study, a child per arm, each ending in the state it deserves.

A finished arm is known by its hash, held as a tag: it is found again from any study on the same MLflow store.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from filelock import FileLock
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient
from pydantic import BaseModel

from tasks.records.study import RunsRecord
from tasks.runtime.home import home
from tasks.runtime.processes import is_gone, this_process

EXPERIMENT = "medmtl"
ARM_TAG = "medmtl.arm"
STUDY_TAG = "medmtl.study"
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own, by which it nests runs
PROCESS_TAG = "medmtl.process"
SQLITE = "sqlite:///"
BATCH = 1000  # metrics that MLflow takes in one call
DIGEST = 32  # characters of a content hash that fit its dataset table


def connect() -> str:
    """Point MLflow at our store and return the id of our experiment; runs left RUNNING by the dead become KILLED."""
    uri = home().tracking_uri
    mlflow.set_tracking_uri(uri)
    with FileLock(home().root / "mlflow.lock"):  # two commands at once would both make the database
        if uri.startswith(SQLITE):
            _make_database(Path(uri.removeprefix(SQLITE)))
        client = MlflowClient()
        known = client.get_experiment_by_name(EXPERIMENT)
        if known is None:
            beside = (home().root / "mlflow-artifacts").as_uri() if uri.startswith(SQLITE) else None
            experiment = client.create_experiment(EXPERIMENT, artifact_location=beside)
        else:
            experiment = known.experiment_id
        _end_orphans(client, experiment)
    return experiment


def find(experiment: str, tag: str, value: str) -> Run | None:
    """The newest run that carries a tag with this value (an arm's or a study's hash), finished or not, or None."""
    runs = MlflowClient().search_runs(
        [experiment], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    return runs[0] if runs else None


def new_run(experiment: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
    """Make a run with its tags and parameters (nested mappings are flattened with dots); returns its id."""
    run = MlflowClient().create_run(experiment, run_name=name, tags={**tags, PROCESS_TAG: this_process()})
    return resume_run(run, params)


def resume_run(run: Run, params: Mapping[str, Any]) -> str:
    """Give an unfinished run those of its parameters that a kill kept from it; returns its id."""
    missing = [Param(key, str(value)) for key, value in flatten(params).items() if key not in run.data.params]
    MlflowClient().log_batch(run.info.run_id, params=missing)
    return run.info.run_id


@contextmanager
def study_run(title: str, settings: BaseModel) -> Iterator[str]:
    """The parent run of a study: the one that the same settings left unfinished, or a new one."""
    experiment = connect()
    config = settings.model_dump(mode="json")
    identity = hashlib.sha256(json.dumps(config).encode()).hexdigest()[:16]
    known = find(experiment, STUDY_TAG, identity)
    if known is not None and known.info.status != "FINISHED":
        run_id = resume_run(known, config)
    else:
        name = f"{title} · {datetime.now():%Y-%m-%d %H:%M}"
        run_id = new_run(experiment, name, {STUDY_TAG: identity, "medmtl.kind": "study"}, config)
    with running(run_id):
        yield run_id


@contextmanager
def running(run_id: str) -> Iterator[str]:
    """Make `run_id` the active run; it ends FINISHED, FAILED on an exception, KILLED on Ctrl-C or SIGTERM.

    `mlflow.start_run` as a context manager would end it FAILED in the last case too.
    """
    client = MlflowClient()
    client.log_batch(run_id, tags=[RunTag(PROCESS_TAG, this_process())])
    mlflow.start_run(run_id=run_id, nested=True)
    try:
        yield run_id
    except Exception:
        mlflow.end_run("FAILED")
        raise
    except BaseException:
        mlflow.end_run("KILLED")
        raise
    mlflow.end_run("FINISHED")


def runs_record() -> RunsRecord:
    """Where a person sees our runs: on a server's pages, or on those that a command opens.

    Names no password, and no path of this machine.
    """
    uri = home().tracking_uri
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        return RunsRecord(address=f"{server}/#/experiments/{connect()}/runs/")
    # MLflow sets its variable to whatever it was connected to: that it is set does not say that a person set it
    ours = uri == f"sqlite:///{home().root / 'mlflow.db'}"
    store = "sqlite:///${MEDMTL_HOME:-$HOME/.medmtl}/mlflow.db" if ours else "$MLFLOW_TRACKING_URI"
    return RunsRecord(command=f'mlflow ui --backend-store-uri "{store}"')


def log_metrics(run_id: str, metrics: Mapping[str, float], step: int, timestamp_ms: int) -> None:
    """Write metrics in batches; the same (key, step, timestamp, value) again changes nothing. NaN is left out."""
    rows = [Metric(metric_key(k), float(v), timestamp_ms, step) for k, v in metrics.items() if v == v]
    for start in range(0, len(rows), BATCH):
        MlflowClient().log_batch(run_id, metrics=rows[start : start + BATCH])


def log_dataset(name: str, path: Path, digest: str, context: str) -> None:
    """Name a store or a noise mask as an input of the active run; `digest` is its content hash."""
    source = LocalArtifactDatasetSource(path.as_uri())
    dataset = MetaDataset(source, name=name, digest=digest.removeprefix("sha256:")[:DIGEST])
    with FileLock(home().root / "mlflow.lock"):  # two arms at once would both make its row, and one of them fail
        mlflow.log_input(dataset, context=context)


def metric_key(key: str) -> str:
    """`key` with what MLflow does not allow in a metric's name replaced by underscores."""
    return "".join(c if c.isalnum() or c in "_-. :/" else "_" for c in key)


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _make_database(path: Path) -> None:
    """Make MLflow's database, whole or not at all: it cannot go on with one whose making was interrupted."""
    if path.exists():
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    MlflowClient(f"{SQLITE}{unfinished}").search_experiments()
    unfinished.replace(path)


def _end_orphans(client: MlflowClient, experiment: str) -> None:
    for run in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if is_gone(run.data.tags.get(PROCESS_TAG, "")):
            client.set_terminated(run.info.run_id, "KILLED")
