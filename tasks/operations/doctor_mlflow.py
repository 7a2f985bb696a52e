"""Check MLflow: whether its server or database answers, its files can be read, its runs live, and who is champion.

Nothing is written. A SQLite database is opened for reading only: MLflow's client would bring one of an older version
up to date.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from mlflow.entities import Experiment, Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient

from data_prep.errors import DataError
from tasks.arms.liveness import has_died
from tasks.arms.mlflow_runs import EXPERIMENT, KIND_TAG
from tasks.images.championship import HISTORY_TAG, HISTORY_TIME
from tasks.images.model_registry import CHALLENGER, CHAMPION, DECISION_TAG, MODEL_FACTS
from tasks.runtime.doctor import Check, ago, ask_in_time, judge, some
from tasks.runtime.escaping import escape_unprintable
from tasks.runtime.home import Home
from tasks.runtime.part_errors import is_away, reason, without_password
from tasks.runtime.servers import MLFLOW_LIMITS, check_mlflow, environment, sqlite_path

NAME = "MLflow"
MOST_RUNS, MOST_MODELS = 200, 20  # that are looked at
READ_BYTES = 1 << 20  # a file of more is not read for a check


def check_mlflow_records(home: Home | None) -> Iterator[Check]:
    """Check the server that MLFLOW_TRACKING_URI names, or the database of a home, and what they hold.

    The home is None where it cannot be used.
    """
    uri = home.tracking_uri if home else os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        yield Check("-", NAME, "its database in MEDMTL_HOME was not looked at")
        return
    path = sqlite_path(uri)
    if path and not (path.exists() and path.stat().st_size):
        yield Check("-", NAME, f"no database yet: the first command makes {path}")
        return
    try:
        check_mlflow(uri)
    except DataError as error:
        yield Check("WRONG", NAME, str(error))
        return
    yield Check("ok", NAME, without_password(uri))
    # not sqlite:///, for which MLflow's client would make a folder of this name
    read_only = f"sqlite+pysqlite:///file:{quote(str(path.absolute()))}?mode=ro&uri=true" if path else uri
    yield from ask_in_time(NAME, partial(_questions, read_only))


def _questions(uri: str) -> Iterator[Check]:
    with environment(MLFLOW_LIMITS):
        client = MlflowClient(uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI") or uri)
        experiment = client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            yield Check("-", "MLflow runs", "none of medmtl yet")
            return
        if experiment.lifecycle_stage != "active":
            restore = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
            yield Check("WRONG", "MLflow runs", f"the experiment {EXPERIMENT!r} was deleted: restore it with {restore}")
        yield _runs(client, experiment)
        yield _artifacts(client, experiment, uri)
        for model in client.search_registered_models(max_results=MOST_MODELS, order_by=["last_updated_timestamp DESC"]):
            yield _model(client, model, uri)


def _runs(client: MlflowClient, experiment: Experiment) -> Check:
    """Check that the processes of runs that are RUNNING live."""
    running: list[Run] = client.search_runs(
        [experiment.experiment_id], "attributes.status = 'RUNNING'", max_results=MOST_RUNS
    )
    dead = [run.info.run_name or run.info.run_id for run in running if has_died(run.data.tags)]
    if not dead:
        return Check("ok", "MLflow runs", f"{len(running)} running")
    finding = f"{len(dead)} of {len(running)} that are RUNNING belong to processes that have ended ({some(dead)})"
    return Check("WRONG", "MLflow runs", f"{finding}: the next study, training or night ends them; start it again")


def _artifacts(client: MlflowClient, experiment: Experiment, uri: str) -> Check:
    """Check that the files of the newest finished arm are listed, and that a small one can be read."""
    finished = f"attributes.status = 'FINISHED' AND tags.`{KIND_TAG}` = 'arm'"
    newest = client.search_runs(
        [experiment.experiment_id], finished, order_by=["attributes.start_time DESC"], max_results=1
    )
    address = newest[0].info.artifact_uri if newest else experiment.artifact_location
    place = without_password(address)
    try:
        files = get_artifact_repository(address, tracking_uri=uri)
        listed = files.list_artifacts()
        small = [each for each in listed if not each.is_dir and (each.file_size or 0) <= READ_BYTES]
        with TemporaryDirectory() as folder:
            for each in small[:1]:
                files.download_artifacts(each.path, folder)
    except Exception as error:  # stores of files each raise their own exceptions
        return Check("WRONG", "MLflow files", f"{place} cannot be read (it {reason(error)}): {_remedy(uri)}")
    if not newest:
        return Check("ok", "MLflow files", f"{place}: no finished arm yet")
    finding = f"those of the newest arm, {len(listed)} at {place}, can be read"
    return judge(
        bool(listed), "MLflow files", finding if listed else f"the newest arm has none at {place}", _remedy(uri)
    )


def _remedy(uri: str) -> str:
    if uri.startswith("http"):
        return "start MLflow's server with --artifacts-destination FOLDER, the folder that holds them, and see its log"
    return "restore the folder from a backup"


def _model(client: MlflowClient, model: RegisteredModel, uri: str) -> Check:
    """Say which version is the champion, since when, and whether another waits for approval."""
    name = f"model {escape_unprintable(model.name)}"
    versions = {
        alias: _version(client, model.name, alias) for alias in (CHAMPION, CHALLENGER) if alias in model.aliases
    }
    champion, challenger = versions.get(CHAMPION), versions.get(CHALLENGER)
    waits = ""
    if challenger is not None and challenger.tags.get(DECISION_TAG) == "waiting":
        waits = f"; version {challenger.version} waits for approval: medmtl promote --model {model.name}"
    if champion is None:
        return Check("-", name, f"no champion yet{waits}")
    found = f"version {champion.version} is the champion{_since(champion)}{waits}"
    another = f"medmtl rollback --model {model.name}, or medmtl promote --model {model.name} --version N"
    return judge(_has_files(client, champion, uri), name, found, f"but its files are not in MLflow; {another}")


def _version(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    return client.get_model_version_by_alias(name, alias)


def _since(version: ModelVersion) -> str:
    """Return since when a version is the champion, in words, where its history says so."""
    times = [key.removeprefix(HISTORY_TAG) for key, told in version.tags.items() if _became_champion(key, told)]
    if not times:
        return ""
    since = datetime.strptime(max(times), HISTORY_TIME).replace(tzinfo=UTC)
    return f" since {since:%Y-%m-%d} ({ago(since)})"


def _became_champion(key: str, told: str) -> bool:
    return key.startswith(HISTORY_TAG) and told.startswith("champion")


def _has_files(client: MlflowClient, version: ModelVersion, uri: str) -> bool:
    """Tell whether MLflow has the files of a version; True where medmtl did not make it, or nobody can tell."""
    try:
        run = client.get_run(version.run_id) if version.run_id else None
        if run is None or KIND_TAG not in run.data.tags:
            return True
        listed = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri).list_artifacts()
    except (MlflowException, OSError) as error:
        return is_away(error)
    return any(Path(each.path).name == MODEL_FACTS for each in listed)
