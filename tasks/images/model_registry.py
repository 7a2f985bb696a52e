"""Models in MLflow and its model registry.

A logged model loads without this project installed.
"""

import json
import shutil
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import mlflow
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor

from data_prep.errors import DataError
from models.networks.multitask import MultiTaskNetwork
from tasks.arms.mlflow_runs import log_dict
from tasks.arms.outages import outlasts_outages
from tasks.images import served_model
from tasks.images.exported_program import export_network, load_program
from tasks.images.model_facts import MODEL_FACTS, ModelFacts, read_facts
from tasks.runtime.escaping import escape_key
from tasks.runtime.progress import LOGGER
from tasks.runtime.readers_writer_lock import exclusive

NAME = "model"
CHAMPION: Final = "champion"  # an alias in the registry, see `tasks.images.promotion`
CHALLENGER: Final = "challenger"  # another
DECISION_TAG = "medmtl.decision"  # of a version: what the gate decided; without it, it was never evaluated
REASON_TAG = "medmtl.promotion"  # of a version: the reason, in a sentence


@outlasts_outages
def log_model(network: MultiTaskNetwork, facts: ModelFacts) -> None:
    """Log a trained network as a model of the active MLflow run, and its facts as the artifact `MODEL_FACTS`.

    The model takes pixels or files (`tasks.images.served_model`). Its labels, and classes if it has some, are in its
    metadata too, as JSON. Nothing of an image is kept with it.

    Args:
        network: on any device.
        facts: of the network.
    """
    run_id = mlflow.active_run().info.run_id
    for incomplete in _models_of(run_id):  # left by a run that was killed while it logged its model
        MlflowClient().delete_logged_model(incomplete.model_id)
    with TemporaryDirectory() as folder, exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter and MLflow; they do not concern the user
        # no input example: MLflow would load the model to try it, while all other arms wait
        mlflow.pyfunc.log_model(
            name=NAME,
            python_model=shutil.copyfile(served_model.__file__, f"{folder}/served_model.py"),  # its path is kept too
            uv_project_path=folder,  # where there is none: else MLflow keeps the user's uv.lock and pyproject.toml
            artifacts={served_model.PROGRAM: str(export_network(network, Path(folder)))},
            model_config=facts.model_dump(mode="json", include=set(served_model.USED_FACTS)),
            signature=_signature(facts.outputs),
            pip_requirements=[f"torch=={version('torch')}", f"mlflow=={version('mlflow')}", "numpy", "pandas"],
            metadata={name: json.dumps(getattr(facts, name)) for name in ("labels", "classes") if getattr(facts, name)},
        )
    log_dict(facts.model_dump(mode="json"), MODEL_FACTS)


def _signature(outputs: Sequence[str]) -> ModelSignature:
    """Name the outputs. With a schema of inputs MLflow would cast wrong ones, before the model could refuse them."""
    vouch = ParamSpec(served_model.VOUCH, DataType.boolean, default=False)
    return ModelSignature(
        outputs=Schema([ColSpec(DataType.float, name) for name in outputs]), params=ParamSchema([vouch])
    )


def registered_name(name: str) -> str:
    """Return the name under which MLflow's registry has the model that a user calls `name`."""
    return escape_key(name, joint="/")


@task(name="register model", cache_policy=NO_CACHE)
@outlasts_outages
def register_model(run_id: str, name: str) -> str:
    """Register a finished arm's model as a new version of `name` and as its challenger; once for each MLflow run.

    The registered model is created if there is none of this name, see `registered_name`. A challenger that was never
    evaluated gets a tag that says which version took its place.

    Returns:
        The version.
    """
    client, registered = MlflowClient(), registered_name(name)
    if not client.search_registered_models(f"name = '{registered}'"):
        client.create_registered_model(registered)
    in_use = {int(version) for version in client.get_registered_model(registered).aliases.values()}
    versions = {int(each.version): each for each in client.search_model_versions(f"name = '{registered}'")}
    known = next((version for version, each in versions.items() if each.run_id == run_id), None)
    if known is not None and (known < max(versions) or known in in_use or REASON_TAG in versions[known].tags):
        LOGGER.info("model: already registered as %s version %d", registered, known)
        return str(known)
    if known is None:
        model_id = model_of(run_id)
        created = client.create_model_version(registered, f"models:/{model_id}", run_id=run_id, model_id=model_id)
        known = int(created.version)
    # what follows is also done for a version whose registration was cut off here
    if replaced := find_version(name, CHALLENGER):
        state = "waited for approval" if replaced.tags.get(DECISION_TAG) == "waiting" else "was not promoted"
        if REASON_TAG not in replaced.tags:
            state, why = "was never evaluated", f"not evaluated: version {known} took its place"
            client.set_model_version_tag(registered, replaced.version, REASON_TAG, why)
        LOGGER.info("model: version %s, which %s, is no longer the %s", replaced.version, state, CHALLENGER)
    client.set_registered_model_alias(registered, CHALLENGER, str(known))
    LOGGER.info("model: registered as %s version %d, alias %s", registered, known, CHALLENGER)
    return str(known)


@outlasts_outages
def find_version(name: str, alias: str) -> ModelVersion | None:
    """Return the version of the model `name` that has an alias; None if none has, or there is no such model."""
    try:
        return MlflowClient().get_model_version_by_alias(registered_name(name), alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # no such model; no such alias
            return None
        raise


def model_of(run_id: str) -> str:
    """Return MLflow's id of the model that a finished run logged.

    Raises:
        DataError: MLflow has none.
    """
    models = _models_of(run_id)
    if len(models) != 1:
        raise DataError(f"MLflow has {len(models)} models of run {run_id}: train it again, or take another")
    return str(models[0].model_id)


@outlasts_outages
def read_network(run_id: str) -> tuple[ModelFacts, dict[str, Tensor]]:
    """Read the network in the model that a finished run logged.

    Returns:
        The facts that were logged with it, and its weights under the network's own names.

    Raises:
        DataError: MLflow does not have it.
    """
    return read_facts(run_id), load_program(f"models:/{model_of(run_id)}").weights


def _models_of(run_id: str) -> list[LoggedModel]:
    """Return the models logged by a run: one, or an incomplete one if the run was killed while it logged."""
    client = MlflowClient()
    experiment_id = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"))


@outlasts_outages
def best_arm(run_ids: Sequence[str]) -> str:
    """Return the run whose best epoch has the highest mean validation AUC; the first one if several are equal."""
    client = MlflowClient()
    return max(run_ids, key=lambda run_id: client.get_run(run_id).data.metrics.get("best_val_auc_mean", 0.0))
