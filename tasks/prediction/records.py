"""The records of predictions.json."""

from typing import Any, Literal

from pydantic import Field

from tasks.images.model_facts import DecoderRecord, OperatingPointRecord
from tasks.records.base import Count, Record, Share

Status = Literal["predicted", "trained_on", "refused"]


class PredictingModelRecord(Record):
    """The registered model that predicted."""

    name: str
    version: str = Field(description="in MLflow's registry")
    run_id: str = Field(description="MLflow run of its training")
    labels: tuple[str, ...] = Field(description="of its outputs, in their order; classes where it has one label")
    size: int = Field(ge=1, description="side of its images, pixels")
    decoder: DecoderRecord | None = Field(description="with which its training images were decoded; null: not known")
    operating_points: dict[str, OperatingPointRecord] = Field(description="by label; a label without one is rare")
    knows_patients: bool = Field(description="whether a file's patient can be compared with those of its training")


class PredictionRecord(Record):
    """What became of a file."""

    file: str = Field(description="as the user named it, or below the folder that the user named")
    status: Status = Field(
        description="predicted; trained_on: predicted, but the model was trained on this patient; refused"
    )
    reason: str = Field("", description="why the file was refused, or what to mind of its probabilities")
    probabilities: dict[str, Share] | None = Field(None, description="by label; null if the file was refused")
    positive: tuple[str, ...] | None = Field(
        None, description="labels whose probability reaches their operating point; null if the file was refused"
    )


class PredictionCounts(Record):
    """How many files became what."""

    files: Count
    predicted: Count
    trained_on: Count
    refused: Count
    positive: dict[str, Count] = Field(description="label with an operating point -> files that reach it")
    others: Count = Field(description="files in the folders that are no images")
    unreadable: Count = Field(description="folders that could not be read")
    reasons: dict[str, Count] = Field(
        description="reason, with N for each number in it -> files that were refused for it"
    )
    seconds: float = Field(ge=0, description="from the first file to the last row")


class PredictionsHead(Record):
    """What predictions.json begins with; `files`, a list of `PredictionRecord`, and `counts` follow."""

    schema_: Literal["medmtl/predictions/1"] = Field("medmtl/predictions/1", serialization_alias="schema")
    config: dict[str, Any]
    version: str = Field(description="of medmtl")
    git: str | None
    model: PredictingModelRecord
    decoder: DecoderRecord = Field(description="with which these files were decoded")
