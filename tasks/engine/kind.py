"""A kind of study: what the engine must be told about images, texts, or anything else that is trained and compared."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from models.evaluation.auc import Evaluation
from models.evaluation.paired import Differences, paired_differences
from models.training.loop import Fitted
from tasks.arms.base import ArmT, OnStep
from tasks.engine.plan import Plan
from tasks.records.arms import ArmRecord
from tasks.records.data import DataRecord
from tasks.records.study import StudyResults
from tasks.records.summary_text import answer
from tasks.reporting.figure_style import metric_title

InputsT = TypeVar("InputsT")
FittedT = TypeVar("FittedT", bound=Fitted[Any])
Arrays = Mapping[str, NDArray[Any]]
Figures = Mapping[str, Markup | None]

SaveEpoch = Callable[[int, Mapping[str, float], Mapping[str, Any]], None]
"""Saves an epoch: its number, its metrics for MLflow, and the state to resume from."""


@dataclass(frozen=True)
class Scored:
    """What a kind knows of an arm after its training.

    Attributes:
        evaluation: scores of the labels (or tasks) on the test items.
        labels: in the order of the heads.
        predictions: arrays to keep, from which arms are compared.
        details: further fields of the arm's record.
        metrics: further metrics for MLflow.
    """

    evaluation: Evaluation
    labels: tuple[str, ...]
    predictions: Arrays
    details: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)


class Finished(NamedTuple):
    """A finished arm: its record and the predictions that it kept."""

    record: ArmRecord
    predictions: Arrays


Unit = Mapping[int, tuple[Sequence[Finished], Sequence[Finished]]]
"""Seed -> the finished arms of the method and of the baseline, under one condition."""


@dataclass(frozen=True)
class Report:
    """What the page of a kind of study shows.

    Attributes:
        question: the question that a study asks.
        answer: the answer, in sentences.
        metric_title: the metric's name.
        figures: SVG by name; None for a figure with nothing to show.
        contents: what the template shows beyond what it shows for every kind, from the results and the figures.
        template: of the page.
    """

    question: Callable[[StudyResults], str]
    answer: Callable[[StudyResults], Sequence[str]] = answer
    metric_title: Callable[[StudyResults], str] = metric_title
    figures: Callable[[StudyResults], Figures] = lambda results: {}
    contents: Callable[[StudyResults, Figures], Mapping[str, Any]] = lambda results, figures: {}
    template: str = "arms.html.j2"


class Kind(ABC, Generic[ArmT, InputsT, FittedT]):
    """A kind of study. Its instances are small and can be pickled: they hold settings and paths, no data.

    Attributes:
        command: of the command line.
        items: what is trained on, in the plural.
        metric: name of the arms' mean score.
        score_name: the metric's name in MLflow: `test_NAME/LABEL`, `test_NAME_mean`.
        sampled: what the test items are a sample of, such as patients.
        higher_is_better: direction of the metric.
        report: what its page shows.
    """

    command: str = "study"
    items: ClassVar[str] = "items"
    metric: str
    score_name: ClassVar[str] = "score"
    sampled: ClassVar[str] = "patients"
    higher_is_better: ClassVar[bool] = True
    report: ClassVar[Report]

    @abstractmethod
    def prepare(self, arm: ArmT) -> InputsT:
        """Load the inputs of an arm: its data, and its network before training."""

    @abstractmethod
    def fit(
        self, arm: ArmT, inputs: InputsT, state: Mapping[str, Any] | None, save: SaveEpoch, on_step: OnStep
    ) -> FittedT:
        """Train an arm, from `state` if there is one; call `save` after each epoch and `on_step` after each step."""

    @abstractmethod
    def score(self, arm: ArmT, inputs: InputsT, fitted: FittedT) -> Scored:
        """Score the trained arm on its test items, once, and log what else should be kept of it."""

    def differences(self, units: Mapping[str, Unit]) -> Mapping[str, Differences | str]:
        """Compute, for each unit, the differences between method and baseline and each test item's influence on them.

        A kind whose `score` keeps the array `influence`, (p,) of each test item on the mean score, needs no other
        definition than this one. A unit without differences gets the reason instead.
        """

        def scores(unit: Unit, side: int) -> dict[int, tuple[float | None, NDArray[Any]]]:
            arms = {seed: sides[side][0] for seed, sides in unit.items()}
            return {seed: (arm.record.mean.value, arm.predictions["influence"]) for seed, arm in arms.items()}

        return paired_differences({name: (scores(unit, 0), scores(unit, 1)) for name, unit in units.items()})

    @abstractmethod
    def data(self) -> DataRecord:
        """Describe the data of the study."""

    def notes(self, plan: Plan[ArmT], records: Sequence[ArmRecord]) -> Sequence[str]:
        """Return notes for the reader of the results."""
        return ()

    def more_results(self, finished: Sequence[Finished]) -> Mapping[str, Any]:
        """Return further fields of the study's results."""
        return {}

    def examples(self) -> tuple[NDArray[np.uint8], Sequence[str]]:
        """Return example images, (m, s, s), and their captions."""
        return np.empty((0, 1, 1), np.uint8), ()
