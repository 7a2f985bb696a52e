"""The steps of a study around its arms: which arms there are, and what comes of them."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from data_prep.labels.splits import PARTS, Split, SplitSettings, make_split
from data_prep.noise.protocols import ProtocolSettings, plan
from data_prep.noise.registry import draw_noise
from data_prep.store.store import Store
from models.evaluation.paired import Unit, compare
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.arms import mlflow_runs
from tasks.arms.base import ArmRef, read_arm
from tasks.data.ingest import StoreRef
from tasks.images.adjudication import score_adjudicated
from tasks.images.spec import ImageArm, MaskRef
from tasks.records.study import (
    ArmRecord,
    CheckRecord,
    ComparisonRecord,
    DataRecord,
    NoiseCondition,
    SplitRecord,
    StudyResults,
    adjust,
    write_results,
)
from tasks.runtime.progress import LOGGER
from tasks.runtime.run_folder import RESULTS
from tasks.runtime.versions import git_commit, versions


@task(name="plan arms", cache_policy=NO_CACHE)
def plan_arms(
    store: StoreRef,
    split: SplitSettings,
    protocol: ProtocolSettings,
    methods: Sequence[WeightingSettings],
    network: NetworkSettings,
    training: TrainingSettings,
    seed: int,
    seeds: int,
    device: Literal["auto", "cpu", "cuda"],
    threads: int,
    masks: Path,
) -> tuple[list[ImageArm], int | None]:
    """Draw the noise masks into the folder `masks` and list the arms: conditions x seeds x methods.

    All methods of a seed and a condition train on the same mask. seed: the first of `seeds`. Also returns the number of
    conditions from which theirs were drawn, if they were drawn (`data_prep.noise.protocols.Plan`).

    Raises:
        DataError: the data cannot be split so, the noise names an unknown label, or the labels do not suffice.
    """
    opened = Store.open(store.path)
    found = make_split(split, opened.images, opened.patients)
    targets = opened.targets[found.train]
    planned = plan(protocol, targets, opened.labels, seed)
    masks.mkdir(parents=True, exist_ok=True)
    arms = []
    for condition in planned.conditions:
        columns = [opened.labels.index(label) for label in condition.labels]
        for number in range(condition.first_seed, condition.first_seed + seeds):
            mask = draw_noise(condition.noise, targets[:, columns], condition.labels, number)
            path = masks / f"{mask.fingerprint.removeprefix('sha256:')[:16]}.npz"
            mask.save(path)
            arms += [
                ImageArm(
                    store=store, split=split, split_fingerprint=found.fingerprint, labels=condition.labels,
                    condition=condition.name, noise=condition.noise,
                    mask=MaskRef(path=path, fingerprint=mask.fingerprint), method=method,
                    network=method.network(network), training=training, seed=number, device=device, threads=threads,
                )
                for method in methods
            ]  # fmt: skip
    LOGGER.info(
        "split %s: %d images to train, %d to validate, %d to test; %d arms",
        found.name, len(found.train), len(found.val), len(found.test), len(arms),
    )  # fmt: skip
    return arms, planned.population_size


@task(name="compare arms", cache_policy=NO_CACHE)
def compare_arms(
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
    """Write results.json: each arm's results, and every method against the baseline on the same test patients.

    drawn_from: see `plan_arms`. adjudicated: a second table of labels, see `tasks.images.adjudication`.
    begun: `time.monotonic()` at the start.
    """
    opened = Store.open(store.path)
    found = make_split(split, opened.images, opened.patients)
    read = [read_arm(ref) for ref in arms]
    records = [record for record, _ in read]
    predictions = [arrays["test"] for _, arrays in read]
    results = StudyResults(
        config=dict(config),
        version=version("medmtl"),
        git=git_commit(),
        environment=versions(),
        data=_data_record(store.name, opened, checks, found),
        arms=(*records, *failed),
        comparisons=_comparisons(opened, found, records, predictions, baseline, population_size),
        adjudicated=adjudicated and score_adjudicated(adjudicated, opened, found.test, records, predictions),
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
    scores: Sequence[np.ndarray],
    baseline: str,
    population_size: int | None,
) -> tuple[ComparisonRecord, ...]:
    """Every method against the baseline: condition by condition, or over all of them where they are a sample."""
    by_condition: dict[NoiseCondition, dict[str, dict[int, np.ndarray]]] = defaultdict(lambda: defaultdict(dict))
    labels: dict[NoiseCondition, tuple[str, ...]] = {}
    for record, of_arm in zip(records, scores, strict=True):
        condition = record.noise.condition()
        by_condition[condition][record.method][record.seed] = of_arm
        labels[condition] = record.labels
    targets, patients = store.targets[split.test], store.patients[split.test]

    def unit(condition: NoiseCondition, method: str) -> Unit:
        columns = [store.labels.index(label) for label in labels[condition]]
        of_method = by_condition[condition]
        return Unit(targets[:, columns], of_method[method], of_method[baseline])

    conditions = list(by_condition)
    groups = [[condition] for condition in conditions] if population_size is None else [conditions]
    methods = [method for method in dict.fromkeys(record.method for record in records) if method != baseline]
    found = []
    for group in groups:
        for method in methods:
            both = [condition for condition in group if {method, baseline} <= set(by_condition[condition])]
            if both:
                units = {condition.name: unit(condition, method) for condition in both}
                under = group[0] if population_size is None else _sample(group)
                found.append(ComparisonRecord.of(method, baseline, under, compare(units, patients, population_size)))
    return adjust(found)


def _sample(conditions: Sequence[NoiseCondition]) -> NoiseCondition:
    """Conditions that differ in their labels alone, as one."""
    title = f"{conditions[0].title}, over {len(conditions)} groups of labels"
    return NoiseCondition(kind=conditions[0].kind, rate=conditions[0].rate, title=title, name=title)


def _data_record(name: str, store: Store, checks: tuple[CheckRecord, ...], split: Split) -> DataRecord:
    rows = {part: getattr(split, part) for part in PARTS}
    return DataRecord.of(
        name, store, checks,
        split=SplitRecord(name=split.name, fingerprint=split.fingerprint),
        n={part: len(of_part) for part, of_part in rows.items()},
        patients={part: len(np.unique(store.patients[of_part])) for part, of_part in rows.items()},
        positives={
            part: dict(zip(store.labels, (store.targets[of_part] == 1).sum(axis=0).tolist(), strict=True))
            for part, of_part in rows.items()
        },
    )  # fmt: skip


def _notes(records: Sequence[ArmRecord]) -> tuple[str, ...]:
    notes = ["Noise is in the training labels only: validation and test labels are as the data came."]
    if reused := sum(record.reused for record in records):
        notes.append(f"{reused} of {len(records)} arms were trained before with the same inputs and settings; reused.")
    return tuple(notes)
