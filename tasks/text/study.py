"""What comes of a study on texts: every arm's scores, and each comparison of its plan on the same test sentences."""

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
    NoiseCondition,
    SplitRecord,
    StudyResults,
    TaskRecord,
    adjust,
    write_results,
)
from tasks.runtime.run_folder import RESULTS
from tasks.runtime.versions import git_commit, versions
from tasks.text.arm import named_as, score_name
from tasks.text.plan import Contrast, TextPlan

Arrays = Mapping[str, np.ndarray]


@task(name="compare arms", cache_policy=NO_CACHE)
def compare_texts(
    config: Mapping[str, Any],
    data: SentimentData | GlueData,
    plan: TextPlan,
    done: Mapping[str, ArmRef],
    failed: Sequence[ArmRecord],
    begun: float,
    folder: Path,
) -> Path:
    """Write results.json: each arm's results, and the comparisons of the plan.

    done: the finished arms by hash. begun: `time.monotonic()` at the start.
    """
    read = {arm.hash: read_arm(done[arm.hash]) for arm in plan.arms if arm.hash in done}
    # another study may have trained it under another name
    records = [named_as(arm, read[arm.hash][0]) for arm in plan.arms if arm.hash in done]
    tasks = {name: read_texts(data, (name,))[name] for name in data.tasks}
    results = StudyResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        data=_data_record(data, tasks),
        arms=(*records, *failed),
        comparisons=_comparisons(plan.contrasts, {hash: arrays for hash, (_, arrays) in read.items()}, tasks),
        runs=mlflow_runs.runs_record(),
        seconds=time.monotonic() - begun,
        notes=_notes(data, plan, records),
    )
    path = folder / RESULTS
    write_results(results, path)
    return path


def _comparisons(
    contrasts: Iterable[Contrast], read: Mapping[str, Arrays], tasks: Mapping[str, TextTask]
) -> tuple[ComparisonRecord, ...]:
    """Each contrast alone, and those of a kind at once; p-values are adjusted among those of a kind."""
    metrics = {display_name(name): each.metrics for name, each in tasks.items()}
    alike: dict[tuple[str, str, str], dict[str, Contrast]] = defaultdict(dict)
    for contrast in contrasts:
        alike[contrast.kind, contrast.method, contrast.baseline][contrast.condition] = contrast
    alone: list[ComparisonRecord] = []
    at_once: list[ComparisonRecord] = []
    for (kind, method, baseline), of_kind in alike.items():
        groups = {condition: _group(contrast, read, metrics) for condition, contrast in of_kind.items()}

        def record(condition: str, found: Comparison, over_all: bool) -> ComparisonRecord:
            noise = NoiseCondition(kind="none", name=condition)
            about = {"metric": score_name(metrics), "experiment": kind, "over_all": over_all}  # noqa: B023
            return ComparisonRecord.of(method, baseline, noise, found).model_copy(update=about)  # noqa: B023

        of_each = [
            record(condition, compare_classes({condition: group}, crossed=False), False)
            for condition, group in groups.items()
        ]
        alone += adjust(of_each)
        if len(groups) > 1 and kind != "capacity":
            at_once.append(record(f"all {len(groups)}", compare_classes(groups, crossed=True), True))
    return (*adjust(at_once), *alone)


def _group(contrast: Contrast, read: Mapping[str, Arrays], metrics: Mapping[str, tuple[str, ...]]) -> Group:
    """The predictions of both sides for the seeds of which all arms finished."""
    whole = {
        seed: sides
        for seed, sides in contrast.arms.items()
        if all(hash in read for side in sides for hash in side)
    }  # fmt: skip
    tests = {
        seed: {name: _test(contrast, sides[0], read, name, metrics[name]) for name in contrast.tasks}
        for seed, sides in whole.items()
    }
    method, baseline = (
        {
            seed: {name: _arrays_with(sides[side], read, name)[f"test/{name}"] for name in contrast.tasks}
            for seed, sides in whole.items()
        }
        for side in (0, 1)
    )
    return Group(tests, method, baseline)


def _test(
    contrast: Contrast, hashes: Sequence[str], read: Mapping[str, Arrays], name: str, metrics: tuple[str, ...]
) -> TaskTest:
    arrays = _arrays_with(hashes, read, name)
    return TaskTest(arrays[f"targets/{name}"], arrays[f"sentences/{name}"], metrics)


def _arrays_with(hashes: Sequence[str], read: Mapping[str, Arrays], name: str) -> Arrays:
    """What the arm that knows the task has left."""
    return next(read[hash] for hash in hashes if f"test/{name}" in read[hash])


def _data_record(data: SentimentData | GlueData, tasks: Mapping[str, TextTask]) -> DataRecord:
    prints = json.dumps([each.fingerprint for each in tasks.values()])
    fingerprint = "sha256:" + hashlib.sha256(prints.encode()).hexdigest()
    records = [
        TaskRecord(
            name=display_name(name), fingerprint=each.fingerprint, classes=each.classes, metrics=each.metrics,
            n={part: len(getattr(each, part)) for part in PARTS}, skipped=each.skipped, notes=each.notes,
        )
        for name, each in tasks.items()
    ]  # fmt: skip
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
    """What was reused, and for every group what was done to its data beyond what is done to each task alone."""
    notes = []
    if reused := sum(record.reused for record in records):
        notes.append(f"{reused} of {len(records)} arms were trained before with the same inputs and settings; reused.")
    for overlap_group in dict.fromkeys(arm.overlap_group for arm in plan.arms if not arm.keep_overlap):
        read = read_texts(data, overlap_group, plan.arms[0].seed)
        for name, each in read.items():
            alone = read_texts(data, (name,), plan.arms[0].seed)[name].notes
            beside = ", ".join(display_name(other) for other in overlap_group if other != name)
            new = [note for note in each.notes if note not in alone]
            notes += [f"{display_name(name)} beside {beside}: {note}." for note in new]
    return tuple(notes)
