"""MLflow runs: a parent run per study, a child run per arm, each ended as FINISHED, FAILED or KILLED.

An arm's hash is a tag of its run, by which any study on the same MLflow store finds a finished arm.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import uuid4

import mlflow
from filelock import FileLock
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient
from prefect.artifacts import create_link_artifact
from pydantic import BaseModel

from data_prep.errors import DataError
from tasks.arms.liveness import has_died, renewed, signature
from tasks.arms.outages import outlasts_outages
from tasks.records.study import RunsRecord
from tasks.runtime.escaping import LONGEST_KEY, escape_key, escape_unprintable
from tasks.runtime.home import home
from tasks.runtime.part_errors import reason
from tasks.runtime.pipeline import prefect_run_link
from tasks.runtime.progress import LOGGER
from tasks.runtime.servers import SQLITE, sqlite_path
from tasks.runtime.sqlite_check import MLFLOW, check_database

EXPERIMENT = "medmtl"
ARM_TAG = "medmtl.arm"
STUDY_TAG = "medmtl.study"
KIND_TAG = "medmtl.kind"  # arm, study, night or profile
SERIES_TAG, NIGHT_TAG = "medmtl.series", "medmtl.night"  # of a night: the model, and the date
PARENT_TAG = "mlflow.parentRunId"  # MLflow's own tag for nested runs
CREATED_TAG = "medmtl.created"  # a random number, by which a run is found whose id got lost on the way
PREFECT_TAG = "medmtl.prefect_run"
NOTE_TAG = "mlflow.note.content"  # MLflow shows it as the description of a run, in Markdown
LONGEST_NOTE = 7500  # characters; of 8000 that MLflow keeps
ORPHANS = 200  # runs of killed commands that one start looks at
BATCH, PARAMS_BATCH = 1000, 100  # the most metrics, and parameters, that MLflow accepts in one call
DIGEST = 32  # characters of a content hash that fit into MLflow's dataset table


log_artifact = outlasts_outages(mlflow.log_artifact)
log_dict = outlasts_outages(mlflow.log_dict)
log_text = outlasts_outages(mlflow.log_text)
set_tags = outlasts_outages(mlflow.set_tags)


@outlasts_outages
def download(run_id: str | None, artifact: str, folder: Path | str | None = None) -> Path:
    """Download an artifact of a run, a file or a folder, to a folder (a temporary one by default); return its path."""
    destination = None if folder is None else str(folder)
    return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path=artifact, dst_path=destination))


@outlasts_outages
def connect() -> str:
    """Connect MLflow to the store of `home()`, and return the id of medmtl's experiment.

    Runs that killed processes left RUNNING become KILLED.

    Raises:
        DataError: the database cannot be used, or the experiment was deleted.
    """
    uri = home().tracking_uri
    mlflow.set_tracking_uri(uri)
    with FileLock(home().root / "mlflow.lock"):  # two commands at once would both create the database
        if path := sqlite_path(uri):
            _check_once(path)
            _create_database(path)
        client = MlflowClient()
        known = client.get_experiment_by_name(EXPERIMENT)
        if known is None:
            artifacts = (home().root / "mlflow-artifacts").as_uri() if path else None
            experiment_id = client.create_experiment(EXPERIMENT, artifact_location=artifacts)
        else:
            experiment_id = known.experiment_id
            if known.lifecycle_stage != "active":
                restore = f"mlflow experiments restore --experiment-id {experiment_id}"
                raise DataError(f"MLflow's experiment {EXPERIMENT!r} was deleted: restore it with: {restore}")
        _end_orphans(client, experiment_id)
    return experiment_id


@outlasts_outages
def find_run(experiment_id: str, tag: str, value: str) -> Run | None:
    """Find the newest run, finished or not, whose tag has this value (an arm's or a study's hash); else None."""
    runs = MlflowClient().search_runs(
        [experiment_id], f"tags.`{tag}` = '{value}'", order_by=["attributes.start_time DESC"], max_results=1
    )
    return runs[0] if runs else None


def create_run(experiment_id: str, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
    """Create a run with tags and parameters (nested mappings are flattened with dots), and return its id."""
    note = {NOTE_TAG: line} if (line := _prefect_note()) else {}
    tags = {**tags, **signature(), **_prefect_tags(), **note, CREATED_TAG: uuid4().hex}
    return resume_run(_create(experiment_id, name, tags), params)


@outlasts_outages
def _create(experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
    known = find_run(experiment_id, CREATED_TAG, tags[CREATED_TAG])
    return known or MlflowClient().create_run(experiment_id, run_name=_shown(name), tags=dict(tags))


@outlasts_outages
def resume_run(run: Run, params: Mapping[str, Any]) -> str:
    """Log the parameters that an unfinished run does not have yet, because of a kill; return the run's id."""
    missing = [Param(key, str(value)) for key, value in flatten(params).items() if key not in run.data.params]
    for start in range(0, len(missing), PARAMS_BATCH):
        MlflowClient().log_batch(run.info.run_id, params=missing[start : start + PARAMS_BATCH])
    return run.info.run_id


@contextmanager
def parent_run(
    kind: Literal["study", "night"], title: str, settings: BaseModel, tags: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Open the run of a study or a night: the unfinished one of the same settings, or a new one with title and date.

    Args:
        kind: of the run.
        title: begins its name.
        settings: are logged as parameters.
        tags: further tags.

    Yields:
        The id of the run, which is the active one meanwhile.
    """
    experiment_id = connect()
    config = settings.model_dump(mode="json")
    identity = hashlib.sha256(json.dumps(config).encode()).hexdigest()[:16]
    known = find_run(experiment_id, STUDY_TAG, identity)
    if known is not None and known.info.status != "FINISHED":
        run_id = resume_run(known, config)
    else:
        name = f"{title} · {datetime.now():%Y-%m-%d %H:%M}"
        run_id = create_run(experiment_id, name, {STUDY_TAG: identity, KIND_TAG: kind, **(tags or {})}, config)
    with active_run(run_id):
        link_from_prefect(run_id)
        yield run_id


@contextmanager
def active_run(run_id: str) -> Iterator[None]:
    """Make a run the active one; it ends FINISHED, FAILED after an exception, KILLED after Ctrl-C or SIGTERM.

    `mlflow.start_run` as a context manager would end it FAILED in the last case too. A run that cannot be ended because
    MLflow's server is away ends KILLED at the start of the next command.
    """
    _start(run_id)
    with renewed(run_id):
        try:
            yield
        except Exception:
            _try_to_end(run_id, "FAILED", outlasts_outages(_end))
            raise
        except BaseException:
            _try_to_end(run_id, "KILLED", _end)  # who stops a command does not want to wait
            raise
        outlasts_outages(_end)(run_id, "FINISHED")


@outlasts_outages
def _start(run_id: str) -> None:
    tags = signature() | _prefect_tags()
    MlflowClient().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
    mlflow.start_run(run_id=run_id, nested=True)


def _end(run_id: str, status: str) -> None:
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        mlflow.end_run(status)  # after this the run before is the active one, also if the server is away
    else:
        MlflowClient().set_terminated(run_id, status)


def _try_to_end(run_id: str, status: str, end: Callable[[str, str], None]) -> None:
    """End a run after an error, which a failure to do so must not hide."""
    try:
        end(run_id, status)
    except Exception as error:
        LOGGER.info("MLflow %s: run %s is shown as running until the next command", reason(error), run_id[:8])


def runs_record() -> RunsRecord:
    """Return where to look at the runs: the address of the MLflow server, or a command that starts one.

    Contains no password, and no path of this machine.
    """
    if (server := _server()) is not None:
        return RunsRecord(address=f"{server}/#/experiments/{connect()}/runs/")
    # MLflow itself sets MLFLOW_TRACKING_URI when it connects, so that it is set does not mean that the user set it
    is_default = home().tracking_uri == f"sqlite:///{home().root / 'mlflow.db'}"
    store = "sqlite:///${MEDMTL_HOME:-$HOME/.medmtl}/mlflow.db" if is_default else "$MLFLOW_TRACKING_URI"
    return RunsRecord(command=f'mlflow ui --backend-store-uri "{store}"')


def run_url(run_id: str) -> str | None:
    """Return the address of a run's page on the MLflow server, without a password; None: the store has no server."""
    server = _server()
    return None if server is None else f"{server}/{run_anchor(experiment_of(run_id), run_id)}"


def link_from_prefect(run_id: str) -> None:
    """Give the Prefect run in which this is called, if it is in one, a link to a run's page on the MLflow server."""
    if prefect_run_link() and (page := run_url(run_id)):
        create_link_artifact(page, key="mlflow-run", link_text="MLflow's page of the run", description="the MLflow run")


def run_anchor(experiment_id: str, run_id: str) -> str:
    """Return the address of a run's page relative to MLflow's own pages."""
    return f"#/experiments/{experiment_id}/runs/{run_id}"


@outlasts_outages
def experiment_of(run_id: str) -> str:
    """Return the id of the experiment that a run is in."""
    return str(MlflowClient().get_run(run_id).info.experiment_id)


@outlasts_outages
def start_time_ms(run_id: str) -> int:
    """Return when a run was created, Unix time in milliseconds."""
    return int(MlflowClient().get_run(run_id).info.start_time)


def _server() -> str | None:
    parts = urlsplit(home().tracking_uri)
    if parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


@outlasts_outages
def set_note(run_id: str, note: str) -> None:
    """Set the description of a run, Markdown of at most `LONGEST_NOTE` characters that MLflow shows above all else.

    Before it stands the link to the page of the flow run of Prefect, if there is one.
    """
    MlflowClient().set_tag(run_id, NOTE_TAG, "\n\n".join(filter(None, (_prefect_note(), note))))


@outlasts_outages
def log_metrics(run_id: str, metrics: Mapping[str, float], step: int, timestamp_ms: int) -> None:
    """Log metrics in batches, each under the key of its name (`tasks.runtime.escaping`). NaN is left out.

    To log the same (key, step, timestamp, value) again changes nothing.
    """
    rows = [Metric(escape_key(name), float(v), timestamp_ms, step) for name, v in metrics.items() if v == v]
    for start in range(0, len(rows), BATCH):
        MlflowClient().log_batch(run_id, metrics=rows[start : start + BATCH])


@outlasts_outages
def log_dataset(name: str, path: Path, digest: str, context: str) -> None:
    """Log the files of a dataset and their content hash as an input of the active run; the context is its use."""
    source = LocalArtifactDatasetSource(path.as_uri())
    dataset = MetaDataset(source, name=_shown(name), digest=digest.removeprefix("sha256:")[:DIGEST])
    with FileLock(home().root / "mlflow.lock"):  # two arms at once would both create the row, and one would fail
        mlflow.log_input(dataset, context=context)


def _prefect_tags() -> dict[str, str]:
    """Return the tag that names the flow run of Prefect in which this is called, if it is in one."""
    link = prefect_run_link()
    return {PREFECT_TAG: link[0]} if link else {}


def _prefect_note() -> str:
    """Return a link to the page of that flow run in Markdown; nothing if it has none."""
    link = prefect_run_link()
    return f"[Prefect's page of the run]({link[1]})" if link and link[1] else ""


def _shown(name: str) -> str:
    """Return a name that is only shown, by which nothing is found: escaped for a terminal, and cut."""
    shown = escape_unprintable(name)
    return shown if len(shown) <= LONGEST_KEY else f"{shown[: LONGEST_KEY - 1]}…"


def flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested mappings: {"a": {"b": 1}} becomes {"a.b": 1}; a dot inside a name is escaped."""
    return {escape_key(*path, joint="."): value for path, value in _leaves(nested)}


def _leaves(nested: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from (((name, *path), leaf) for path, leaf in _leaves(value))
        else:
            yield (name,), value


def _create_database(path: Path) -> None:
    """Create MLflow's database atomically: MLflow cannot use one whose creation was interrupted."""
    if path.exists() and path.stat().st_size:
        return
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    MlflowClient(f"{SQLITE}{unfinished}").search_experiments()
    unfinished.replace(path)


@cache
def _check_once(path: Path) -> None:
    check_database(path, MLFLOW)


def _end_orphans(client: MlflowClient, experiment_id: str) -> None:
    """Old records never stop a command: runs that cannot be read or ended stay as they are."""
    try:
        for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=ORPHANS):
            if has_died(run.data.tags):
                client.set_terminated(run.info.run_id, "KILLED")
    except Exception as error:
        _say_once(f"MLflow {reason(error)}: some runs of killed commands keep their state")


@cache
def _say_once(line: str) -> None:
    LOGGER.info(line)
