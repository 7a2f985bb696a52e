"""The registered model that predicts, by its name and alias or version."""

import re
from dataclasses import dataclass
from typing import Annotated

from mlflow.tracking import MlflowClient
from pydantic import AfterValidator, Field

from data_prep.errors import DataError, did_you_mean
from tasks.arms import mlflow_runs
from tasks.arms.outages import outlasts_outages
from tasks.images.championship import no_such_model, numbered_version
from tasks.images.exported_program import Program, load_program
from tasks.images.model_facts import ModelFacts, read_facts
from tasks.images.model_registry import find_version, registered_name
from tasks.prediction.records import PredictingModelRecord
from tasks.runtime.settings import check_model_name

_REFERENCE = re.compile(r"(.+)(?:@([A-Za-z0-9_-]+)|/([0-9]{1,9}))", re.DOTALL)  # MLflow's letters of an alias


def _check_reference(text: str) -> str:
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ValueError(f"a model is named as NAME@ALIAS or NAME/VERSION, such as medmtl@champion; got {text!r}")
    check_model_name(found[1])
    return text


ModelReference = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_check_reference)]
"""A registered model: NAME@ALIAS or NAME/VERSION."""


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model, ready to predict.

    Attributes:
        name: of the model.
        version: of it.
        run_id: of its training.
        facts: that were logged with it.
        program: from pixels to probabilities.
    """

    name: str
    version: str
    run_id: str
    facts: ModelFacts
    program: Program

    def record(self, knows_patients: bool) -> PredictingModelRecord:
        """Return what the predictions say of the model."""
        return PredictingModelRecord(
            name=self.name,
            version=self.version,
            run_id=self.run_id,
            labels=self.facts.outputs,
            size=self.facts.size,
            decoder=self.facts.decoder,
            operating_points=self.facts.operating_points,
            knows_patients=knows_patients,
        )


@outlasts_outages
def load_registered(reference: str) -> RegisteredModel:
    """Load a version of a registered model from MLflow.

    Args:
        reference: a `ModelReference`.

    Raises:
        DataError: there is no such model, alias or version, or its files are not in MLflow.
    """
    name, alias, number = _REFERENCE.fullmatch(reference).groups()  # type: ignore[union-attr]
    mlflow_runs.connect()
    version = numbered_version(name, number) if number else find_version(name, alias)
    if version is None:
        raise DataError(_no_alias(name, alias))
    program = load_program(f"models:/{registered_name(name)}/{version.version}")
    return RegisteredModel(name, str(version.version), version.run_id, read_facts(version.run_id), program)


@outlasts_outages
def _no_alias(name: str, alias: str) -> str:
    client, registered = MlflowClient(), registered_name(name)
    if not client.search_registered_models(f"name = '{registered}'"):
        return no_such_model(name)
    known = sorted(client.get_registered_model(registered).aliases)
    return (
        f"no version of {name} is its {alias}{did_you_mean(alias, known)}; name a version as {name}/1, or make one the "
        "champion with medmtl promote"
    )
