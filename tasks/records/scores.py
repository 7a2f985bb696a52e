"""Records of scores with their intervals, and their averages over seeds."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, FiniteFloat, model_validator

from models.evaluation.auc import Evaluation, Score
from tasks.records.base import Record


class ScoreRecord(Record):
    """A score with its interval; where `value`, or `lo` and `hi`, are null, `reason` says why."""

    value: FiniteFloat | None
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    over: str = Field("patients", description="the sample whose choice the interval covers")
    reason: str | None = None
    parts: dict[str, FiniteFloat] = Field({}, description="metric name -> its value, if the value is their mean")

    @model_validator(mode="after")
    def _has_a_reason(self) -> Self:
        if None in (self.value, self.lo, self.hi) and not self.reason:
            raise ValueError("a score without a value or without an interval needs a reason")
        return self

    @classmethod
    def of(cls, score: Score, **more: Any) -> Self:
        """Make the record of a score; `more` holds further fields."""
        return cls(value=score.value, lo=score.lo, hi=score.hi, reason=score.reason, **more)


class MeanRecord(ScoreRecord):
    """The mean of the labels' scores."""

    labels: tuple[str, ...] = Field(description="the labels in the mean: those with a score")


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
    """Return the scores of an evaluation by label, and their mean, with intervals `over` the given sample."""
    scores = {label: ScoreRecord.of(score, over=over) for label, score in evaluation.labels.items()}
    return scores, MeanRecord.of(evaluation.mean, over=over, labels=evaluation.scored)
