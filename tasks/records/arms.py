"""The record of an arm: its factors, its condition, its scores by label, and its weights over training."""

import operator
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, FiniteFloat, model_validator

from tasks.records.base import Count, Record, Share
from tasks.records.scores import MeanRecord, ScoreRecord
from tasks.records.study_1 import arm_of_study_1, is_of_study_1


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


class LabelRecord(Record):
    """What an arm has for one label, or task."""

    score: ScoreRecord = Field(description="on the test set, in the arm's metric")


class WeightsRecord(Record):
    """The task weights at one moment of the training."""

    step: Count = Field(description="optimiser steps made by then")
    labels: dict[str, FiniteFloat] = Field(description="label -> its task weight")


class ArmRecord(Record):
    """One arm: a method under one condition with one seed, and further factors if the study has them."""

    factors: dict[str, str] = Field(
        description="what was varied in the study, all but the seed, with the arm's levels: method, condition, ..."
    )
    condition: ConditionRecord = Field(description="the level of the factor 'condition' in full")
    seed: int
    by_label: dict[str, LabelRecord] = Field(
        validation_alias=AliasChoices("by_label", "labels"),
        serialization_alias="labels",
        description="the labels, or tasks, of the arm, in the order of its heads",
    )
    metric: str = Field("auc", description="the metric of the scores and of `mean` on the test set")
    mean: MeanRecord
    weights: tuple[WeightsRecord, ...] = Field((), description="the task weights over training")
    common_factor: FiniteFloat | None = Field(
        None,
        description="mean of the raw weights before they were scaled to sum to the number of labels; acts like a "
        "learning rate; null if the weights were not scaled",
    )
    chosen: dict[str, FiniteFloat] = Field(
        {},
        exclude_if=operator.not_,
        description="where the policy selects among candidates: operation -> share of the selected candidates that "
        "have it, as a multiple of the share of all candidates that have it, over all selections of the training",
    )
    facts: dict[str, FiniteFloat] = Field(
        {}, description="diagnostics of the method, such as the rank that it chose at its last refresh"
    )
    similarity: tuple[SimilarityRecord, ...] = Field((), description="of every two tasks, if there are several")
    trust: tuple[TrustRecord, ...] = Field(
        (), description="label trust, the least trusted label first; empty if the method does not estimate it"
    )
    best_epoch: Count | None = Field(description="the epoch selected on validation, counted from 1")
    items_per_second: FiniteFloat | None = Field(description="training images, or texts, per second")
    seconds: FiniteFloat = Field(description="wall time of the whole arm, seconds")
    computing_seconds: FiniteFloat | None = Field(None, description="the part of `seconds` in training and evaluation")
    step_seconds: FiniteFloat | None = Field(None, description="time of one training step, median over epochs, seconds")
    weighting_seconds: FiniteFloat | None = Field(
        None, description="time of the weighting's work before training and after epochs, summed, seconds"
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
    source: str | None = Field(None, description="hash of the arm whose trained network this one needed; null if none")

    @model_validator(mode="before")
    @classmethod
    def _read_study_1(cls, content: Any) -> Any:
        """Take the record of an arm that an earlier version wrote, also one that MLflow keeps for reuse."""
        return arm_of_study_1(content) if isinstance(content, Mapping) and is_of_study_1(content) else content

    @model_validator(mode="after")
    def _has_its_factors(self) -> Self:
        if "method" not in self.factors or self.factors.get("condition") != self.condition.name:
            raise ValueError("an arm's factors hold its method, and the name of its condition")
        return self

    @property
    def method(self) -> str:
        """The level of the factor 'method'."""
        return self.factors["method"]

    @property
    def policy(self) -> str:
        """The level of the factor 'policy'; a study that does not vary it trains without augmentation."""
        return self.factors.get("policy", "none")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, or tasks, in the order of the heads."""
        return tuple(self.by_label)

    @property
    def scores(self) -> dict[str, ScoreRecord]:
        """The test score of each label."""
        return {label: record.score for label, record in self.by_label.items()}
