"""The schema of a study's results.json (`medmtl/study/1`), for any metric.

A missing number is null, with its reason in the same record; NaN and infinity are rejected when a record is made.
Every interval is a 95 % interval, and says what it is over.
"""

import json
import operator
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from data_prep.errors import DataError
from data_prep.store.store import Store
from models.evaluation.auc import Evaluation, Score, holm
from models.evaluation.paired import Comparison
from tasks.runtime.atomic_files import write_atomically

SCHEMA: Final = "medmtl/study/1"

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Record(BaseModel):
    """A part of a results file: immutable, with known keys and finite numbers only."""

    # 'constants': a NaN inside the free-form config reaches the writer, which rejects it, instead of becoming null
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True, ser_json_inf_nan="constants"
    )


_CONDITION: Any = Field(validation_alias=AliasChoices("condition", "noise"), serialization_alias="noise")
"""The key of a condition in `medmtl/study/1` is "noise", also where the arms differ in something else."""


class ScoreRecord(Record):
    """A score with its interval; where `value`, or `lo` and `hi`, are null, `reason` says why."""

    value: FiniteFloat | None
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: str = Field("patients", description="the sample whose choice the interval covers")
    reason: str | None = None
    parts: dict[str, FiniteFloat] = Field({}, description="metric name -> its value, if the value is their mean")

    @classmethod
    def of(cls, score: Score, **more: Any) -> Self:
        """Make the record of a score; `more` holds further fields."""
        return cls(value=score.value, lo=score.lo, hi=score.hi, reason=score.reason, **more)


class MeanRecord(ScoreRecord):
    """The mean of the labels' scores."""

    labels: tuple[str, ...] = Field(description="the labels in the mean: those with a score")


class Condition(Record):
    """What the arms of a comparison have in common: a name, and the noise added to the training labels, if any."""

    kind: str = Field("none", description="noise model; 'none' leaves the labels unchanged")
    rate: Share = Field(
        0.0, description="order of the conditions of one kind; for most kinds the share of entries selected"
    )
    labels: tuple[str, ...] = Field((), description="the labels that were made noisy")
    title: str = Field("no added noise", description="the noise in words, without the labels")
    name: str = Field("clean", description="unique name of the condition within the study")

    def shared(self) -> "Condition":
        """Return the condition without the fields that differ between seeds."""
        return Condition(kind=self.kind, rate=self.rate, labels=self.labels, title=self.title, name=self.name)


class NoiseOnLabel(Record):
    """The effect of one noise mask on one label."""

    known: Count = Field(description="training rows whose label is known")
    selected: Count = Field(description="entries that the mask selected")
    changed: Count = Field(description="selected entries whose value the noise changed")
    prevalence_before: Share | None = Field(
        description="share of positives among the known rows before the noise; null without known rows"
    )
    prevalence_after: Share | None = Field(description="the same after the noise")


class TrustRecord(Record):
    """A method's estimate of the noise of a label, from the training labels only."""

    label: str
    rank: Count = Field(description="1: the most trusted label")
    noise: FiniteFloat | None = Field(description="estimated share of random entries; null if it cannot be estimated")
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    anchors: Count = Field(description="images on which the estimate is based")


class ConditionRecord(Condition):
    """The condition of one arm, with the noise mask drawn for its seed."""

    mask: str | None = Field(None, description="fingerprint 'sha256:...' of the mask; null without noise")
    summary: dict[str, NoiseOnLabel] = Field({}, description="noisy label -> effect of the mask on it")


class SimilarityRecord(Record):
    """The covariance similarity of two tasks' training embeddings, in [0, 1] (`models.networks.alignment`)."""

    tasks: tuple[str, str]
    start: FiniteFloat | None = Field(description="of the embeddings before training")
    before: FiniteFloat | None = Field(description="of the trained embeddings, without alignment matrices")
    after: FiniteFloat | None = Field(description="of the trained embeddings after alignment; null without alignment")


class ArmRecord(Record):
    """One arm: a method under one condition with one seed."""

    method: str
    condition: ConditionRecord = _CONDITION
    more_factors: dict[str, str] = Field(
        {},
        exclude_if=operator.not_,
        validation_alias=AliasChoices("more_factors", "factors"),
        serialization_alias="factors",
        description="the arm's factors besides method and condition, if there are any",
    )
    seed: int
    labels: tuple[str, ...] = Field(description="the labels, or tasks, of the arm, in the order of its heads")
    metric: str = Field("auc", description="the metric of `scores` and `mean` on the test set")
    scores: dict[str, ScoreRecord]
    mean: MeanRecord
    weights: tuple[dict[str, FiniteFloat], ...] = Field(
        (), description="the task weights over training: 'step' (optimiser step) and one key per label"
    )
    facts: dict[str, FiniteFloat] = Field(
        {}, description="diagnostics of the method, such as the rank that it chose at its last refresh"
    )
    similarity: tuple[SimilarityRecord, ...] = Field((), description="of every two tasks, if there are several")
    trust: tuple[TrustRecord, ...] = Field(
        (), description="label trust, the least trusted label first; empty if the method does not estimate it"
    )
    best_epoch: Count | None = Field(description="the epoch selected on validation, counted from 1")
    items_per_second: FiniteFloat | None = Field(
        validation_alias=AliasChoices("items_per_second", "images_per_second"),
        serialization_alias="images_per_second",
        description="training images, or texts, per second",
    )
    seconds: FiniteFloat = Field(description="wall time of the whole arm, seconds")
    computing_seconds: FiniteFloat | None = Field(None, description="the part of `seconds` in training and evaluation")
    step_seconds: FiniteFloat | None = Field(None, description="time of one training step, median over epochs, seconds")
    weighting_seconds: FiniteFloat | None = Field(
        None, description="time of the weighting's work after epochs, summed over all epochs, seconds"
    )
    peak_memory_mib: FiniteFloat | None = Field(
        None,
        description="peak memory of training, MiB: of its GPU, or of its process on a CPU; null if it was shared",
    )
    mlflow_run_id: str | None = None
    status: Literal["finished", "failed"] = "finished"
    reason: str | None = Field(None, description="why the arm failed")
    reused: bool = Field(False, description="taken from an earlier run with the same hash")
    hash: str | None = Field(None, description="of everything on which the arm's numbers depend")

    @property
    def factors(self) -> dict[str, str]:
        """What was varied in the study, with this arm's levels; all of it but the seed."""
        return {"method": self.method, "condition": self.condition.name} | self.more_factors


class SeedDelta(Record):
    """The difference between two networks of the same seed and condition: method minus baseline."""

    unit: str = Field("", description="the condition under which the two networks were trained")
    seed: int
    delta: FiniteFloat


class ComparisonRecord(Record):
    """The mean score of a method minus that of the baseline under one condition."""

    method: str
    baseline: str
    condition: Condition = _CONDITION
    experiment: str | None = Field(None, description="in a study on texts: the experiment of the comparison")
    over_all: bool = Field(False, description="in a study on texts: over all conditions of the experiment at once")
    metric: str = "auc"
    higher_is_better: bool = Field(True, exclude_if=bool, description="direction of the metric")
    delta: FiniteFloat | None
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: str = Field("patients", description="the samples whose choice the interval covers")
    p_value: Share | None = Field(description="two-sided, not adjusted")
    p_adjusted: Share | None = Field(description="after Holm's adjustment over the study's comparisons")
    n_pairs: Count = Field(description="pairs of networks with the same condition and seed, one of each method")
    by_seed: tuple[SeedDelta, ...] = Field((), description="the difference of each pair of networks")
    detectable: FiniteFloat | None = Field(
        None, description="minimum detectable effect: the smallest true difference found with 80 % power"
    )
    limit: str | None = Field(None, description="why the interval does not cover more samples, such as seeds")
    reason: str | None = None

    @property
    def improves(self) -> bool:
        """Whether the method's mean is better than the baseline's, significantly or not."""
        return self.delta is not None and (self.delta > 0 if self.higher_is_better else self.delta < 0)

    @classmethod
    def of(cls, method: str, baseline: str, condition: Condition, comparison: Comparison, **more: Any) -> Self:
        """Make the record of a comparison; its p-value is not adjusted yet, see `adjust_p_values`."""
        same = ("delta", "lo", "hi", "p_value", "n_pairs", "over", "detectable", "limit", "reason")
        fields = {name: getattr(comparison, name) for name in same}
        by_seed = tuple(
            SeedDelta(unit=unit, seed=seed, delta=delta)
            for unit, of_unit in comparison.by_unit.items()
            for seed, delta in of_unit.items()
        )
        names = {"method": method, "baseline": baseline, "condition": condition.shared()}
        return cls(**names, **fields, p_adjusted=None, by_seed=by_seed, **more)


class SplitRecord(Record):
    """The split into train, validation and test."""

    name: str
    fingerprint: str


class QuarantinedImage(Record):
    """An image file that was set aside."""

    image: str
    reason: str


class CheckRecord(Record):
    """A rule for the data, what was found, and the result: 'ok' or 'BROKEN'."""

    rule: str
    found: str
    result: str


class StoreRecord(Record):
    """A store, and the files and table rows left out of it."""

    name: str
    population: str = Field("", description="the group of patients; within it, one patient has one key")
    fingerprint: str = Field(description="'sha256:...' of the store")
    labels: tuple[str, ...]
    size: Count | None = Field(None, description="side of the stored images in pixels")
    quarantined: tuple[QuarantinedImage, ...] = Field((), description="files set aside, each with its reason")
    rows_without_image: Count = 0
    images_without_row: Count = 0
    checks: tuple[CheckRecord, ...] = ()

    @classmethod
    def of(cls, name: str, store: Store, checks: tuple[CheckRecord, ...], **more: Any) -> Self:
        """Make the record of a store; `more` holds the fields that a subclass adds."""
        same = {name: getattr(store, name) for name in ("population", "fingerprint", "labels", "size")}
        same |= {name: store.manifest[name] for name in ("rows_without_image", "images_without_row")}
        quarantined = tuple(QuarantinedImage(image=image, reason=reason) for image, reason in store.quarantine)
        return cls(name=name, quarantined=quarantined, checks=checks, **same, **more)

    @property
    def by_reason(self) -> dict[str, list[str]]:
        """Reason -> files set aside for it, the most frequent reason first."""
        images: dict[str, list[str]] = defaultdict(list)
        for entry in self.quarantined:
            images[entry.reason].append(entry.image)
        return dict(sorted(images.items(), key=lambda item: -len(item[1])))


class TaskRecord(Record):
    """One task on texts, with the texts that it has as a single task."""

    name: str
    fingerprint: str = Field(description="'sha256:...' of its texts, labels and parts")
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    n: dict[str, Count] = Field(description="texts in train, val and test")
    skipped: Count = Field(0, description="lines without a text")
    notes: tuple[str, ...] = ()


class DataRecord(StoreRecord):
    """The data of a study."""

    split: SplitRecord
    tasks: tuple[TaskRecord, ...] = Field((), description="in a study on texts; `labels` are their names")
    n: dict[str, Count] = Field(description="images, or texts of all tasks, in train, val and test")
    patients: dict[str, Count] = Field({}, description="patients in train, val and test")
    positives: dict[str, dict[str, Count]] = Field(description="part of the split -> label -> positive images")


class AdjudicatedScore(Record):
    """One arm's scores for a finding (or their mean) on the same images: with noisy and with adjudicated labels."""

    method: str
    condition: Condition = _CONDITION
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

    schema_: Literal["medmtl/study/1"] = Field(SCHEMA, alias="schema")
    config: dict[str, Any] = Field(description="the complete config; running it again repeats the study")
    version: str
    git: str | None = Field(description="commit of the code, with '+' if files were changed; null outside git")
    environment: dict[str, str] = Field({}, description="versions and machine: Python, torch, processor, ...")
    data: DataRecord
    arms: tuple[ArmRecord, ...]
    comparisons: tuple[ComparisonRecord, ...]
    runs: RunsRecord = Field(RunsRecord(), description="where to look at the arms' runs")
    adjudicated: AdjudicatedRecord | None = Field(
        None, description="scores with radiologists' labels, if such a table was given"
    )
    seconds: FiniteFloat | None = Field(None, description="wall time of the whole study, seconds")
    notes: tuple[str, ...] = Field((), description="notes for the reader: what was reused, what was left out")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods, in the order of the arms."""
        return tuple(dict.fromkeys(arm.method for arm in self.arms))

    @property
    def baseline(self) -> str:
        """The method with which the others were compared; the first method if there is no comparison."""
        return self.comparisons[0].baseline if self.comparisons else self.methods[0]

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


def average_scores(scores: Sequence[ScoreRecord]) -> ScoreRecord:
    """Average the value and the interval's ends over seeds; if one is null, the result is null with its reason.

    Each interval is over patients, and so is the averaged one. It is too wide rather than too narrow: the mean of
    several models varies with the patients no more than a single model does.
    """
    if not scores:
        return ScoreRecord(value=None, lo=None, hi=None, reason="no arm finished")
    missing = next((score for score in scores if score.value is None), None)
    if missing is not None:
        return missing
    reason = next((score.reason for score in scores if score.lo is None), None)

    def mean(end: str) -> float | None:
        known = [number for score in scores if (number := getattr(score, end)) is not None]
        return sum(known) / len(known) if len(known) == len(scores) else None

    return ScoreRecord(value=mean("value"), lo=mean("lo"), hi=mean("hi"), reason=reason)


def score_records(evaluation: Evaluation, over: str = "patients") -> tuple[dict[str, ScoreRecord], MeanRecord]:
    """Turn an evaluation into an arm's `scores` and `mean`, with intervals `over` the given sample."""
    scores = {label: ScoreRecord.of(score, over=over) for label, score in evaluation.labels.items()}
    return scores, MeanRecord.of(evaluation.mean, over=over, labels=evaluation.scored)


def adjust_p_values(comparisons: Sequence[ComparisonRecord]) -> tuple[ComparisonRecord, ...]:
    """Return the comparisons with `p_adjusted`: Holm's adjustment over all of them."""
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return tuple(
        comparison.model_copy(update={"p_adjusted": p}) for comparison, p in zip(comparisons, adjusted, strict=True)
    )


def write_results(results: Record, path: Path) -> None:
    """Write a results.json atomically, so that a reader never sees a part of a file.

    Raises:
        ValueError: a number in the results is not finite.
    """
    text = json.dumps(results.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomically(path, (text + "\n").encode())


def read_results(path: Path) -> StudyResults:
    """Read a study's results.json.

    Raises:
        DataError: the file cannot be read, is damaged, or has a schema that this version does not know.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} as results of a study: {error}") from error
    schema = content.get("schema") if isinstance(content, Mapping) else None
    if schema != SCHEMA:
        raise DataError(f"{path} has schema {schema!r}; this version of medmtl reads {SCHEMA!r}")
    try:
        return StudyResults.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise DataError(f"{path} is damaged: {key}: {first['msg']} ({error.error_count()} errors in all)") from error
