"""What MLflow holds of medmtl: runs, logged models and model versions, read once, and how runs and models are removed.

A run is deleted in MLflow first, then its own garbage collection removes its rows and files. That needs the database:
where MLFLOW_TRACKING_URI names a server, the files are removed through it, and the rows stay until the collection is
run there.
"""

import io
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import mlflow
from mlflow.cli import _gc_tracking_resources
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _get_store

from tasks.arms.liveness import has_died
from tasks.arms.mlflow_runs import EXPERIMENT, KIND_TAG, PARENT_TAG
from tasks.runtime.run_folder import RESULTS

CLEANED_TAG = "medmtl.cleaned"  # of a run that `clean` deleted: after a kill, the next one collects it
_ID = re.compile("[0-9a-f]{32}")
_PAGE = 1000

T = TypeVar("T")


class MlflowRecords:
    """The records of medmtl's experiment.

    Attributes:
        runs: the runs by id.
        uri: address of the store.
        collects: whether MLflow's garbage collection can run here.
        deleted: the runs that were deleted in MLflow, by id.
        models: the logged models by the id of the run that logged them.
    """

    def __init__(self, uri: str, experiment_id: str) -> None:
        """Read the records of an experiment in the store at `uri`."""
        mlflow.set_tracking_uri(uri)
        self.uri, self._experiment_id = uri, experiment_id
        self._client, self._store = MlflowClient(), _get_store()
        self.collects = hasattr(self._store, "_hard_delete_run")  # so asks MLflow's garbage collection
        self.runs = self._read_runs(ViewType.ACTIVE_ONLY)
        self.deleted = self._read_runs(ViewType.DELETED_ONLY)
        self.models: dict[str, list[LoggedModel]] = defaultdict(list)
        for model in _pages(self._client.search_logged_models, experiment_ids=[experiment_id]):
            self.models[model.source_run_id or ""].append(model)

    @classmethod
    def open(cls, uri: str) -> "MlflowRecords | None":
        """Read the records in the store at `uri`; None if medmtl has no experiment there."""
        mlflow.set_tracking_uri(uri)
        found = MlflowClient().get_experiment_by_name(EXPERIMENT)
        return cls(uri, found.experiment_id) if found else None

    def _read_runs(self, view: int) -> dict[str, Run]:
        runs = _pages(
            self._client.search_runs, experiment_ids=[self._experiment_id], run_view_type=view, max_results=_PAGE
        )
        return {run.info.run_id: run for run in runs}

    @cached_property
    def registered(self) -> frozenset[str]:
        """Ids of the runs that a model version of any name comes from; of a version, the address counts too."""
        versions = list(_pages(self._client.search_model_versions))
        named = {str(name) for version in versions for name in (version.run_id, version.model_id) if name}
        addresses = "\n".join(str(version.source) for version in versions)
        models = {
            run_id: {model.model_id for model in of_run} | {run_id} for run_id, of_run in self.models.items() if run_id
        }
        return frozenset(
            run_id
            for run_id in self.runs
            if any(each in named or each in addresses for each in models.get(run_id, {run_id}))
        )

    @cached_property
    def _children(self) -> dict[str, list[str]]:
        children = defaultdict(list)
        for run_id, run in self.runs.items():
            children[run.data.tags.get(PARENT_TAG, "")].append(run_id)
        return children

    def family(self, run_id: str) -> frozenset[str]:
        """Return the ids of a run and of all runs below it."""
        found, waiting = set[str](), [run_id]
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += self._children.get(each, [])
        return frozenset(found)

    def of_kind(self, kind: str) -> list[Run]:
        """Return the runs of a kind: 'arm', 'study' or 'night'."""
        return [run for run in self.runs.values() if run.data.tags.get(KIND_TAG) == kind]

    def refers_to(self, run: Run) -> frozenset[str]:
        """Return the ids of all runs that a run names, in its tags or in its results."""
        texts = list(run.data.tags.values())
        files = get_artifact_repository(run.info.artifact_uri)
        if any(Path(file.path).name == RESULTS for file in files.list_artifacts()):
            texts.append(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/{RESULTS}"))
        return frozenset(_ID.findall("\n".join(texts))) & self.runs.keys()

    def run_bytes(self, run_id: str) -> int:
        """Return the bytes of a run's files and of the models that it logged."""
        addresses = [model.artifact_location for model in self.models.get(run_id, ())]
        return sum(map(artifact_bytes, [self.runs[run_id].info.artifact_uri, *addresses]))

    def remove_run(self, run_id: str) -> bool:
        """Remove a run with its models; return False, and leave it, if a model version comes from it by now."""
        if self._client.search_model_versions(f"run_id = '{run_id}'"):
            return False
        for model in self.models.get(run_id, ()):
            self.remove_model(model)
        self._client.set_tag(run_id, CLEANED_TAG, "yes")
        if not self.collects:
            _delete_artifacts(self.runs[run_id].info.artifact_uri)
        self._client.delete_run(run_id)
        return self.collect_run(self.runs[run_id])

    def collect_run(self, run: Run) -> bool:
        """Let MLflow's garbage collection take a deleted run, where it can."""
        return self._collect([run.info.run_id], [], run.info.artifact_uri)

    def remove_model(self, model: LoggedModel) -> bool:
        """Remove a logged model."""
        if not self.collects:
            _delete_artifacts(model.artifact_location)
        self._client.delete_logged_model(model.model_id)
        return self._collect([], [model.model_id], model.artifact_location)

    def deleted_models(self, milliseconds: int) -> Iterator[LoggedModel]:
        """Yield the logged models that were deleted so long ago, where MLflow tells; they cannot be restored."""
        if self.collects:
            for model_id in self._store._get_deleted_logged_models(older_than=milliseconds):
                model = self._store.get_logged_model(model_id, allow_deleted=True)
                if model.experiment_id == self._experiment_id:
                    yield model

    def collect_model(self, model: LoggedModel) -> bool:
        """Let MLflow's garbage collection take a deleted logged model."""
        return self._collect([], [model.model_id], model.artifact_location)

    def _collect(self, run_ids: list[str], model_ids: list[str], address: str) -> bool:
        if self.collects:
            with redirect_stdout(io.StringIO()):  # it prints a line for each
                _gc_tracking_resources(
                    self._store,
                    run_ids=run_ids,
                    experiment_ids=None,
                    logged_model_ids=model_ids,
                    older_than=None,
                    time_delta=0,
                    skip_experiments=True,  # `mlflow gc` would take all deleted experiments too
                    skip_logged_models=False,
                )
            if urlsplit(address).scheme in ("", "file"):
                with suppress(OSError):  # it leaves the empty folder around the files
                    Path(unquote(urlsplit(address).path)).parent.rmdir()
        return True


def is_over(run: Run) -> bool:
    """Tell whether a run has ended, or its process has."""
    return run.info.status not in ("RUNNING", "SCHEDULED") or has_died(run.data.tags)


def ended(run: Run) -> float:
    """Return when a run ended; if nobody recorded that, when it began. Unix time, seconds."""
    return (run.info.end_time or run.info.start_time or 0) / 1000


def artifact_bytes(address: str) -> int:
    """Return the bytes of all files at an address of MLflow's artifacts."""
    files = get_artifact_repository(address)

    def below(path: str | None) -> int:
        listed = files.list_artifacts(path)
        return sum(below(each.path) if each.is_dir else each.file_size or 0 for each in listed)

    return below(None)


def _delete_artifacts(address: str) -> None:
    files: ArtifactRepository = get_artifact_repository(address)
    files.delete_artifacts()


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """Yield what a search of MLflow finds, page by page."""
    token = None
    while True:
        page = search(page_token=token, **arguments)
        yield from page
        if not (token := page.token):
            return
