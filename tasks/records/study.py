"""The schema of a study's results.json (`medmtl/study/2`), for any metric; `medmtl/study/1` can be read.

A missing number is null, with its reason in the same record; NaN and infinity are rejected when a record is made.
Every interval is a 95 % interval, and says what it is over. What a label has stands under the label's name in an object
of its own, so that no label's name can be mistaken for another key.
"""

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field, FiniteFloat, ValidationError

from data_prep.errors import DataError
from data_prep.json_file import read_json
from tasks.records.arms import ArmRecord, Condition
from tasks.records.base import Count, Record
from tasks.records.comparisons import EQUAL_COMPUTE, ComparisonRecord, SpreadRecord, spread_records
from tasks.records.data import DataRecord
from tasks.records.scores import ScoreRecord
from tasks.records.study_1 import SCHEMA_1, study_of_study_1

SCHEMA: Final = "medmtl/study/2"


def _is_none(policy: str) -> bool:
    return policy == "none"


class AdjudicatedScore(Record):
    """One arm's scores for a finding (or their mean) on the same images: with noisy and with adjudicated labels."""

    method: str
    policy: str = Field("none", exclude_if=_is_none, description="the augmentation policy")
    condition: Condition
    seed: int
    finding: str
    noisy: ScoreRecord
    adjudicated: ScoreRecord


class AdjudicatedRecord(Record):
    """The arms' scores with labels that were adjudicated by radiologists."""

    sha256: str = Field(description="of the table's bytes")
    images: Count = Field(description="test images with adjudicated labels")
    patients: Count
    findings: dict[str, tuple[str, ...]] = Field(description="adjudicated finding -> the data's labels that match it")
    positives: dict[str, tuple[Count, Count]] = Field(
        description="finding -> positive images by the noisy labels, and by the adjudicated ones"
    )
    scores: tuple[AdjudicatedScore, ...]


class RunsRecord(Record):
    """Where to look at the arms' MLflow runs."""

    address: str | None = Field(None, pattern="^https?://", description="URL of a run's page without the run's id")
    command: str | None = Field(None, description="opens MLflow's pages, if there is no MLflow server")


class StudyResults(Record):
    """The whole results.json of a study."""

    factor: ClassVar[str] = "method"
    """What stands in the place of the methods, see `tasks.records.slices`."""

    schema_: Literal["medmtl/study/2"] = Field(SCHEMA, alias="schema")
    config: dict[str, Any] = Field(description="the complete config; running it again repeats the study")
    version: str
    git: str | None = Field(description="commit of the code, with '+' if files were changed; null outside git")
    environment: dict[str, str] = Field({}, description="versions and machine: Python, torch, processor, ...")
    data: DataRecord
    arms: tuple[ArmRecord, ...]
    comparisons: tuple[ComparisonRecord, ...] = Field(
        description="each method against the baseline, then each augmentation policy against the baseline policy"
    )
    floor: tuple[ComparisonRecord, ...] = Field(
        (), description="A/A: the baseline under other seeds against the baseline, the noise floor of the comparisons"
    )
    controls: tuple[ComparisonRecord, ...] = Field(
        (), description="a method against its control, which differs from it in one thing; `baseline` is the control"
    )
    interactions: tuple[ComparisonRecord, ...] = Field(
        (),
        exclude_if=operator.not_,
        description="differences of differences: that of a comparison, or of the floor, under a noisy condition minus "
        "that under the clean one, `minus`",
    )
    spread: tuple[SpreadRecord, ...] = Field((), description="the spread over seeds of each method and condition")
    runs: RunsRecord = Field(RunsRecord(), description="where to look at the arms' runs")
    adjudicated: AdjudicatedRecord | None = Field(
        None, description="scores with radiologists' labels, if such a table was given"
    )
    seconds: FiniteFloat | None = Field(None, description="wall time of the whole study, seconds")
    notes: tuple[str, ...] = Field((), description="notes for the reader: what was reused, what was left out")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order of the arms; the baseline under other seeds is none of its own."""
        others = {comparison.method for comparison in self.floor}
        return tuple(dict.fromkeys(arm.method for arm in self.arms if arm.method not in others))

    @property
    def control_of(self) -> dict[str, str]:
        """Method -> its control, for the methods that have one."""
        return {comparison.method: comparison.baseline for comparison in self.controls}

    @property
    def baseline(self) -> str:
        """The method with which the others were compared; the first method if there is no comparison."""
        return next((c.baseline for c in self.comparisons if c.factor == self.factor), self.methods[0])

    @property
    def policies(self) -> tuple[str, ...]:
        """The augmentation policies, in the order of the arms; none if all arms are trained without augmentation."""
        return tuple(dict.fromkeys(arm.policy for arm in self.arms if "policy" in arm.factors))

    @property
    def baseline_policy(self) -> str:
        """The policy with which the others were compared; the first policy if there is no comparison."""
        compared = (c.baseline for c in self.comparisons if c.factor == "policy" and c.experiment != EQUAL_COMPUTE)
        return next(compared, next(iter(self.policies), "none"))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions: clean first, then each kind of noise ordered by rate."""
        conditions = dict.fromkeys(arm.condition.shared() for arm in self.arms)
        kinds = list(dict.fromkeys(condition.kind for condition in conditions))
        return tuple(sorted(conditions, key=lambda c: (c.kind != "none", kinds.index(c.kind), c.rate)))

    @property
    def labels_differ(self) -> bool:
        """Whether the labels differ between conditions, so that methods are compared over all conditions at once."""
        return len({arm.labels for arm in self.arms if arm.labels}) > 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the arms, if all arms have the same."""
        return next((arm.labels for arm in self.arms if arm.labels), self.data.labels)

    def finished_arms(self, method: str, condition: Condition) -> tuple[ArmRecord, ...]:
        """Return the finished arms of a method under a condition, one per seed."""
        return tuple(
            arm
            for arm in self.arms
            if arm.status == "finished" and arm.method == method and arm.condition.shared() == condition
        )


def read_results(path: Path) -> StudyResults:
    """Read a study's results.json.

    Raises:
        DataError: the file cannot be read, is damaged, or has a schema that this version does not know.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as results of a study: {error}") from error
    schema = content.get("schema") if isinstance(content, Mapping) else None
    if schema not in (SCHEMA, SCHEMA_1):
        raise DataError(f"{path} has schema {schema!r}; this version of medmtl reads {SCHEMA!r} and {SCHEMA_1!r}")
    try:
        if schema == SCHEMA:
            return StudyResults.model_validate(content)
        found = StudyResults.model_validate(study_of_study_1(content, SCHEMA))
        return found.model_copy(update={"spread": spread_records(found.arms)})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is damaged: {key}: {first['msg']} ({error.error_count()} errors in all)") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
