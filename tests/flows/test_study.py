"""The main job, small: images to MLflow and a report, once; then reused, repeated, resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from data_prep.labels.adjudicated import CORRESPONDING_FINDINGS, combined_targets
from data_prep.labels.splits import make_split
from data_prep.labels.table import read_labels
from data_prep.store.store import Store
from flows.cli import BAD_INPUT, INTERRUPTED, OK, exit_code
from flows.settings import compose
from flows.train import TrainSettings
from tasks.arms import mlflow_runs
from tasks.records.study import ComparisonRecord, read_results

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found


def numbers_of(results: dict[str, Any]) -> dict[str, Any]:
    """All of it but times, run ids, and what says where and whether it was made before."""
    passing = {
        "seconds",
        "items_per_second",
        "mlflow_run_id",
        "reused",
        "notes",
        "environment",
        "git",
        "computing_seconds",
        "peak_memory_mib",
        "step_seconds",
        "weighting_seconds",
        "runs",
    }
    return json.loads(
        json.dumps(results),
        object_hook=lambda node: {key: value for key, value in node.items() if key not in passing},
    )


def runs(kind: str) -> list[Run]:
    experiment = mlflow_runs.connect()
    return list(MlflowClient().search_runs([experiment], f"tags.`medmtl.kind` = '{kind}'"))


def test_a_study_leaves_its_results_its_report_and_its_record_in_mlflow(
    medmtl_home: Path, small: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["study", *small, "--out", "out"]) == OK
    results = results_of(Path("out"))
    assert [arm["status"] for arm in results["arms"]] == ["finished"] * 4
    assert Path("out/report.html").read_text().startswith("<!doctype html>")
    (study,) = runs("study")
    arms = runs("arm")
    assert {arm.info.status for arm in [study, *arms]} == {"FINISHED"}
    assert {arm.info.run_id for arm in arms} == {arm["mlflow_run_id"] for arm in results["arms"]}
    assert {arm.data.tags[mlflow_runs.PARENT_TAG] for arm in arms} == {study.info.run_id}
    assert all({data.tags[0].value for data in arm.inputs.dataset_inputs} == {"store", "noise mask"} for arm in arms)
    history = MlflowClient().get_metric_history(arms[0].info.run_id, "val_auc_mean")
    assert [point.step for point in history] == [1, 2, 3]
    assert all(f"weight/{label}" in arms[0].data.metrics for label in results["data"]["labels"])
    assert {"cost/step_seconds", "cost/weighting_seconds"} <= set(arms[0].data.metrics)
    assert {"medmtl.compilation", "medmtl.placement"} <= set(arms[0].data.tags)
    assert all(arm["step_seconds"] > 0 for arm in results["arms"])
    assert "Traceback" not in capfd.readouterr().err

    first = numbers_of(results)
    assert exit_code(["study", *small, "--out", "out"]) == OK
    again = results_of(Path("out"))
    assert numbers_of(again) == first
    assert all(arm["reused"] for arm in again["arms"])
    assert len(runs("arm")) == 4
    said = capfd.readouterr().err
    assert "reused, nothing rendered" in said
    assert "reused, nothing decoded" in said
    assert said.count("reused, trained before") == 4

    assert exit_code(["study", *small, "--out", "out", "--seed", "3"]) == BAD_INPUT
    assert "--force" in capfd.readouterr().err
    assert numbers_of(results_of(Path("out"))) == first


def test_the_config_that_a_study_left_repeats_it_bit_for_bit_in_an_empty_home(
    medmtl_home: Path, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(["study", *small, "--out", "first"]) == OK
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "copy.yaml").write_bytes((tmp_path / "first" / "config.yaml").read_bytes())
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path / "another home"))
    assert exit_code(["study", "--config", "copy.yaml", "--out", "second"]) == OK
    assert numbers_of(results_of(Path("second"))) == numbers_of(results_of(tmp_path / "first"))


def test_a_logged_model_gives_the_scored_probabilities_without_this_project(
    medmtl_home: Path, small_train: list[str]
) -> None:
    assert exit_code(["train", *small_train, "--out", "out"]) == OK
    (arm,) = runs("arm")
    store = Store.open(next(path for path in (medmtl_home / "stores").iterdir() if path.is_dir()))

    settings = compose(TrainSettings, Path(small_train[1]), {})
    split = make_split(settings.split, store.images, store.patients)
    np.save("pixels.npy", store.pixels[split.test][:, None])
    program = (
        "import sys, mlflow, numpy as np\n"
        "mlflow.set_tracking_uri(sys.argv[1])\n"
        "model = mlflow.pyfunc.load_model(sys.argv[2])\n"
        "np.save('probabilities.npy', model.predict(np.load('pixels.npy')))\n"
        "assert not any(name.split('.')[0] in ('models', 'tasks', 'data_prep', 'flows') for name in sys.modules)\n"
    )
    version = MlflowClient().get_model_version("medmtl", "1")
    assert version.run_id == arm.info.run_id
    subprocess.run(
        [sys.executable, "-I", "-c", program, mlflow.get_tracking_uri(), "models:/medmtl/1"], check=True, timeout=400
    )
    scored = np.load(mlflow.artifacts.download_artifacts(run_id=arm.info.run_id, artifact_path="arm/predictions.npz"))
    np.testing.assert_allclose(np.load("probabilities.npy"), scored["test"], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)  # SIGKILL: test_kills.py
def test_a_stopped_study_goes_on_where_it_was(
    stop: signal.Signals, server: str, medmtl_home: Path, small: list[str], tmp_path: Path
) -> None:
    config = Path(small[1])
    config.write_text(config.read_text().replace("epochs: 3", "epochs: 6, batch_size: 8"))
    command = [sys.executable, "-m", "flows.cli", "study", *small, "--out", "out"]
    here = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}}
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **here)  # type: ignore[call-overload]
    wait_for_a_checkpoint(medmtl_home / "arms")
    running.send_signal(stop)
    said = running.communicate(timeout=300)[1]
    assert running.returncode == INTERRUPTED, said
    assert said.rstrip().endswith("run the same command again to resume")
    assert {run.info.status for run in runs("study")} == {"KILLED"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True, **here)  # type: ignore[call-overload]
    assert "goes on after epoch" in done.stderr
    assert {run.info.status for run in [*runs("study"), *runs("arm")]} == {"FINISHED"}
    assert (len(runs("study")), len(runs("arm"))) == (1, 4)
    for arm in runs("arm"):
        history = MlflowClient().get_metric_history(arm.info.run_id, "val_auc_mean")
        assert [point.step for point in history] == [1, 2, 3, 4, 5, 6]
    assert not list((medmtl_home / "arms").iterdir())


def wait_for_a_checkpoint(arms: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        if arms.is_dir() and list(arms.glob("*/checkpoint.pt")):
            return
        time.sleep(0.02)
    pytest.fail("no checkpoint after 400 seconds")


def test_a_second_truth_is_scored_beside_the_first(medmtl_home: Path, small: list[str]) -> None:
    """The radiologists agree with the phantom's test labels here, so both must give the same numbers."""
    assert exit_code(["study", *small, "--out", "once"]) == OK
    table = next((medmtl_home / "phantoms").rglob("Data_Entry*.csv"))
    truth = read_labels(table)
    answers = combined_targets(truth.targets, truth.labels)
    lines = [",".join(["Image Index", "Patient ID", "Set Id", *CORRESPONDING_FINDINGS])]
    for image, patient, row in zip(truth.images, truth.patients, answers, strict=True):
        lines.append(",".join([image, patient, "test", *("YES" if cell == 1 else "NO" for cell in row)]))
    Path("truth.csv").write_text("\n".join(lines) + "\n")
    assert exit_code(["study", *small, "--adjudicated", "truth.csv", "--out", "twice"]) == OK
    results = results_of(Path("twice"))
    assert all(arm["reused"] for arm in results["arms"])
    second = results["adjudicated"]
    assert second["images"] == results["data"]["n"]["test"]
    assert len(second["scores"]) == 4 * (len(CORRESPONDING_FINDINGS) + 1)
    assert all(row["noisy"] == row["adjudicated"] for row in second["scores"])
    assert "Scores against adjudicated labels" in Path("twice/report.html").read_text()

    assert exit_code(["study", *small, "--adjudicated", "nowhere.csv", "--out", "third"]) == BAD_INPUT


def test_a_profile_says_where_the_time_goes_and_trains_nothing(medmtl_home: Path, small_train: list[str]) -> None:
    assert exit_code(["train", *small_train, "--profile", "--out", "profiled"]) == OK
    found = json.loads(Path("profiled/profile.json").read_text())
    assert {"input", "forward", "backward", "optimiser", "logging"} <= {row["part"] for row in found["rows"]}
    assert sum(row["share"] for row in found["rows"]) == pytest.approx(1)
    assert not runs("arm")
    assert [run.info.status for run in runs("profile")] == ["FINISHED"]


def new_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home in which there is nothing to reuse."""
    monkeypatch.setenv("MEDMTL_HOME", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)  # MLflow sets it itself when told where its store is


@pytest.mark.long
@pytest.mark.skipif(find_spec("prefect_ray") is None, reason="the extra 'ray' is not installed")
def test_a_study_on_a_ray_cluster_of_its_own_gives_the_numbers_of_threads(
    medmtl_home: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exit_code(["study", *small, "--out", "threads"]) == OK
    Path("small.yaml").write_text(Path("small.yaml").read_text() + "runner: {kind: ray, threads: 1}\n")
    new_home(medmtl_home.with_name("other"), monkeypatch)
    # a process of its own: Ray reads its way of authentication once, and a test may have imported it before
    command = [sys.executable, "-m", "flows.cli", "study", *small, "--out", "ray"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, timeout=600)
    ray = results_of(Path("ray"))
    assert not any(arm["reused"] for arm in ray["arms"])
    assert numbers_of(ray) == numbers_of(results_of(Path("threads"))) | {"config": ray["config"]}


def test_arms_trained_at_once_have_the_numbers_of_arms_trained_alone(
    medmtl_home: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for at_once in (1, 4):
        new_home(medmtl_home.with_name(f"home{at_once}"), monkeypatch)
        config = Path(f"{at_once}.yaml")
        config.write_text(Path(small[1]).read_text() + f"runner: {{arms_at_once: {at_once}, threads: 1}}\n")
        assert exit_code(["study", "--config", str(config), "--out", f"out{at_once}"]) == OK
        results = results_of(Path(f"out{at_once}"))
        assert not any(arm["reused"] for arm in results["arms"])
        found[at_once] = numbers_of(results) | {"config": None}
    assert found[1] == found[4]


def test_a_training_of_svd_trains_the_network_with_uniform_weights_first_and_registers_the_other(
    medmtl_home: Path, small_train: list[str]
) -> None:
    assert exit_code(["train", *small_train, "--method", "svd", "--out", "out"]) == OK
    arms = {arm.method: arm for arm in read_results(Path("out/results.json")).arms}
    assert {method: arm.status for method, arm in arms.items()} == {"uniform": "finished", "svd": "finished"}
    assert MlflowClient().get_model_version("medmtl", "1").run_id == arms["svd"].mlflow_run_id
    weights = np.array([list(moment.labels.values()) for moment in arms["svd"].weights])
    assert weights[0].std() > 0  # from the first epoch on
    assert (weights == weights[0]).all()
    ended = {method: MlflowClient().get_run(arm.mlflow_run_id).info for method, arm in arms.items()}
    assert ended["uniform"].end_time <= ended["svd"].start_time
    assert (arms["uniform"].source, arms["svd"].source) == (None, arms["uniform"].hash)

    assert exit_code(["train", *small_train, "--method", "permuted_weights", "--out", "other"]) == OK
    reused = {arm.method: arm.reused for arm in read_results(Path("other/results.json")).arms}
    assert reused == {"uniform": True, "permuted_weights(svd)": False}
    assert exit_code(["train", *small_train, "--out", "third"]) == OK
    assert [arm.reused for arm in read_results(Path("third/results.json")).arms] == [True]


def test_a_training_by_label_trust_reports_the_noise_of_each_label_and_what_cross_fitting_cost(
    medmtl_home: Path, small_train: list[str]
) -> None:
    assert exit_code(["train", *small_train, "--method", "trust", "--out", "out"]) == OK
    (arm,) = read_results(Path("out/results.json")).arms  # its features are from networks of its own
    assert {row.label for row in arm.trust} == set(arm.labels)
    assert all(row.lo <= row.noise <= row.hi for row in arm.trust if row.noise is not None)
    assert arm.weighting_seconds > 0
    assert "Estimated label noise" in Path("out/report.html").read_text()


def test_the_common_factor_of_weights_is_reported_apart_from_them(medmtl_home: Path, small_train: list[str]) -> None:
    assert exit_code(["train", *small_train, "--method", "uncertainty", "--out", "out"]) == OK
    (arm,) = read_results(Path("out/results.json")).arms
    assert arm.common_factor is not None
    assert 0 < arm.common_factor != 1
    assert "common_factor" not in arm.facts
    for moment in arm.weights:
        assert sum(moment.labels.values()) == pytest.approx(len(arm.labels))


def test_a_study_trains_its_noise_floor_and_its_controls(medmtl_home: Path, small: list[str]) -> None:
    config = Path(small[1])
    control = "{kind: permuted_weights, of: {kind: svd}}"
    text = (
        config.read_text().replace("floor: false", "floor: true").replace("{kind: svd}]", f"{{kind: svd}}, {control}]")
    )
    config.write_text(text)
    assert exit_code(["study", *small, "--out", "out"]) == OK
    results = read_results(Path("out/results.json"))
    assert [arm.status for arm in results.arms] == ["finished"] * 8

    def pairs(comparisons: tuple[ComparisonRecord, ...]) -> list[tuple[str, str]]:
        assert all(each.delta is not None for each in comparisons)
        return [(each.method, each.baseline) for each in comparisons]

    control = "permuted_weights(svd)"
    assert pairs(results.comparisons) == 2 * [("svd", "uniform")] + 2 * [(control, "uniform")]
    assert pairs(results.floor) == 2 * [("uniform, other seeds", "uniform")]
    assert pairs(results.controls) == 2 * [("svd", control)]
