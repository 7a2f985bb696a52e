"""What a logged model says of itself, in its run's artifact medmtl.json."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import mlflow
from mlflow.exceptions import MlflowException
from pydantic import ConfigDict, Field

from data_prep.decoding.picture import PICTURE_VERSION
from data_prep.decoding.raster import DECODE_VERSION
from data_prep.errors import DataError
from models.evaluation.operating_points import OperatingPoint
from models.networks.multitask import MultiTaskNetwork
from tasks.arms.outages import outlasts_outages
from tasks.records.base import Count, Record, Share
from tasks.runtime.part_errors import is_away

MODEL_FACTS = "medmtl.json"


class DecoderRecord(Record):
    """How files became pixels."""

    kind: Literal["radiograph", "picture"]
    version: Count = Field(description="under one version, the same file gives the same pixels")


class OperatingPointRecord(Record):
    """The probability from which on a label counts as present, see `models.evaluation.operating_points`."""

    threshold: Share
    sensitivity: Share = Field(description="on the validation images, on which the threshold was chosen")
    specificity: Share = Field(description="on the same images")
    positives: Count = Field(description="validation images with the finding")
    negatives: Count = Field(description="validation images without it")


class ModelFacts(Record):
    """The facts of a model; those that a model of an older version lacks are None or empty."""

    model_config = ConfigDict(extra="ignore")  # a newer version may have logged more

    labels: tuple[str, ...] = Field(description="in the order of the outputs")
    classes: tuple[str, ...] = Field((), description="of the only label, in the order of the outputs; else empty")
    size: int = Field(ge=1, description="side of the images, pixels")
    channels: int = Field(1, ge=1, description="of the images: 1 grey, 3 colour")
    trained_on: tuple[str, ...] = Field(description="hashed patients, see models.evaluation.leakage")
    decoder: DecoderRecord | None = Field(None, description="with which the training images were decoded")
    population: str | None = Field(None, description="group of the patients of the training")
    patient_key: str | None = Field(None, description="fingerprint of the secret that made their keys, or 'public'")
    operating_points: dict[str, OperatingPointRecord] = Field({}, description="by label; of frequent labels only")

    @classmethod
    def of(
        cls,
        network: MultiTaskNetwork,
        recipe: Mapping[str, Any],
        classes: Sequence[str] = (),
        points: Mapping[str, OperatingPoint] | None = None,
    ) -> Self:
        """Return the facts of a trained network.

        Args:
            network: of any state.
            recipe: of the store with its training images, see `data_prep.store.recipe`.
            classes: names of the classes of the network's only label, as many as it has outputs; () if each label is
                present or absent.
            points: operating points by label.
        """
        if len(classes) != (network.classes or 0):
            raise ValueError(
                f"a network of {network.classes or 'no'} classes needs a name for each; got {len(classes)}"
            )
        kind, version = ("picture", "picture_version") if classes else ("radiograph", "decode_version")
        return cls(
            labels=network.labels,
            classes=tuple(classes),
            size=network.size,
            channels=network.channels,
            trained_on=network.trained_on,
            decoder=DecoderRecord(kind=kind, version=recipe[version]) if version in recipe else None,
            population=None if classes else recipe.get("population"),
            patient_key=None if classes else recipe.get("patient_key"),
            operating_points={label: OperatingPointRecord(**vars(point)) for label, point in (points or {}).items()},
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in their order: labels, or the classes of the only label."""
        return self.classes or self.labels

    @property
    def decoder_now(self) -> DecoderRecord:
        """How this version of medmtl decodes files for the model."""
        if self.classes:
            return DecoderRecord(kind="picture", version=PICTURE_VERSION)
        return DecoderRecord(kind="radiograph", version=DECODE_VERSION)


@outlasts_outages
def read_facts(run_id: str) -> ModelFacts:
    """Read the facts of the model that a finished run logged.

    Raises:
        DataError: MLflow does not have them.
    """
    try:
        return ModelFacts.model_validate(mlflow.artifacts.load_dict(f"runs:/{run_id}/{MODEL_FACTS}"))
    except (MlflowException, OSError, ValueError) as error:
        if is_away(error):
            raise
        why = str(error).partition("\n")[0]
        raise DataError(f"MLflow has no model of run {run_id} ({why}): train it again, or take another") from error
