"""Models in MLflow and its model registry: exported programs from raw pixels to probabilities.

A logged model loads without this project installed.
"""

import json
import warnings
from collections.abc import Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlflow
import numpy as np
import torch
from mlflow.entities import LoggedModel
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor

from data_prep.errors import DataError
from models.networks.multitask import MultiTaskNetwork, Probabilities
from tasks.arms.mlflow_runs import log_dict
from tasks.arms.outages import outlasts_outages
from tasks.runtime.escaping import escape_key
from tasks.runtime.part_errors import is_away
from tasks.runtime.progress import LOGGER
from tasks.runtime.readers_writer_lock import exclusive

NAME = "model"
MODEL_FACTS = "medmtl.json"
CHAMPION: Final = "champion"  # an alias in the registry, see `tasks.images.promotion`
CHALLENGER: Final = "challenger"  # another
DECISION_TAG = "medmtl.decision"  # of a version: what the gate decided; without it, it was never evaluated
REASON_TAG = "medmtl.promotion"  # of a version: the reason, in a sentence


@outlasts_outages
def log_model(network: MultiTaskNetwork, classes: Sequence[str] = ()) -> None:
    """Log a trained network as a model of the active MLflow run.

    The artifact `medmtl.json` holds the labels in the order of the outputs, the image size and the hashed training
    patients. With classes, it also holds their names, which are then in the order of the outputs. Labels and classes
    are in the model's metadata too, as JSON. The example that MLflow keeps with a model is of no patient.

    Args:
        network: on any device.
        classes: names of the classes of the network's only label, as many as it has outputs; () if each label is
            present or absent.
    """
    if len(classes) != (network.classes or 0):
        raise ValueError(f"a network of {network.classes or 'no'} classes needs a name for each; got {len(classes)}")
    size = network.size
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, network.channels, size, size))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, network.classes or len(network.labels)))]),
    )
    run_id = mlflow.active_run().info.run_id
    names = {"labels": list(network.labels)} | ({"classes": list(classes)} if classes else {})
    facts = {**names, "size": size, "trained_on": list(network.trained_on)}
    for incomplete in _models_of(run_id):  # left by a run that was killed while it logged its model
        MlflowClient().delete_logged_model(incomplete.model_id)
    with exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter and MLflow; they do not concern the user
        mlflow.pytorch.log_model(
            Probabilities(deepcopy(network).cpu()),  # the exporter runs the example, which is on the CPU
            name=NAME,
            signature=signature,
            input_example=example_input(network.channels, size),
            pip_requirements=[f"torch=={version('torch')}", f"mlflow=={version('mlflow')}", "numpy"],
            metadata={name: json.dumps(values) for name, values in names.items()},
            validate_serving_input=False,  # it would load the model again while all other arms wait
        )
    log_dict(facts, MODEL_FACTS)


def example_input(channels: int, size: int) -> np.ndarray:
    """Return two images of all grey values in order, (2, channels, size, size) uint8.

    Two, because a batch size of one would be exported as a constant.
    """
    return np.resize(np.arange(256, dtype=np.uint8), (2, channels, size, size))


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
    """Return MLflow's id of the model that a finished run logged."""
    (model_id,) = (model.model_id for model in _models_of(run_id))
    return str(model_id)


@outlasts_outages
def read_network(run_id: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the network in the model that a finished run logged.

    Returns:
        The facts that were logged with it (labels, size, trained_on), and its weights under the network's own names.

    Raises:
        DataError: MLflow does not have it.
    """
    try:
        facts = mlflow.artifacts.load_dict(f"runs:/{run_id}/{MODEL_FACTS}")
        with TemporaryDirectory() as folder:
            model = mlflow.artifacts.download_artifacts(f"models:/{model_of(run_id)}", dst_path=folder)
            (program,) = (Path(model) / "data").glob("*.pt2")
            weights = torch.export.load(program).state_dict
    except (MlflowException, OSError, ValueError) as error:
        if is_away(error):
            raise
        why = str(error).partition("\n")[0]
        raise DataError(f"MLflow has no network of run {run_id} ({why}): start from another, or anew") from error
    return facts, {name.removeprefix("network."): value for name, value in weights.items()}


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
