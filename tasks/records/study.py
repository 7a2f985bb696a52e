"""What a study found, as results.json holds it (schema `medmtl/study/1`), whatever the metric.

A number that is not there is null and stands beside its reason; NaN and infinity are refused when a record is
made. Every interval is a 95 % interval and names what it is over.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from data_prep.errors import DataError
from data_prep.store.store import Store
from models.evaluation.auc import Evaluation, Score, holm
from models.evaluation.paired import Comparison
from models.evaluation.two_stage import Over, Sampled
from tasks.runtime.atomic_files import write_atomically

SCHEMA: Final = "medmtl/study/1"

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Record(BaseModel):
    # 'constants': a NaN within a free-form config reaches the writer, which refuses it, instead of becoming null
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True, ser_json_inf_nan="constants"
    )


class ScoreRecord(Record):
    """A score with its interval; `value`, or `lo` and `hi`, are null for the given reason."""

    value: FiniteFloat | None
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: Sampled = Field("patients", description="what the interval covers the choice of")
    reason: str | None = None
    parts: dict[str, FiniteFloat] = Field({}, description="the metrics that the value is the mean of, by their names")

    @classmethod
    def of(cls, score: Score) -> Self:
        return cls(value=score.value, lo=score.lo, hi=score.hi, reason=score.reason)


class MeanRecord(ScoreRecord):
    """A mean of scores."""

    labels: tuple[str, ...] = Field(description="the labels in the mean: those that could be scored")


class NoiseCondition(Record):
    """What was done to the training labels; arms with equal conditions are compared with one another."""

    kind: str = Field(description="noise model; 'none' leaves the labels alone")
    rate: Share = Field(0.0, description="by which conditions of one kind are ordered: mostly the share selected")
    labels: tuple[str, ...] = Field((), description="the labels that were made noisy")
    title: str = Field("no added noise", description="what was done, without the labels")
    name: str = Field("clean", description="tells the study's conditions apart")

    def condition(self) -> "NoiseCondition":
        """Without what differs from seed to seed."""
        return NoiseCondition(kind=self.kind, rate=self.rate, labels=self.labels, title=self.title, name=self.name)


class NoiseOnLabel(Record):
    """What one mask did to one label."""

    known: Count = Field(description="training rows whose label is known")
    selected: Count = Field(description="entries the mask selected")
    changed: Count = Field(description="selected entries whose value became another")
    prevalence_before: Share | None = Field(description="share of positives among the known rows; null if none")
    prevalence_after: Share | None


class TrustRecord(Record):
    """How noisy a method found a label to be, from the training labels alone."""

    label: str
    rank: Count = Field(description="1: trusted most")
    noise: FiniteFloat | None = Field(description="estimated share of random entries; null where it has no basis")
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    anchors: Count = Field(description="images that the estimate rests on")


class NoiseRecord(NoiseCondition):
    """The condition, and the very mask that one seed drew."""

    mask: str | None = Field(None, description="fingerprint 'sha256:...' of the mask; null without noise")
    summary: dict[str, NoiseOnLabel] = Field({}, description="per noisy label")


class SimilarityRecord(Record):
    """The covariance similarity of two tasks' training embeddings, in [0, 1] (`models.networks.alignment`)."""

    tasks: tuple[str, str]
    start: FiniteFloat | None = Field(description="of the embeddings that training began with")
    before: FiniteFloat | None = Field(description="of the trained embeddings, without alignment matrices")
    after: FiniteFloat | None = Field(
        description="of the trained embeddings, aligned; null where there is no alignment"
    )


class ArmRecord(Record):
    """One method under one noise condition with one seed."""

    method: str
    noise: NoiseRecord
    seed: int
    labels: tuple[str, ...] = Field(description="the labels, or tasks, trained on, in the order of the heads")
    metric: str = Field("auc", description="what `scores` and `mean` measure on the test set")
    scores: dict[str, ScoreRecord]
    mean: MeanRecord
    weights: tuple[dict[str, FiniteFloat], ...] = Field(
        (), description="the task weights over training: 'step' (optimiser step) and one key per label"
    )
    facts: dict[str, FiniteFloat] = Field({}, description="what the method chose at its last refresh, such as a rank")
    similarity: tuple[SimilarityRecord, ...] = Field((), description="of every two tasks, where there are several")
    trust: tuple[TrustRecord, ...] = Field((), description="label trust, the least trusted first; if it estimates it")
    best_epoch: Count | None = Field(description="the epoch selected on validation, from 1")
    images_per_second: FiniteFloat | None = Field(description="training images, or texts, per second")
    seconds: FiniteFloat = Field(description="the whole arm, wall time in seconds")
    computing_seconds: FiniteFloat | None = Field(None, description="of them in training and evaluation")
    step_seconds: FiniteFloat | None = Field(None, description="per training step alone, median over epochs")
    weighting_seconds: FiniteFloat | None = Field(None, description="what the weighting did after epochs, all of them")
    peak_memory_mib: FiniteFloat | None = Field(
        None,
        description="most memory that training took, MiB: of its GPU, else of its process; null where it shared either",
    )
    mlflow_run_id: str | None = None
    status: Literal["finished", "failed"] = "finished"
    reason: str | None = Field(None, description="why an arm failed")
    reused: bool = Field(False, description="taken from an earlier run with the same hash")
    hash: str | None = Field(None, description="of all that determines the arm")


class SeedDelta(Record):
    unit: str = Field("", description="the condition that the two networks were trained under")
    seed: int
    delta: FiniteFloat


class ComparisonRecord(Record):
    """Mean score of a method minus that of the baseline under one noise condition."""

    method: str
    baseline: str
    noise: NoiseCondition
    experiment: str | None = Field(None, description="of a study on texts: which of its experiments it belongs to")
    over_all: bool = Field(False, description="of a study on texts: over all of the experiment's conditions at once")
    metric: str = "auc"
    delta: FiniteFloat | None
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: Over = Field("patients", description="what the interval covers the choice of")
    p_value: Share | None = Field(description="two-sided")
    p_adjusted: Share | None = Field(description="Holm's adjustment over the study's comparisons")
    n_pairs: Count = Field(description="pairs of networks: conditions with a seed that both methods have")
    by_seed: tuple[SeedDelta, ...] = Field((), description="the difference of each pair of networks")
    detectable: FiniteFloat | None = Field(None, description="smallest true difference seen with 80 % power")
    limit: str | None = Field(None, description="why the interval is not over more")
    reason: str | None = None

    @classmethod
    def of(cls, method: str, baseline: str, noise: NoiseCondition, found: Comparison) -> Self:
        """Not yet adjusted: see `adjust`."""
        return cls(
            method=method,
            baseline=baseline,
            noise=noise.condition(),
            delta=found.delta,
            lo=found.lo,
            hi=found.hi,
            p_value=found.p_value,
            p_adjusted=None,
            n_pairs=found.n_pairs,
            by_seed=tuple(
                SeedDelta(unit=unit, seed=seed, delta=delta)
                for unit, of_unit in found.by_unit.items()
                for seed, delta in of_unit.items()
            ),
            over=found.over,
            detectable=found.detectable,
            limit=found.limit,
            reason=found.reason,
        )


class SplitRecord(Record):
    name: str
    fingerprint: str


class QuarantinedImage(Record):
    image: str
    reason: str


class CheckRecord(Record):
    """A rule that the data must keep, what was found, and 'ok' or 'BROKEN'."""

    rule: str
    found: str
    result: str


class StoreRecord(Record):
    """A store, and what did not come into it."""

    name: str
    population: str = Field("", description="whose patients: sets that share them are never mixed up")
    fingerprint: str = Field(description="'sha256:...' of the store")
    labels: tuple[str, ...]
    size: Count | None = Field(None, description="side of the stored images in pixels")
    quarantined: tuple[QuarantinedImage, ...] = Field((), description="files set aside, each with its reason")
    rows_without_image: Count = 0
    images_without_row: Count = 0
    checks: tuple[CheckRecord, ...] = ()

    @classmethod
    def of(cls, name: str, store: Store, checks: tuple[CheckRecord, ...], **more: Any) -> Self:
        """The store's own fields; more: the fields that a subclass adds."""
        return cls(
            name=name,
            population=store.population,
            fingerprint=store.fingerprint,
            labels=store.labels,
            size=store.size,
            quarantined=tuple(QuarantinedImage(image=image, reason=reason) for image, reason in store.quarantine),
            rows_without_image=store.manifest["rows_without_image"],
            images_without_row=store.manifest["images_without_row"],
            checks=checks,
            **more,
        )

    @property
    def by_reason(self) -> dict[str, list[str]]:
        """The files set aside for each reason, the commonest reason first."""
        found: dict[str, list[str]] = defaultdict(list)
        for entry in self.quarantined:
            found[entry.reason].append(entry.image)
        return dict(sorted(found.items(), key=lambda item: -len(item[1])))


class TaskRecord(Record):
    """One task on texts, as it is where no other is trained beside it."""

    name: str
    fingerprint: str = Field(description="'sha256:...' of its texts, labels and parts")
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    n: dict[str, Count] = Field(description="texts in train, val and test")
    skipped: Count = Field(0, description="lines without a text")
    notes: tuple[str, ...] = ()


class DataRecord(StoreRecord):
    """The data that a study stood on."""

    split: SplitRecord
    tasks: tuple[TaskRecord, ...] = Field((), description="of a study on texts; `labels` are their names")
    n: dict[str, Count] = Field(description="images, or texts of all tasks, in train, val and test")
    patients: dict[str, Count] = Field({}, description="patients in train, val and test")
    positives: dict[str, dict[str, Count]] = Field(description="part of the split -> label -> positive images")


class AdjudicatedScore(Record):
    """A finding, or the mean over the findings, of one arm: the same images against two tables of labels."""

    method: str
    noise: NoiseCondition
    seed: int
    finding: str
    noisy: ScoreRecord
    adjudicated: ScoreRecord


class AdjudicatedRecord(Record):
    """How the arms do against labels on which radiologists agreed, where there are any."""

    sha256: str = Field(description="of the table's bytes")
    images: Count = Field(description="test images that were adjudicated")
    patients: Count
    findings: dict[str, tuple[str, ...]] = Field(description="adjudicated finding -> the labels it corresponds to")
    positives: dict[str, tuple[Count, Count]] = Field(
        description="finding -> positive by the noisy labels, adjudicated"
    )
    scores: tuple[AdjudicatedScore, ...]


class RunsRecord(Record):
    """Where a person sees the arms' MLflow runs."""

    address: str | None = Field(None, pattern="^https?://", description="a run's page, once its id is appended")
    command: str | None = Field(None, description="opens MLflow's pages where no server shows them")


class StudyResults(Record):
    """All of results.json."""

    schema_: Literal["medmtl/study/1"] = Field(SCHEMA, alias="schema")
    config: dict[str, Any] = Field(description="the complete config; running it again repeats the study")
    version: str
    git: str | None = Field(description="commit of the code, with '+' if files were changed; null outside git")
    environment: dict[str, str] = Field({}, description="what else may matter: Python, torch, processor, ...")
    data: DataRecord
    arms: tuple[ArmRecord, ...]
    comparisons: tuple[ComparisonRecord, ...]
    runs: RunsRecord = Field(RunsRecord(), description="where the arms' runs are shown")
    adjudicated: AdjudicatedRecord | None = Field(None, description="against a second truth, where one was given")
    seconds: FiniteFloat | None = Field(None, description="the whole study, wall time in seconds")
    notes: tuple[str, ...] = Field((), description="what the reader should know: what was reused, what was left out")

    @property
    def methods(self) -> tuple[str, ...]:
        """In the order in which they appear."""
        return tuple(dict.fromkeys(arm.method for arm in self.arms))

    @property
    def baseline(self) -> str:
        """The method that the others were compared with; the first where nothing was."""
        return self.comparisons[0].baseline if self.comparisons else self.methods[0]

    @property
    def conditions(self) -> tuple[NoiseCondition, ...]:
        """Clean first, then each kind of noise by its rate."""
        found = dict.fromkeys(arm.noise.condition() for arm in self.arms)
        kinds = list(dict.fromkeys(condition.kind for condition in found))
        return tuple(sorted(found, key=lambda c: (c.kind != "none", kinds.index(c.kind), c.rate)))

    @property
    def in_units(self) -> bool:
        """Whether the conditions train on labels of their own, so that methods are compared over all of them."""
        return len({arm.labels for arm in self.arms if arm.labels}) > 1

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels trained on, where all arms share them."""
        return next((arm.labels for arm in self.arms if arm.labels), self.data.labels)

    def finished(self, method: str, condition: NoiseCondition) -> tuple[ArmRecord, ...]:
        """The arms of a method under a condition, one per seed, that came to an end."""
        return tuple(
            arm
            for arm in self.arms
            if arm.status == "finished" and arm.method == method and arm.noise.condition() == condition
        )


def average(scores: Sequence[ScoreRecord]) -> ScoreRecord:
    """Value and ends of the interval averaged over seeds; null with a reason where one of them is.

    The averaged interval is over patients like its parts, and rather too wide than too narrow: the mean of
    several models varies no more with the patients than one of them does.
    """
    if not scores:
        return ScoreRecord(value=None, lo=None, hi=None, reason="no arm finished")
    missing = next((score for score in scores if score.value is None), None)
    if missing is not None:
        return missing
    reason = next((score.reason for score in scores if score.lo is None), None)

    def mean(numbers: list[float | None]) -> float | None:
        known = [number for number in numbers if number is not None]
        return sum(known) / len(known) if len(known) == len(scores) else None

    value, lo, hi = (mean([getattr(score, end) for score in scores]) for end in ("value", "lo", "hi"))
    return ScoreRecord(value=value, lo=lo, hi=hi, reason=reason)


def scores_of(evaluation: Evaluation, over: Sampled = "patients") -> tuple[dict[str, ScoreRecord], MeanRecord]:
    """An evaluation as an arm's `scores` and `mean`."""
    scores = {label: ScoreRecord.of(score) for label, score in evaluation.labels.items()}
    mean = MeanRecord(labels=evaluation.scored, **ScoreRecord.of(evaluation.mean).model_dump())
    return {label: score.model_copy(update={"over": over}) for label, score in scores.items()}, mean.model_copy(
        update={"over": over}
    )


def adjust(comparisons: Sequence[ComparisonRecord]) -> tuple[ComparisonRecord, ...]:
    """The same comparisons with p-values adjusted over all of them."""
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return tuple(
        comparison.model_copy(update={"p_adjusted": p}) for comparison, p in zip(comparisons, adjusted, strict=True)
    )


def write_results(results: Record, path: Path) -> None:
    """Write a results.json whole or not at all: a reader never sees half a file.

    Raises:
        ValueError: a number in it is not finite.
    """
    text = json.dumps(results.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_results(path: Path) -> StudyResults:
    """Read results.json; DataError if it is not one, is damaged, or is of a schema that this version does
    not know.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as results of a study: {error}") from error
    schema = found.get("schema") if isinstance(found, Mapping) else None
    if schema != SCHEMA:
        raise DataError(f"{path} has schema {schema!r}; this version of medmtl reads {SCHEMA!r}")
    try:
        return StudyResults.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is damaged: {where}: {first['msg']} ({error.error_count()} in all)") from error
