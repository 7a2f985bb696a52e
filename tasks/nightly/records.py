"""The records of a night: results.json of `medmtl nightly`."""

from datetime import date
from typing import Any, Literal

from pydantic import Field

from tasks.images.promotion import EvaluationRecord
from tasks.nightly.drift import DriftRecord
from tasks.records.base import Count, Record
from tasks.records.data import SplitRecord, StoreRecord
from tasks.records.scores import MeanRecord

Outcome = Literal["promoted", "waiting", "refused", "unchanged"]


class NightDataRecord(StoreRecord):
    """The images and labels of a night, and their split."""

    split: SplitRecord


class ArrivalsRecord(Record):
    """The images of a night's store, and which of them are new."""

    images: Count
    patients: Count
    new_images: Count = Field(description="first seen on this night")
    new_quarantined: Count = Field(description="files first seen on this night that were set aside")
    by_part: dict[str, Count] = Field(description="part of the split -> patients")
    new_by_part: dict[str, Count] = Field(description="part of the split -> patients whom no earlier night had")
    decoded: Count = Field(description="files that this run decoded; all others were decoded before")


class ChampionRecord(Record):
    """The champion at the start of a night, scored on the validation patients of the series' first night."""

    version: str
    mean: MeanRecord
    patients: Count = Field(description="validation patients of the first night; the same on every night")


class ChallengerRecord(Record):
    """The network that was trained on a night."""

    run_id: str = Field(description="of its MLflow run")
    hash: str = Field(description="of everything its numbers depend on")
    start: Literal["anew", "champion"] = Field(description="whose weights its training started from")
    reused: bool = Field(description="it was trained before, by a run that was stopped")


class NightResults(Record):
    """The whole results.json of a night."""

    schema_: Literal["medmtl/night/1"] = Field("medmtl/night/1", alias="schema")
    config: dict[str, Any] = Field(description="the complete config; running it again goes on with the same night")
    version: str
    git: str | None = Field(description="commit of the code, with a + if it was changed")
    environment: dict[str, str] = Field(description="versions and machine")
    series: str = Field(description="name of the model")
    night: date
    outcome: Outcome
    summary: str = Field(description="the outcome in one sentence")
    data: NightDataRecord
    arrivals: ArrivalsRecord
    drift: DriftRecord | None = Field(description="null on the first night of a series, and where nothing changed")
    champion: ChampionRecord | None = Field(description="null where there was no champion, or nothing changed")
    challenger: ChallengerRecord | None = None
    evaluation: EvaluationRecord | None = None
    champion_after: str | None = Field(description="version of the champion at the end of the night")
    seconds: float = Field(description="wall time of the night, seconds")

    @property
    def challenger_version(self) -> str | None:
        """The version under which the night's challenger was registered, if it passed the gate."""
        models = self.evaluation.models if self.evaluation else ()
        return next((model.version for model in models if model.role == "challenger"), None)
