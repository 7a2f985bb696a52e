"""Summary of the theory's results over seeds: estimates with intervals, and a check of each statement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from models.theory.formulas import expected_single_task_error
from models.theory.nonlinear_tasks import ACROSS, ALONG, LINKS
from models.theory.transfer import MINIMA, SINGLE_TASK
from tasks.records.data import CheckRecord
from tasks.records.summary_text import signed
from tasks.theory.computations import ComputationsSettings
from tasks.theory.estimate import Estimate
from tasks.theory.records import (
    BoundaryRecord,
    CapacityRecord,
    CellRecord,
    NonlinearRecord,
    SubspaceRecord,
    Theorem2ErrorRecord,
    Theorem2Record,
    TransferRecord,
)

T = TypeVar("T")
BySeed = Sequence[Any]
DIFFERENCE = "difference"
SINE_LIMIT = 1e-8
PLATEAU_TOLERANCE = 0.1  # largest relative change over the last step that counts as a plateau


def summarise(computed: Mapping[str, BySeed], settings: ComputationsSettings) -> dict[str, Any]:
    """Return the fields of `TheoryResults` that summarise what `tasks.theory.computations.compute` returned."""
    figure_3, linked = computed["figure 3"], computed["linked figure 3"]
    first = next(iter(figure_3[0][SINGLE_TASK]))
    fields = {
        "own_error": Estimate.over([seed[SINGLE_TASK][first] / settings.linear.noise**2 for seed in figure_3]),
        "expected_own_error": expected_single_task_error(
            settings.linear.target_samples, settings.linear.dimensions, 1.0
        ),
        "minima": _estimates([seed[MINIMA] for seed in figure_3]),
        "predicted": {key: e.mean for key, e in _estimates([seed["predicted"] for seed in figure_3]).items()},
        "figure_3": tuple(
            record
            for solver in settings.solvers.names
            for record in _by_source(TransferRecord, [seed[solver] for seed in figure_3], solver=solver)
        ),
        "cells": _cells(computed["map"], settings.linear.noise),
        "capacity": tuple(
            CapacityRecord(
                width=row["width"],
                change=Estimate.over([seed[i]["change"] for seed in computed["capacity"]]),
                off=max(seed[i]["off"] for seed in computed["capacity"]),
            )
            for i, row in enumerate(computed["capacity"][0])
        ),
        "proposition_3": tuple(
            SubspaceRecord(width=row["width"], sine=max(seed[i]["sine"] for seed in computed["proposition 3"]))
            for i, row in enumerate(computed["proposition 3"][0])
        ),
        "theorem_2": _theorem_2(computed["theorem 2"], settings),
        "figure_2": _figure_2(computed["figure 2"]),
        "wrong_side_alone": {link: Estimate.over([seed[link][""] for seed in computed["figure 2"]]) for link in LINKS},
        "linked_figure_3": tuple(
            record
            for link in linked[0]
            for record in _by_source(NonlinearRecord, [_relative_changes(seed[link]) for seed in linked], link=link)
        ),
    }
    return fields | {"checks": _checks(fields, settings)}


def _estimates(seeds: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    return {key: Estimate.over([seed[key] for seed in seeds]) for key in seeds[0]}


def _relative_changes(shares: Mapping[str, float]) -> dict[str, float]:
    return {key: share / shares[""] - 1 for key, share in shares.items() if key}


def _by_source(record: Callable[..., T], seeds: Sequence[Mapping[str, float]], **same: str) -> list[T]:
    """Make a record, with `same` in each, for every key 'source samples'."""
    records = []
    for key, change in _estimates(seeds).items():
        source, samples = map(int, key.split())
        records.append(record(source=source, samples=samples, change=change, **same))
    return records


def _cells(seeds: BySeed, noise: float) -> tuple[CellRecord, ...]:
    return tuple(
        CellRecord(
            solver=solver,
            norm=row["cell"]["norm"] / noise,
            **{name: row[name] for name in ("varied", "scaling")},
            **{name: row["cell"][name] for name in ("cosine", "condition", "target_samples")},
            changes=tuple(_by_source(TransferRecord, [seed[i]["changes"][solver] for seed in seeds], solver=solver)),
        )
        for i, row in enumerate(seeds[0])
        for solver in row["changes"]
    )


def _theorem_2(seeds: BySeed, settings: ComputationsSettings) -> Theorem2Record:
    estimates = _estimates(seeds)
    return Theorem2Record(
        **{name: estimates[name] for name in ("c", "bound", "own")},
        largest_c=max(seed["c"] for seed in seeds),
        rows=tuple(
            Theorem2ErrorRecord(
                samples=samples,
                off=estimates[str(samples)],
                within=sum(seed[str(samples)] <= seed["bound"] for seed in seeds),
            )
            for samples in settings.theorem_2.source_samples
        ),
    )


def _figure_2(seeds: BySeed) -> tuple[BoundaryRecord, ...]:
    records = []
    for link in LINKS:
        changes = {name: [seed[link][name] - seed[link][""] for seed in seeds] for name in (ACROSS, ALONG)}
        changes[DIFFERENCE] = [along - across for across, along in zip(changes[ACROSS], changes[ALONG], strict=True)]
        records += [
            BoundaryRecord(link=link, source=name, change=Estimate.over(values)) for name, values in changes.items()
        ]
    return tuple(records)


def _checks(fields: Mapping[str, Any], settings: ComputationsSettings) -> tuple[CheckRecord, ...]:
    """Compare each statement of the theory with the numbers."""
    theorem: Theorem2Record = fields["theorem_2"]
    k = settings.capacity.tasks
    off = max(row.off for row in fields["capacity"] if row.width >= k)
    sine = max(row.sine for row in fields["proposition_3"])
    first, before, last = (theorem.rows[i].off.mean for i in (0, -2, -1))
    within = sum(row.within for row in theorem.rows)
    solutions = sum(row.off.seeds for row in theorem.rows)
    own, expected = fields["own_error"], fields["expected_own_error"]
    as_expected = own.lo is None or own.lo <= expected <= own.hi
    checks = (
        (
            f"Proposition 1: with a shared width of {k} or more, every task has its single-task solution (B A_i = θ_i)",
            f"largest difference {off:g}",
            off == 0,
        ),
        (
            f"Proposition 3: the numerical optimum has the span of the formula, to {SINE_LIMIT:g}",
            f"largest sine of a principal angle {sine:.1e}",
            sine < SINE_LIMIT,
        ),
        (
            "Theorem 2: its condition c ≤ 1/3 holds",
            f"largest c {theorem.largest_c:.3f}",
            theorem.largest_c <= 1 / 3,
        ),
        (
            "Theorem 2: the error falls when the source has more samples",
            f"from {first:.3f} to {last:.3f} of ‖θ‖",
            last < first,
        ),
        (
            "Theorem 2: the error reaches a plateau",
            f"{signed(100 * (last / before - 1), 1)} % in the last step",
            abs(last / before - 1) < PLATEAU_TOLERANCE,
        ),
        ("Theorem 2: the error stays within the bound", f"{within} of {solutions} solutions", within == solutions),
        (
            "Task 1 without a source has the expected error of least squares, d / (m − d − 1) times the noise variance",
            f"{own.mean:.2f}, expected {expected:.2f}",
            as_expected,
        ),
    )
    return tuple(
        CheckRecord(rule=rule, found=found, result="ok" if holds else "BROKEN") for rule, found, holds in checks
    )
