"""Compare the arms of an image study with the baseline and write results.json."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import PARTS, Split, SplitSettings, make_split
from data_prep.store.store import Store
from models.evaluation.paired import Unit, compare
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmRef, read_arm
from tasks.data.ingest import StoreRef
from tasks.images.adjudication import score_adjudicated
from tasks.records.study import (
    ArmRecord,
    CheckRecord,
    ComparisonRecord,
    DataRecord,
    Condition,
    SplitRecord,
    StudyResults,
    adjust_p_values,
    write_results,
)
from tasks.runtime.run_folder import RESULTS
from tasks.runtime.versions import git_commit, versions


@task(name="compare arms", cache_policy=NO_CACHE)
def compare_arms(  # noqa: PLR0913  to be grouped by the study engine
    config: Mapping[str, Any],
    store: StoreRef,
    checks: tuple[CheckRecord, ...],
    split: SplitSettings,
    arms: Sequence[ArmRef],
    failed: Sequence[ArmRecord],
    baseline: str,
    population_size: int | None,
    adjudicated: Path | None,
    begun: float,
    folder: Path,
) -> Path:
    """Write results.json: every arm's results, and every method against the baseline on the same test patients.

    Args:
        config: the study's complete settings.
        store: the images and labels.
        checks: of the data.
        split: which patients train, validate and test.
        arms: those that finished.
        failed: records of those that did not.
        baseline: name of the method that the others are compared with.
        population_size: number of conditions that the study's were drawn from, see `tasks.images.plan.plan_arms`.
        adjudicated: table of adjudicated labels, see `tasks.images.adjudication`; None for no scores against them.
        begun: `time.monotonic()` at the start of the study.
        folder: the file is written into.

    Returns:
        Path of results.json.
    """
    opened = Store.open(store.path)
    parts = make_split(split, opened.images, opened.patients)
    finished = [read_arm(ref) for ref in arms]
    records = [record for record, _ in finished]
    predictions = [arrays["test"] for _, arrays in finished]
    results = StudyResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        data=_data_record(store.name, opened, checks, parts),
        arms=(*records, *failed),
        comparisons=_comparisons(opened, parts, records, predictions, baseline, population_size),
        adjudicated=adjudicated and score_adjudicated(adjudicated, opened, parts.test, records, predictions),
        runs=mlflow_runs.runs_record(),
        seconds=time.monotonic() - begun,
        notes=_notes(records),
    )
    path = folder / RESULTS
    write_results(results, path)
    return path


def _comparisons(
    store: Store,
    split: Split,
    records: Sequence[ArmRecord],
    predictions: Sequence[np.ndarray],
    baseline: str,
    population_size: int | None,
) -> tuple[ComparisonRecord, ...]:
    """Compare every method with the baseline: in each condition or, if the conditions are a sample, over all of them.

    Args:
        store: the images and labels.
        split: its test part is compared.
        records: of the finished arms.
        predictions: of the finished arms on the test part.
        baseline: name of the method that the others are compared with.
        population_size: number of conditions that these were drawn from; None if they are no sample.

    Returns:
        The comparisons, with p-values adjusted over all of them.
    """
    by_condition: dict[Condition, dict[str, dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    labels: dict[Condition, tuple[str, ...]] = {}
    for record, of_arm in zip(records, predictions, strict=True):
        condition = record.condition.shared()
        by_condition[condition][record.method][record.seed] = of_arm
        labels[condition] = record.labels
    targets, patients = store.targets[split.test], store.patients[split.test]

    def unit(condition: Condition, method: str) -> Unit:
        columns = [store.labels.index(label) for label in labels[condition]]
        of_method = by_condition[condition]
        return Unit(targets[:, columns], of_method[method], of_method[baseline])

    conditions = list(by_condition)
    groups = [[condition] for condition in conditions] if population_size is None else [conditions]
    methods = [method for method in dict.fromkeys(record.method for record in records) if method != baseline]
    comparisons = []
    for group in groups:
        for method in methods:
            common = [condition for condition in group if {method, baseline} <= set(by_condition[condition])]
            if common:
                units = {condition.name: unit(condition, method) for condition in common}
                difference = compare(units, patients, population_size)
                condition = group[0] if population_size is None else _as_one_condition(group)
                comparisons.append(ComparisonRecord.of(method, baseline, condition, difference))
    return adjust_p_values(comparisons)


def _as_one_condition(conditions: Sequence[Condition]) -> Condition:
    """Return one condition that stands for several that differ only in their labels."""
    title = f"{conditions[0].title}, over {len(conditions)} groups of labels"
    return Condition(kind=conditions[0].kind, rate=conditions[0].rate, title=title, name=title)


def _data_record(name: str, store: Store, checks: tuple[CheckRecord, ...], split: Split) -> DataRecord:
    rows = {part: getattr(split, part) for part in PARTS}
    return DataRecord.of(
        name,
        store,
        checks,
        split=SplitRecord(name=split.name, fingerprint=split.fingerprint),
        n={part: len(of_part) for part, of_part in rows.items()},
        patients={part: len(np.unique(store.patients[of_part])) for part, of_part in rows.items()},
        positives={
            part: dict(zip(store.labels, (store.targets[of_part] == 1).sum(axis=0).tolist(), strict=True))
            for part, of_part in rows.items()
        },
    )


def _notes(records: Sequence[ArmRecord]) -> tuple[str, ...]:
    notes = ["Noise was added to the training labels only; validation and test labels are unchanged."]
    if reused := sum(record.reused for record in records):
        notes.append(
            f"{reused} of {len(records)} arms were trained before with the same inputs and settings, and were reused."
        )
    return tuple(notes)
