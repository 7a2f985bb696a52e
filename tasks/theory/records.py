"""What the theory's experiments found, as results.json holds it (schema `medmtl/theory/1`).

Every interval is a 95 % interval over seeds, Student's t; with one seed there is none.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, FiniteFloat
from scipy.special import stdtrit

from tasks.records.study import CheckRecord, Count, Record


class Estimate(Record):
    """A mean over seeds."""

    mean: FiniteFloat
    lo: FiniteFloat | None
    hi: FiniteFloat | None
    above: Count = Field(description="seeds whose value lies above 0")
    seeds: Count

    @classmethod
    def over(cls, values: Sequence[float]) -> Self:
        """values: one per seed."""
        n, mean = len(values), float(np.mean(values))
        half = float(stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None
        lo, hi = (None, None) if half is None else (mean - half, mean + half)
        return cls(mean=mean, lo=lo, hi=hi, above=sum(value > 0 for value in values), seeds=n)


class TransferRecord(Record):
    """Figure 3: the relative change of task 1's error by one source, one number of its samples, one solver."""

    solver: str
    source: int = Field(description="task 2, 3 or 4")
    samples: Count = Field(description="training samples of the source")
    change: Estimate


class CellRecord(Record):
    """One cell of the map under one solver."""

    varied: str = Field(description="'grid', where cosine and norm are, or the setting that is not Figure 3's")
    solver: str
    cosine: FiniteFloat
    norm: FiniteFloat = Field(description="length of theta over the noise's standard deviation")
    condition: FiniteFloat
    target_samples: Count
    scaling: str
    changes: tuple[TransferRecord, ...]


class CapacityRecord(Record):
    """Proposition 1: one width."""

    width: Count
    change: Estimate = Field(description="relative change of the tasks' summed error against the tasks alone")
    off: FiniteFloat = Field(description="largest |B A_i - theta_i's own solution| over seeds, tasks and entries")


class SpanRecord(Record):
    """Proposition 3: one width."""

    width: Count
    sine: FiniteFloat = Field(description="largest over seeds: formula's span against the one that descent finds")


class FallRecord(Record):
    """Theorem 2: ||theta_hat - theta|| / ||theta|| of the target beside a source of so many samples."""

    samples: Count
    off: Estimate
    within: Count = Field(description="seeds within the theorem's bound")


class Theorem2Record(Record):
    c: Estimate = Field(description="kappa(X_2) sin(theta_1, theta_2); the theorem asks for at most 1/3")
    largest_c: FiniteFloat
    bound: Estimate
    own: Estimate = Field(description="the target alone")
    rows: tuple[FallRecord, ...]


class BoundaryRecord(Record):
    """Figure 2: change of the share of inputs on the wrong side of the target's boundary, by one source."""

    link: str
    source: str = Field(description="where its large inputs lie; 'difference' is one source minus the other")
    change: Estimate


class LinkedRecord(Record):
    """Figure 3 with another link: relative change of the share on the wrong side."""

    link: str
    source: int
    samples: Count
    change: Estimate


class TheoryResults(Record):
    """All of results.json."""

    schema_: Literal["medmtl/theory/1"] = Field("medmtl/theory/1", serialization_alias="schema")
    config: dict[str, Any]
    version: str
    git: str | None
    environment: dict[str, str]
    seconds: FiniteFloat
    reused: Count = Field(description="parts that an earlier run had computed")
    question: str
    answer: tuple[str, ...]
    checks: tuple[CheckRecord, ...]
    own_error: Estimate = Field(description="task 1 alone, excess error in units of the noise variance")
    expected_own_error: FiniteFloat
    minima: dict[str, Estimate] = Field(description="'source samples' -> local minima of the two-task loss")
    figure_3: tuple[TransferRecord, ...]
    predicted: dict[str, FiniteFloat] = Field(description="'source samples' -> our prediction of the optimum's change")
    cells: tuple[CellRecord, ...]
    capacity: tuple[CapacityRecord, ...]
    proposition_3: tuple[SpanRecord, ...]
    theorem_2: Theorem2Record
    figure_2: tuple[BoundaryRecord, ...]
    wrong_side_alone: dict[str, Estimate] = Field(
        description="link -> share on the wrong side, Figure 2's target alone"
    )
    linked_figure_3: tuple[LinkedRecord, ...]
