"""Results of a study on texts: scores of each arm, and paired comparisons on the same test sentences."""

import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import PARTS
from data_prep.text.task import TextTask
from models.evaluation.classification import TaskTest
from models.evaluation.paired import Comparison
from models.evaluation.paired_classes import Group, compare_classes
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmRef, read_arm
from tasks.data.texts import GlueData, SentimentData, display_name, read_texts
from tasks.records.study import (
    ArmRecord,
    ComparisonRecord,
    DataRecord,
    Condition,
    SplitRecord,
    StudyResults,
    TaskRecord,
    adjust_p_values,
    write_results,
)
from tasks.records.summary_text import join_names
from tasks.runtime.run_folder import RESULTS
from tasks.runtime.versions import git_commit, versions
from tasks.text.arm import mean_score_name, rename_record
from tasks.text.plan import Contrast, TextPlan

Arrays = Mapping[str, np.ndarray]
"""Predictions, targets and sentence keys of an arm, as `tasks.arms.base.read_arm` returns them."""


@task(name="compare arms", cache_policy=NO_CACHE)
def compare_texts(
    config: Mapping[str, Any],
    data: SentimentData | GlueData,
    plan: TextPlan,
    finished: Mapping[str, ArmRef],
    failed: Sequence[ArmRecord],
    started: float,
    folder: Path,
) -> Path:
    """Write results.json: the results of each arm, and the comparisons of the plan.

    Args:
        config: the complete config of the study.
        data: the benchmark, with its folder.
        plan: the planned arms and comparisons.
        finished: the finished arms, by hash.
        failed: a record of each arm that diverged.
        started: `time.monotonic()` at the start of the study.
        folder: folder of the file.

    Returns:
        Path of results.json.
    """
    read = {arm.hash: read_arm(finished[arm.hash]) for arm in plan.arms if arm.hash in finished}
    records = [rename_record(read[arm.hash][0], arm) for arm in plan.arms if arm.hash in finished]
    arrays = {arm_hash: predictions for arm_hash, (_, predictions) in read.items()}
    tasks = {name: read_texts(data, (name,))[name] for name in data.tasks}
    results = StudyResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        data=_data_record(data, tasks),
        arms=(*records, *failed),
        comparisons=_comparisons(plan.contrasts, arrays, tasks),
        runs=mlflow_runs.runs_record(),
        seconds=time.monotonic() - started,
        notes=_notes(data, plan, records),
    )
    path = folder / RESULTS
    write_results(results, path)
    return path


def _comparisons(
    contrasts: Iterable[Contrast], arrays: Mapping[str, Arrays], tasks: Mapping[str, TextTask]
) -> tuple[ComparisonRecord, ...]:
    """Compare method and baseline under each condition, and over all conditions of an experiment.

    P-values under single conditions are adjusted among those of one experiment, method and baseline; p-values over all
    conditions are adjusted among themselves.
    """
    metrics = {display_name(name): each.metrics for name, each in tasks.items()}
    families: dict[tuple[str, str, str], dict[str, Contrast]] = defaultdict(dict)
    for contrast in contrasts:
        families[contrast.kind, contrast.method, contrast.baseline][contrast.condition] = contrast
    by_condition: list[ComparisonRecord] = []
    pooled: list[ComparisonRecord] = []
    for (kind, method, baseline), family in families.items():
        groups = {condition: _group(contrast, arrays, metrics) for condition, contrast in family.items()}

        def record(condition: str, comparison: Comparison, over_all: bool) -> ComparisonRecord:
            noise = Condition(name=condition)
            fields = {"metric": mean_score_name(metrics), "experiment": kind, "over_all": over_all}  # noqa: B023
            return ComparisonRecord.of(method, baseline, noise, comparison).model_copy(update=fields)  # noqa: B023

        by_condition += adjust_p_values(
            [
                record(condition, compare_classes({condition: group}, crossed=False), over_all=False)
                for condition, group in groups.items()
            ]
        )
        if len(groups) > 1 and kind != "capacity":
            pooled.append(record(f"all {len(groups)}", compare_classes(groups, crossed=True), over_all=True))
    return (*adjust_p_values(pooled), *by_condition)


def _group(contrast: Contrast, arrays: Mapping[str, Arrays], metrics: Mapping[str, tuple[str, ...]]) -> Group:
    """Return the predictions of method and baseline for the seeds whose arms have all finished."""
    complete = {
        seed: sides
        for seed, sides in contrast.arms.items()
        if all(arm_hash in arrays for side in sides for arm_hash in side)
    }
    tests = {
        seed: {name: _test(sides[0], arrays, name, metrics[name]) for name in contrast.tasks}
        for seed, sides in complete.items()
    }
    method, baseline = (
        {
            seed: {name: _arrays_with_task(sides[side], arrays, name)[f"test/{name}"] for name in contrast.tasks}
            for seed, sides in complete.items()
        }
        for side in (0, 1)
    )
    return Group(tests, method, baseline)


def _test(hashes: Sequence[str], arrays: Mapping[str, Arrays], name: str, metrics: tuple[str, ...]) -> TaskTest:
    found = _arrays_with_task(hashes, arrays, name)
    return TaskTest(found[f"targets/{name}"], found[f"sentences/{name}"], metrics)


def _arrays_with_task(hashes: Sequence[str], arrays: Mapping[str, Arrays], name: str) -> Arrays:
    """Return the arrays of the arm that was trained on the task."""
    return next(arrays[arm_hash] for arm_hash in hashes if f"test/{name}" in arrays[arm_hash])


def _data_record(data: SentimentData | GlueData, tasks: Mapping[str, TextTask]) -> DataRecord:
    of_tasks = json.dumps([each.fingerprint for each in tasks.values()])
    fingerprint = "sha256:" + hashlib.sha256(of_tasks.encode()).hexdigest()
    records = [
        TaskRecord(
            name=display_name(name),
            fingerprint=each.fingerprint,
            classes=each.classes,
            metrics=each.metrics,
            n={part: len(getattr(each, part)) for part in PARTS},
            skipped=each.skipped,
            notes=each.notes,
        )
        for name, each in tasks.items()
    ]
    return DataRecord(
        name=data.corpus,
        fingerprint=fingerprint,
        labels=tuple(record.name for record in records),
        split=SplitRecord(name=f"official parts, else drawn with seed {data.seed}", fingerprint=fingerprint),
        tasks=tuple(records),
        n={part: sum(record.n[part] for record in records) for part in PARTS},
        positives={
            part: {
                display_name(name): int((getattr(each, part).labels == 1).sum())
                for name, each in tasks.items()
                if len(each.classes) == 2
            }
            for part in PARTS
        },
    )


def _notes(data: SentimentData | GlueData, plan: TextPlan, records: Sequence[ArmRecord]) -> tuple[str, ...]:
    """Return notes on reused arms, and on what each overlap group changes in the data of its tasks."""
    notes = []
    if reused := sum(record.reused for record in records):
        notes.append(
            f"{reused} of {len(records)} arms were trained before with the same inputs and settings, and were reused."
        )
    for overlap_group in dict.fromkeys(arm.overlap_group for arm in plan.arms if not arm.keep_overlap):
        read = read_texts(data, overlap_group, plan.arms[0].seed)
        for name, each in read.items():
            ungrouped = read_texts(data, (name,), plan.arms[0].seed)[name].notes
            others = join_names([display_name(other) for other in overlap_group if other != name])
            new = [note for note in each.notes if note not in ungrouped]
            notes += [f"{display_name(name)}, in a group with {others}: {note}." for note in new]
    return tuple(notes)
