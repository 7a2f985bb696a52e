"""results.json keeps its promises: one schema, no made-up number, never half a file."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from data_prep.errors import DataError
from models.evaluation.auc import Score
from models.evaluation.paired import Comparison
from tasks.data.ingest_report import IngestResults
from tasks.images.gate import NO_CHALLENGER
from tasks.images.promotion import EvaluationResults
from tasks.records.arms import ArmRecord, Condition, WeightsRecord
from tasks.records.base import write_results
from tasks.records.comparisons import ComparisonRecord, adjust_p_values, spread_records
from tasks.records.data import StoreRecord
from tasks.records.scores import ScoreRecord, average_scores
from tasks.records.study import StudyResults, read_results
from tests.tasks.fake_study import CLEAN, fake_study, interaction_study, policy_study


def test_results_survive_writing_and_reading(tmp_path: Path) -> None:
    study = fake_study()
    write_results(study, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == study
    assert sorted(file.name for file in tmp_path.iterdir()) == ["config.yaml", "results.json"]


def test_the_file_has_the_keys_of_the_published_schema(tmp_path: Path) -> None:
    write_results(fake_study(floor=True, controls={"svd": "permuted_weights(svd)"}), tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["schema"] == "medmtl/study/2"
    assert {"schema", "config", "version", "git", "data", "arms", "comparisons"} <= set(found)
    assert {"name", "fingerprint", "split", "n", "labels", "positives"} <= set(found["data"])
    arm = found["arms"][4]
    assert {"factors", "condition", "seed", "labels", "metric", "mean", "weights", "best_epoch"} <= set(arm)
    assert {"items_per_second", "seconds", "mlflow_run_id", "status", "common_factor"} <= set(arm)
    assert arm["factors"] == {"method": "uncertainty", "condition": arm["condition"]["name"]}
    assert {"kind", "rate", "labels", "mask"} <= set(arm["condition"])
    assert {"value", "lo", "hi", "over"} <= set(arm["labels"]["Effusion"]["score"])
    assert set(arm["weights"][0]) == {"step", "labels"}
    assert list(arm["weights"][0]["labels"]) == list(arm["labels"])
    names = {"method", "baseline", "condition", "delta", "lo", "hi", "over", "p_value", "p_adjusted", "n_pairs"}
    assert [len(found[role]) for role in ("comparisons", "floor", "controls")] == [6, 2, 2]
    for comparison in (*found["comparisons"], *found["floor"], *found["controls"]):
        assert names | {"by_seed", "detectable", "seeds_needed", "seeds_reason"} <= set(comparison)
    assert set(found["spread"][0]) == {"factors", "sd", "lo", "hi", "over", "seeds", "reason"}


def test_no_name_of_a_label_can_be_mistaken_for_another_key(tmp_path: Path) -> None:
    study = fake_study(seeds=(0,))
    named = {"step": "Mass", "method": "Effusion", "seed": "Nodule"}
    arm = study.arms[1]
    labels = {name: arm.by_label[label] for name, label in named.items()}
    weights = tuple(
        WeightsRecord(step=w.step, labels={n: w.labels[label] for n, label in named.items()}) for w in arm.weights
    )
    changed = arm.model_copy(update={"by_label": labels, "weights": weights})
    write_results(study.model_copy(update={"arms": (changed,)}), tmp_path / "results.json")
    (found,) = read_results(tmp_path / "results.json").arms
    assert found == changed
    assert found.weights[2].step == 80
    assert found.weights[2].labels["step"] == arm.weights[2].labels["Mass"]


def test_a_score_without_a_value_or_an_interval_has_a_reason() -> None:
    for incomplete in (Score(None, None, None), Score(0.7, None, None)):
        with pytest.raises(ValidationError, match="needs a reason"):
            ScoreRecord.of(incomplete)


def test_an_arm_says_its_method_and_condition_once(tmp_path: Path) -> None:
    arm = fake_study().arms[0].model_dump(mode="json")
    for factors in ({"condition": "clean"}, {"method": "svd"}, {"method": "svd", "condition": "noisy"}):
        with pytest.raises(ValidationError, match="factors hold its method"):
            ArmRecord.model_validate(arm | {"factors": factors})


def test_results_of_the_first_schema_are_read_into_the_present_form(tmp_path: Path) -> None:
    path = Path(__file__).with_name("study_1.json")
    old, found = json.loads(path.read_text()), read_results(path)
    assert (old["schema"], found.schema_) == ("medmtl/study/1", "medmtl/study/2")
    for before, after in zip(old["arms"], found.arms, strict=True):
        assert after.factors == {"method": before["method"], "condition": before["noise"]["name"]}
        assert after.condition.mask == before["noise"]["mask"]
        assert list(after.labels) == before["labels"]
        assert {label: score.value for label, score in after.scores.items()} == {
            label: score["value"] for label, score in before["scores"].items()
        }
        assert [{"step": row.step} | row.labels for row in after.weights] == before["weights"]
        assert all(tuple(row.labels) == after.labels for row in after.weights)
        assert after.items_per_second == before["images_per_second"]
    assert [c.delta for c in found.comparisons] == [c["delta"] for c in old["comparisons"]]
    assert [c.condition.name for c in found.comparisons] == [c["noise"]["name"] for c in old["comparisons"]]
    assert (found.floor, found.controls) == ((), ())
    assert {(row.factors["method"], row.sd) for row in found.spread} == {("uniform", None), ("svd", None)}
    write_results(found, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == found


def test_the_record_of_an_arm_that_an_earlier_version_trained_is_read(tmp_path: Path) -> None:
    (old, *_) = json.loads(Path(__file__).with_name("study_1.json").read_text())["arms"]
    found = ArmRecord.model_validate_json(json.dumps(old | {"factors": {"policy": "mixup"}}))
    assert found.factors == {"method": "uniform", "condition": "clean", "policy": "mixup"}
    with pytest.raises(ValidationError, match="not an arm of medmtl/study/1"):
        ArmRecord.model_validate({"noise": 3})


def test_the_spread_is_over_the_seeds_of_one_method_and_condition() -> None:
    arms = fake_study(seeds=(0, 1, 2)).arms
    found = {tuple(row.factors.values()): row for row in spread_records(arms[:-1])}
    assert len(found) == 6
    for (method, condition), row in found.items():
        values = [a.mean.value for a in arms[:-1] if (a.method, a.condition.name) == (method, condition)]
        assert row.seeds == len(values)
        assert row.over == "seeds"
        if len(values) < 3:
            assert row.sd is None
            assert "2 seed(s) are too few" in str(row.reason)
        else:
            assert row.sd == pytest.approx(np.std(values, ddof=1))
            assert row.lo < row.sd < row.hi


def test_a_label_that_cannot_be_scored_is_null_beside_its_reason(tmp_path: Path) -> None:
    write_results(fake_study(), tmp_path / "results.json")
    hernia = json.loads((tmp_path / "results.json").read_text())["arms"][0]["labels"]["Hernia"]["score"]
    assert hernia["value"] is None
    assert "patient" in hernia["reason"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_when_a_record_is_made(value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        ScoreRecord.of(Score(value, None, None, "no interval"))


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
        config={}, model_name="é", data="sha256:0", split="sha256:1", models=(), verdict=NO_CHALLENGER
    )
    write_results(found, path)
    assert json.loads(path.read_text())["schema"] == "medmtl/evaluation/2"
    assert "é" in path.read_text(encoding="utf-8")
    data = fake_study().data.model_dump(include=set(StoreRecord.model_fields))
    more = {"path": "p", "reused": False, "images": 1, "patients": 1, "positives": {}, "unknown": {}, "megabytes": 1.0}
    ingest = IngestResults(config={"size": float("nan")}, version="0", data={**data, **more}, seconds=1.0)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(ingest, path)
    assert json.loads(path.read_text())["schema"] == "medmtl/evaluation/2"


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
        ('{"schema": "medmtl/study/3"}', "medmtl/study/3"),
        ("[]", "schema None"),
        ('{"schema": "medmtl/stu', "cannot read"),
        ('{"schema": "medmtl/study/2"}', "damaged: config"),
        ('{"schema": "medmtl/study/1"}', "damaged: config"),
        ('{"schema": "medmtl/study/1", "comparisons": [3]}', "damaged"),
        ('{"schema": "medmtl/study/1", "arms": [{"noise": 3}]}', "damaged: config"),
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


def test_a_comparison_says_its_factor_only_where_it_is_not_the_method(tmp_path: Path) -> None:
    study = fake_study()
    of_policy = study.comparisons[0].model_copy(update={"factor": "policy", "held": {"method": "svd"}})
    write_results(study.model_copy(update={"comparisons": (study.comparisons[0], of_policy)}), tmp_path / "r.json")
    first, second = json.loads((tmp_path / "r.json").read_text())["comparisons"]
    assert not {"factor", "held"} & set(first)
    assert (second["factor"], second["held"]) == ("policy", {"method": "svd"})
    assert read_results(tmp_path / "r.json").comparisons == (study.comparisons[0], of_policy)


def test_interactions_are_written_with_what_they_subtract_and_a_study_without_them_has_no_key_for_them(
    tmp_path: Path,
) -> None:
    study = interaction_study()
    write_results(study, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == study
    written = json.loads((tmp_path / "results.json").read_text())
    assert {row["minus"]["name"] for row in written["interactions"]} == {"clean"}
    assert not any("minus" in row for row in written["comparisons"])
    write_results(policy_study(), tmp_path / "without.json")
    assert "interactions" not in json.loads((tmp_path / "without.json").read_text())
    assert read_results(tmp_path / "without.json").interactions == ()


def test_the_baseline_policy_is_that_of_equal_steps() -> None:
    study = interaction_study()
    at_equal_compute_first = study.model_copy(update={"comparisons": study.comparisons[::-1]})
    assert study.baseline_policy == at_equal_compute_first.baseline_policy == "composed"


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
