"""The model as MLflow keeps it: an exported program from raw pixels to probabilities, loadable without this project."""

import json
import warnings
from collections.abc import Sequence
from importlib.metadata import version

import mlflow
import numpy as np
from mlflow.entities import LoggedModel
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.networks.multitask import MultiTaskNetwork, Probabilities
from tasks.runtime.progress import LOGGER
from tasks.runtime.readers_writer_lock import exclusive

NAME = "model"
FACTS = "medmtl.json"
CHAMPION, CHALLENGER = "champion", "challenger"  # aliases in the registry, see `tasks.images.promotion`


def log_model(network: MultiTaskNetwork, example: np.ndarray) -> str:
    """Log the network to the active run; returns the model's URI.

    example: (2, 1, s, s) uint8; two images, because a batch of one would be exported as a constant.
    The labels in the order of the outputs and the hashed training patients go with it as `medmtl.json`.
    """
    size, k = network.size, len(network.labels)
    signature = ModelSignature(
        Schema([TensorSpec(np.dtype("uint8"), (-1, 1, size, size))]),
        Schema([TensorSpec(np.dtype("float32"), (-1, k))]),
    )
    run_id = mlflow.active_run().info.run_id
    facts = {"labels": list(network.labels), "size": size, "trained_on": list(network.trained_on)}
    for half_logged in _models_of(run_id):
        MlflowClient().delete_logged_model(half_logged.model_id)
    with exclusive(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's and MLflow's advice to their own developers
        info = mlflow.pytorch.log_model(
            Probabilities(network),
            name=NAME,
            signature=signature,
            input_example=example,
            pip_requirements=[f"torch=={version('torch')}", f"mlflow=={version('mlflow')}", "numpy"],
            metadata={"labels": json.dumps(facts["labels"])},
            validate_serving_input=False,  # MLflow would load the model once more, while all other arms wait
        )
    mlflow.log_dict(facts, FACTS)
    return info.model_uri


@task(name="register model", cache_policy=NO_CACHE)
def register_model(run_id: str, name: str) -> str:
    """Put a finished arm's model into MLflow's registry as a new version of `name`, once, and as its challenger.

    Returns the version.
    """
    client = MlflowClient()
    for known in client.search_model_versions(f"name = '{name}'"):
        if known.run_id == run_id:
            LOGGER.info("model: already registered as %s version %s", name, known.version)
            return str(known.version)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    (model_id,) = (model.model_id for model in _models_of(run_id))
    made = client.create_model_version(name, f"models:/{model_id}", run_id=run_id, model_id=model_id)
    client.set_registered_model_alias(name, CHALLENGER, made.version)
    LOGGER.info("model: registered as %s version %s, the %s", name, made.version, CHALLENGER)
    return str(made.version)


def _models_of(run_id: str) -> list[LoggedModel]:
    """One, unless the run was killed while it logged one."""
    client = MlflowClient()
    experiment = client.get_run(run_id).info.experiment_id
    return list(client.search_logged_models([experiment], f"source_run_id = '{run_id}'"))


def best_arm(run_ids: Sequence[str]) -> str:
    """The run whose chosen epoch has the highest mean validation AUC; the first of equals."""
    client = MlflowClient()
    return max(run_ids, key=lambda run_id: client.get_run(run_id).data.metrics.get("best_val_auc_mean", 0.0))
