"""Records of results.json of the theory (schema `medmtl/theory/2`): of transfer between tasks, and the whole.

What schema 1 had is unchanged; `augmentation` is new.
"""

from typing import Any, Literal

from pydantic import Field, FiniteFloat

from tasks.records.base import Count, Record
from tasks.records.data import CheckRecord
from tasks.theory.augmentation_records import AugmentationRecord
from tasks.theory.estimate import Estimate


class TransferRecord(Record):
    """Figure 3: the relative change of task 1's error for one solver, source and number of source samples."""

    solver: str
    source: int = Field(description="task 2, 3 or 4")
    samples: Count = Field(description="training samples of the source")
    change: Estimate


class CellRecord(Record):
    """One cell of the map under one solver."""

    varied: str = Field(
        description="'grid' where cosine and norm are varied, else the one setting that differs from Figure 3's"
    )
    solver: str
    cosine: FiniteFloat
    norm: FiniteFloat = Field(description="length of theta divided by the standard deviation of the label noise")
    condition: FiniteFloat
    target_samples: Count
    scaling: str
    changes: tuple[TransferRecord, ...]


class CapacityRecord(Record):
    """Proposition 1: joint against single-task training, for one width."""

    width: Count
    change: Estimate = Field(description="relative change of the tasks' summed error against single-task training")
    off: FiniteFloat = Field(description="largest |B A_i - single-task solution| over seeds, tasks and entries")


class SubspaceRecord(Record):
    """Proposition 3: the optimal subspace by formula and numerically, for one width."""

    width: Count
    sine: FiniteFloat = Field(
        description="sine of the largest principal angle between the two subspaces, largest over seeds"
    )


class Theorem2ErrorRecord(Record):
    """Theorem 2: the target's error ||theta_hat - theta|| / ||theta|| for one number of source samples."""

    samples: Count
    off: Estimate = Field(description="the relative error")
    within: Count = Field(description="number of seeds within the theorem's bound")


class Theorem2Record(Record):
    """Theorem 2: its condition, its bound and the target's relative errors."""

    c: Estimate = Field(description="kappa(X_2) sin(theta_1, theta_2); the theorem requires at most 1/3")
    largest_c: FiniteFloat = Field(description="largest c over seeds")
    bound: Estimate = Field(description="upper bound of the relative error")
    own: Estimate = Field(description="relative error of the target without a source")
    rows: tuple[Theorem2ErrorRecord, ...]


class BoundaryRecord(Record):
    """Figure 2: change of the share of inputs on the wrong side of the target's decision boundary, for one source."""

    link: str
    source: str = Field(description="direction of its large inputs; 'difference': along minus across")
    change: Estimate


class NonlinearRecord(Record):
    """Figure 3 with a non-linear link: relative change of the share of inputs on the wrong side of the boundary."""

    link: str
    source: int = Field(description="task 2, 3 or 4")
    samples: Count = Field(description="training samples of the source")
    change: Estimate


class TheoryResults(Record):
    """All of results.json."""

    schema_: Literal["medmtl/theory/2"] = Field("medmtl/theory/2", serialization_alias="schema")
    config: dict[str, Any]
    version: str
    git: str | None
    environment: dict[str, str]
    seconds: FiniteFloat
    reused: Count = Field(
        description="number of parts (one computation, one seed) that were reused from an earlier run"
    )
    question: str
    answer: tuple[str, ...]
    checks: tuple[CheckRecord, ...]
    own_error: Estimate = Field(description="excess error of task 1 without a source, in units of the noise variance")
    expected_own_error: FiniteFloat = Field(description="d / (m - d - 1), the expectation of own_error")
    minima: dict[str, Estimate] = Field(description="'source samples' -> number of local minima of the two-task loss")
    figure_3: tuple[TransferRecord, ...]
    predicted: dict[str, FiniteFloat] = Field(description="'source samples' -> predicted change at the global optimum")
    cells: tuple[CellRecord, ...]
    capacity: tuple[CapacityRecord, ...]
    proposition_3: tuple[SubspaceRecord, ...]
    theorem_2: Theorem2Record
    figure_2: tuple[BoundaryRecord, ...]
    wrong_side_alone: dict[str, Estimate] = Field(
        description="link -> share of inputs on the wrong side, Figure 2's target without a source"
    )
    linked_figure_3: tuple[NonlinearRecord, ...]
    augmentation: AugmentationRecord = Field(description="the theory of data augmentation")
