"""Scores within each source: what tells the sources apart earns nothing, and a patient counts once."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks import within_source
from benchmarks.within_source import (
    Arm,
    Images,
    by_noise,
    cells,
    compare,
    differences,
    main,
    open_test_part,
    rows,
    sources_of,
    within_sources,
)
from data_prep.errors import DataError
from data_prep.labels.splits import SplitSettings
from models.evaluation.paired import Comparison, Unit, auc_differences, compare_units
from tasks.arms.base import ArmRef
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tasks.records.arms import ArmRecord, Condition, ConditionRecord, LabelRecord
from tasks.records.base import write_results
from tasks.records.comparisons import ComparisonRecord
from tasks.records.data import DataRecord, SplitRecord
from tasks.records.scores import MeanRecord, ScoreRecord
from tasks.records.study import StudyResults
from tasks.runtime.home import home
from tests.tasks.small_store import LABELS, write_small_store

N = 200
SPLIT = SplitSettings(shares=(0.1, 0.1, 0.8))


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(patients: NDArray, prevalence: NDArray, seed: int = 0) -> Images:
    targets = (generator(seed).random((len(patients), 2)) < prevalence[:, None]).astype(np.int8)
    return Images(np.array([f"{row}.png" for row in range(len(patients))]), patients, LABELS, targets)


NOISY = ConditionRecord(name="noisy", kind="random", rate=0.4)


def record(
    method: str, seed: int, mean: float | None = None, policy: str = "none", condition: ConditionRecord | None = None
) -> ArmRecord:
    unknown: dict[str, Any] = {"value": None, "lo": None, "hi": None, "reason": "made up"}
    condition = condition or ConditionRecord()
    return ArmRecord(
        factors={"method": method, "condition": condition.name, "policy": policy},
        condition=condition,
        seed=seed,
        by_label={label: LabelRecord(score=ScoreRecord(**unknown)) for label in LABELS},
        mean=MeanRecord(**unknown | {"value": mean}, labels=LABELS),
        best_epoch=1,
        items_per_second=None,
        seconds=1.0,
        mlflow_run_id=f"{method}/{seed}/{policy}/{condition.name}",
    )


def arm(method: str, seed: int, scores: NDArray, **of_record: Any) -> Arm:
    return Arm(record(method, seed, **of_record), seed, scores)


def halves(n: int = N) -> dict[str, NDArray[np.bool_]]:
    first = np.arange(n) < n // 2
    return {"first": first, "second": ~first}


def test_a_network_that_only_tells_the_sources_apart_is_no_better_than_chance_within_them() -> None:
    first = halves()["first"]
    test = images(np.arange(N), np.where(first, 0.1, 0.8))
    knows_the_source = np.tile((~first).astype(float)[:, None], (1, 2))
    (row,) = rows(within_sources(test, halves()), cells([arm("uniform", 0, knows_the_source)]))
    assert roc_auc_score(test.targets[:, 0], knows_the_source[:, 0]) > 0.8
    assert row.within == {"first": 0.5, "second": 0.5}


def test_scores_and_differences_are_those_of_scikit_learn_within_each_source() -> None:
    test, chosen = images(np.arange(N) // 3, np.full(N, 0.4)), halves()
    arms = [
        arm(method, seed, gain * test.targets + generator(seed).normal(size=(N, 2)))
        for method, gain in (("uniform", 0.5), ("svd", 1.5))
        for seed in range(3)
    ]
    parts, by_cell = within_sources(test, chosen), cells(arms)
    found = {row.method: row for row in rows(parts, by_cell)}

    def naive(method: str, source: str) -> float:
        here = chosen[source]
        return float(
            np.mean(
                [
                    roc_auc_score(test.targets[here, j], each.scores[here, j])
                    for each in arms
                    if each.record.method == method
                    for j in range(2)
                ]
            )
        )

    for method, row in found.items():
        assert row.seeds == 3
        assert row.within == pytest.approx({source: naive(method, source) for source in chosen})
        assert row.average == pytest.approx(np.mean(list(row.within.values())))
    difference, within = compare(parts, *(by_cell[method, "none", "clean"] for method in ("svd", "uniform")))
    assert difference.over == "seeds and patients"
    assert difference.delta == pytest.approx(found["svd"].average - found["uniform"].average)
    for source, of_source in within.items():
        assert of_source.delta == pytest.approx(naive("svd", source) - naive("uniform", source))


def test_a_patient_and_a_seed_in_both_sources_count_once() -> None:
    """The second source repeats the first: it adds nothing, and the interval stays as wide."""
    half = images(np.arange(N) // 2, np.full(N, 0.4))
    twice = half._replace(
        images=np.tile(half.images, 2), patients=np.tile(half.patients, 2), targets=np.tile(half.targets, (2, 1))
    )
    method, baseline = (
        {seed: half.targets + generator(10 * seed + side).normal(size=(N, 2)) for seed in range(3)} for side in (0, 1)
    )
    sides = [
        [arm(name, seed, np.tile(scores, (2, 1))) for seed, scores in of.items()]
        for name, of in (("svd", method), ("uniform", baseline))
    ]
    found, _ = compare(within_sources(twice, halves(2 * N)), *sides)
    alone = compare_units(auc_differences({"": Unit(half.targets, method, baseline)}, half.patients))
    assert (found.delta, found.lo, found.hi) == pytest.approx((alone.delta, alone.lo, alone.hi))


def test_a_source_without_a_label_to_score_is_refused() -> None:
    test = images(np.arange(N), np.where(halves()["first"], 0.4, 0.0))
    with pytest.raises(DataError, match="no label can be scored within a source: no positive image"):
        rows(within_sources(test, halves()), cells([arm("uniform", 0, np.zeros((N, 2)))]))


def test_an_image_belongs_to_the_first_folder_that_has_its_file(tmp_path: Path) -> None:
    for file in ("a/1.png", "a/deep/2.png", "b/2.png", "b/3.png"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    folders = {"a": tmp_path / "a", "b": tmp_path / "b"}
    assert sources_of(["1.png", "2.png", "3.png", "4.png"], folders).tolist() == [0, 0, 1, -1]
    with pytest.raises(DataError, match="none of the 1 test images"):
        sources_of(["1.png"], folders)
    with pytest.raises(DataError, match="no such folder"):
        sources_of(["1.png"], {"c": tmp_path / "c"})


def study(ref: StoreRef, **changes: Any) -> StudyResults:
    _, split = open_split(ref, SPLIT)
    data = DataRecord(
        name=ref.name,
        fingerprint=ref.fingerprint,
        labels=LABELS,
        split=SplitRecord(name="random", fingerprint=split.fingerprint),
        n={"test": len(split.test)},
        positives={},
    )
    arms = [(method, seed) for method in ("uniform", "svd") for seed in range(2)]
    arms += [("uniform, other seeds", seed) for seed in (2, 3)]
    return StudyResults(
        config={"seeds": 2, "split": SPLIT.model_dump(mode="json")},
        version="",
        git=None,
        data=data,
        arms=tuple(record(method, seed, mean=0.7) for method, seed in arms),
        comparisons=(comparison("svd", "uniform"),),
        floor=(comparison("uniform, other seeds", "uniform"),),
    ).model_copy(update=changes)


def test_a_study_of_another_home_or_split_is_refused() -> None:
    results = study(write_small_store(home().stores / "small"))
    assert len(open_test_part(results).images) == 24
    for part in ("data", "split"):
        other = results.data if part == "data" else results.data.split
        changed: Any = other.model_copy(update={"fingerprint": "sha256:other"})
        data = changed if part == "data" else results.data.model_copy(update={"split": changed})
        with pytest.raises(DataError, match=r"MEDMTL_HOME|its split is not"):
            open_test_part(results.model_copy(update={"data": data}))


def comparison(method: str, baseline: str, **more: Any) -> ComparisonRecord:
    return ComparisonRecord.of(
        method, baseline, more.pop("condition", Condition()), Comparison(0.0, 0.0, 0.0, 1.0), **more
    )


def test_policies_are_told_apart_and_noise_changes_their_difference_within_each_source() -> None:
    test = images(np.arange(N) // 2, np.full(N, 0.4))
    gains = {("composed", "clean"): 1.0, ("uncertainty", "clean"): 1.2, ("composed", "noisy"): 0.9}
    arms = [
        arm(
            method,
            seed,
            gains.get((policy, condition.name), 0.2) * test.targets + generator(seed).normal(size=(N, 2)),
            policy=policy,
            condition=condition,
        )
        for condition in (ConditionRecord(), NOISY)
        for policy in ("composed", "uncertainty")
        for method, seed in [*(("uniform", seed) for seed in range(3)), *(("svd", seed) for seed in range(3))]
    ]
    of_policy: dict[str, Any] = {"factor": "policy", "held": {"method": "uniform"}}
    clean, noisy, change = (
        comparison("uncertainty", "composed", condition=condition.shared(), minus=minus, **of_policy)
        for condition, minus in ((ConditionRecord(), None), (NOISY, None), (NOISY, Condition()))
    )
    made_up = StudyResults.model_construct(
        arms=tuple(each.record for each in arms), comparisons=(clean, noisy), floor=(), interactions=(change,)
    )
    parts, by_cell = within_sources(test, halves()), cells(arms)
    assert len(rows(parts, by_cell)) == 2 * 2 * 2
    found = differences(parts, by_cell, made_up)
    averages = [each.average.delta for each in found]
    assert averages[0] > 0 > averages[1]
    assert averages[2] == pytest.approx(averages[1] - averages[0])
    score_of = {row[:3]: row for row in rows(parts, by_cell)}
    for source in parts:
        cell = [
            score_of["uniform", policy, condition].within[source]
            for condition in ("noisy", "clean")
            for policy in ("uncertainty", "composed")
        ]
        assert found[2].within[source].delta == pytest.approx(cell[0] - cell[1] - (cell[2] - cell[3]))
    assert found[2].average.over == "seeds and patients"


def test_noisy_labels_and_the_others_are_scored_by_themselves() -> None:
    test = images(np.arange(N), np.full(N, 0.4))
    knows_the_first = np.stack([test.targets[:, 0].astype(float), np.zeros(N)], axis=1)
    (row,) = rows(by_noise(test, LABELS[:1]), cells([arm("uniform", 0, knows_the_first)]))
    assert row.within == {"noisy labels": 1.0, "other labels": 0.5}
    for noisy in ((), LABELS):
        with pytest.raises(DataError, match="of 2 labels are noisy in this study"):
            by_noise(test, noisy)


def test_what_has_no_finished_arm_is_not_compared() -> None:
    test = images(np.arange(N), np.full(N, 0.4))
    arms = [arm("uniform", 0, generator().normal(size=(N, 2)))]
    made_up = StudyResults.model_construct(
        arms=(arms[0].record,), comparisons=(comparison("svd", "uniform"),), floor=(), interactions=()
    )
    (found,) = differences(within_sources(test, halves()), cells(arms), made_up)
    assert (found.average.delta, found.average.reason) == (None, "no finished arm")


def test_the_command_scores_a_finished_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = write_small_store(home().stores / "small")
    write_results(study(ref), tmp_path / "results.json")
    store, split = open_split(ref, SPLIT)
    for row, image in enumerate(store.images.tolist()):  # a patient has one image in each source
        file = tmp_path / ("even" if row % 2 == 0 else "odd") / image
        file.parent.mkdir(exist_ok=True)
        file.touch()

    def read_arm(run: ArmRef) -> tuple[ArmRecord, dict[str, NDArray]]:
        method, seed, *_ = run.run_id.split("/")
        known = store.targets[split.test] * (method == "svd")
        same_for_a_pair = generator(int(seed) % 2).normal(size=known.shape)
        return record(method, int(seed)), {"test": known + same_for_a_pair}

    monkeypatch.setattr(within_source, "read_arm", read_arm)
    monkeypatch.setattr(within_source.mlflow_runs, "connect", lambda: "0")
    sources = [argument for name in ("even", "odd") for argument in ("--source", f"{name}={tmp_path / name}")]
    monkeypatch.setattr(sys, "argv", ["within_source", str(tmp_path / "results.json"), *sources])
    main()
    printed = capsys.readouterr().out
    written = json.loads(printed.splitlines()[-1])
    assert [row["method"] for row in written["rows"]] == ["uniform", "svd", "uniform, other seeds"]
    found = {difference["method"]: difference for difference in written["differences"]}
    assert set(found) == {"svd", "uniform, other seeds"}
    assert found["uniform, other seeds"]["delta"] == 0  # seed 2 is compared with 0, and 3 with 1
    assert found["svd"]["delta"] > 0.1
    assert found["svd"]["over"] == "patients"
    assert np.mean([of["delta"] for of in found["svd"]["within"].values()]) == pytest.approx(found["svd"]["delta"])
    assert "even: 12 test images of 12 patients" in printed
    assert "even: labels that can be scored: Nodule" in printed
    assert "(0.700)" in printed
