"""results.json keeps its promises: one schema, no made-up number, never half a file."""

import json
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from data_prep.errors import DataError
from models.evaluation.auc import Score
from models.evaluation.paired import Comparison
from tasks.data.ingest_report import IngestResults
from tasks.images.promotion import EvaluationResults
from tasks.records.study import (
    ComparisonRecord,
    Condition,
    ScoreRecord,
    StoreRecord,
    StudyResults,
    adjust_p_values,
    average_scores,
    read_results,
    write_results,
)
from tests.tasks.fake_study import CLEAN, fake_study


def test_results_survive_writing_and_reading(tmp_path: Path) -> None:
    study = fake_study()
    write_results(study, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == study
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_the_file_has_the_keys_of_the_published_schema(tmp_path: Path) -> None:
    write_results(fake_study(), tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["schema"] == "medmtl/study/1"
    assert {"schema", "config", "version", "git", "data", "arms", "comparisons"} <= set(found)
    assert {"name", "fingerprint", "split", "n", "labels", "positives"} <= set(found["data"])
    arm = found["arms"][-1]
    assert {"method", "noise", "seed", "labels", "metric", "scores", "mean", "weights", "best_epoch"} <= set(arm)
    assert {"images_per_second", "seconds", "mlflow_run_id", "status"} <= set(arm)
    assert {"kind", "rate", "labels", "mask"} <= set(arm["noise"])
    assert {"value", "lo", "hi", "over"} <= set(arm["scores"]["Effusion"])
    assert set(arm["weights"][0]) == {"step", *arm["labels"]}
    comparison = found["comparisons"][0]
    assert {"method", "baseline", "noise", "delta", "lo", "hi", "p_value", "p_adjusted", "n_pairs"} <= set(comparison)
    assert comparison["over"] == "patients"


def test_a_label_that_cannot_be_scored_is_null_beside_its_reason(tmp_path: Path) -> None:
    write_results(fake_study(), tmp_path / "results.json")
    hernia = json.loads((tmp_path / "results.json").read_text())["arms"][0]["scores"]["Hernia"]
    assert hernia["value"] is None
    assert "patient" in hernia["reason"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_when_a_record_is_made(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        ScoreRecord.of(Score(value, None, None))


def test_nan_hidden_in_the_config_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(fake_study(), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(fake_study().model_copy(update={"config": {"rate": float("nan")}}), path)
    assert path.read_bytes() == before


def test_what_an_ingest_and_an_evaluation_found_is_written_by_the_same_rules(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    found = EvaluationResults(
        config={}, model_name="é", data="sha256:0", split="sha256:1", models=(), promoted=False, reason="none"
    )
    write_results(found, path)
    assert json.loads(path.read_text())["schema"] == "medmtl/evaluation/1"
    assert "é" in path.read_text(encoding="utf-8")
    data = fake_study().data.model_dump(include=set(StoreRecord.model_fields))
    more = {"path": "p", "reused": False, "images": 1, "patients": 1, "positives": {}, "unknown": {}, "megabytes": 1.0}
    ingest = IngestResults(config={"size": float("nan")}, version="0", data={**data, **more}, seconds=1.0)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(ingest, path)
    assert json.loads(path.read_text())["schema"] == "medmtl/evaluation/1"


def test_results_from_before_arms_had_a_cost_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(fake_study(), path)
    found = json.loads(path.read_text())
    for arm in found["arms"]:
        for name in ("step_seconds", "weighting_seconds", "peak_memory_mib"):
            del arm[name]
    path.write_text(json.dumps(found))
    assert {arm.step_seconds for arm in read_results(path).arms} == {None}


def test_a_write_that_is_cut_short_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    write_results(fake_study(), path)
    before = path.read_bytes()

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_results(fake_study(seeds=(5,)), path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"schema": "medmtl/study/2"}', "medmtl/study/2"),
        ("[]", "schema None"),
        ('{"schema": "medmtl/stu', "cannot read"),
        ('{"schema": "medmtl/study/1"}', "damaged: config"),
    ],
)
def test_a_file_that_is_not_such_results_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint) as caught:
        read_results(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_p_values_are_adjusted_over_all_comparisons_of_the_study() -> None:
    def comparison(p_value: float | None) -> ComparisonRecord:
        found = Comparison(0.01, 0.0, 0.02, p_value, {"clean": {0: 0.01}})
        return ComparisonRecord.of("svd", "uniform", Condition(), found)

    adjusted = adjust_p_values([comparison(p) for p in (0.04, 0.01, None)])
    assert [c.p_adjusted for c in adjusted] == [0.04, 0.02, None]


def test_an_unknown_key_is_refused() -> None:
    record = {**fake_study().model_dump(mode="json"), "surprise": 1}
    with pytest.raises(ValidationError, match="surprise"):
        StudyResults.model_validate(record)


def test_scores_are_averaged_over_seeds_and_missing_ones_stay_missing() -> None:
    first, second = (arm.scores for arm in fake_study().finished_arms("svd", CLEAN))
    mean = average_scores([first["Mass"], second["Mass"]])
    assert mean.value == pytest.approx((first["Mass"].value + second["Mass"].value) / 2)
    assert mean.hi == pytest.approx((first["Mass"].hi + second["Mass"].hi) / 2)
    assert "patient" in (average_scores([first["Hernia"], second["Hernia"]]).reason or "")
    assert average_scores([]).reason == "no arm finished"
