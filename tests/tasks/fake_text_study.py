"""A made-up study on texts: three tasks in pairs, with random predictions that are compared like real ones."""

import numpy as np
from numpy.typing import NDArray

from models.evaluation.classification import TaskTest, evaluate
from models.evaluation.paired import compare_units
from models.evaluation.paired_classes import Group, class_differences
from tasks.records.arms import ArmRecord, Condition, ConditionRecord, LabelRecord, SimilarityRecord
from tasks.records.comparisons import ComparisonRecord, adjust_p_values, spread_records
from tasks.records.data import DataRecord, SplitRecord, TaskRecord
from tasks.records.scores import score_records
from tasks.records.study import StudyResults

TASKS = ("MR", "CR", "TREC")
PAIRS = (("MR", "CR"), ("MR", "TREC"), ("CR", "TREC"))
RIGHT = {"single": 0.75, "joint": 0.78, "aligned": 0.8}
N, SEEDS = 400, (0, 1, 2)


def part_of(task: str) -> TaskTest:
    place = TASKS.index(task)
    targets = np.random.default_rng(place).integers(2, size=N)
    return TaskTest(targets, place * N + np.arange(N), ("accuracy",))


def predictions(task: str, method: str, seed: int) -> NDArray:
    part = part_of(task)
    right = np.random.default_rng([seed, TASKS.index(task), list(RIGHT).index(method)]).random(N) < RIGHT[method]
    return np.eye(2)[np.where(right, part.targets, 1 - part.targets)]


def fake_text_study() -> StudyResults:
    arms = [_arm("single", (task,), seed) for task in TASKS for seed in SEEDS]
    arms += [_arm(method, pair, seed) for pair in PAIRS for method in ("joint", "aligned") for seed in SEEDS]
    comparisons: list[ComparisonRecord] = []
    for method, baseline in (("joint", "single"), ("aligned", "single"), ("aligned", "joint")):
        groups = {" and ".join(pair): _group(pair, method, baseline) for pair in PAIRS}
        each = [_record(method, baseline, name, {name: group}, False) for name, group in groups.items()]
        comparisons += [*adjust_p_values(each), _record(method, baseline, "all 3", groups, True)]
    tasks = tuple(
        TaskRecord(
            name=task, fingerprint=f"sha256:{task}", classes=("bad", "good"), metrics=("accuracy",),
            n={"train": 900, "val": 100, "test": N}, skipped=4, notes=("4 lines without a text left out",),
        )
        for task in TASKS
    )  # fmt: skip
    return StudyResults(
        config={"experiment": "pairs"},
        version="0",
        git=None,
        data=DataRecord(
            name="sentiment", fingerprint="sha256:0", labels=TASKS, tasks=tasks,
            split=SplitRecord(name="official", fingerprint="sha256:0"),
            n={"train": 2700, "val": 300, "test": 3 * N}, positives={},
        ),
        arms=tuple(arms),
        comparisons=tuple(comparisons),
        spread=spread_records(arms),
        seconds=61.0,
        notes=("MR, in a group with CR: <b>nothing</b>.",),
    )  # fmt: skip


def _arm(method: str, tasks: tuple[str, ...], seed: int) -> ArmRecord:
    tests = {task: part_of(task) for task in tasks}
    scores, mean = score_records(evaluate(tests, {t: predictions(t, method, seed) for t in tasks}), "sentences")
    similarity = (
        (SimilarityRecord(tasks=(tasks[0], tasks[1]), start=0.1, before=0.2, after=0.3 if "MR" in tasks else 0.15),)
        if len(tasks) > 1
        else ()
    )
    return ArmRecord(
        factors={"method": method, "condition": " and ".join(tasks)},
        condition=ConditionRecord(name=" and ".join(tasks)), seed=seed, metric="accuracy", mean=mean,
        by_label={
            t: LabelRecord(score=s.model_copy(update={"parts": {"accuracy": s.value}})) for t, s in scores.items()
        },
        similarity=similarity, facts={"validation": 0.7, "padding": 0.1, "width": 100.0}, best_epoch=3,
        items_per_second=1000.0, seconds=10.0,
    )  # fmt: skip


def _group(pair: tuple[str, str], method: str, baseline: str) -> Group:
    tests = {task: part_of(task) for task in pair}
    ours, theirs = (
        {seed: {task: predictions(task, which, seed) for task in pair} for seed in SEEDS}
        for which in (method, baseline)
    )
    return Group(dict.fromkeys(SEEDS, tests), ours, theirs)


def _record(method: str, baseline: str, name: str, groups: dict[str, Group], over_all: bool) -> ComparisonRecord:
    found = compare_units(class_differences(groups), crossed=over_all, sampled="sentences")
    noise = Condition(name=name)
    return ComparisonRecord.of(method, baseline, noise, found).model_copy(
        update={"metric": "accuracy", "experiment": "pairs", "over_all": over_all}
    )
