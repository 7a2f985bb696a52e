"""MLflow's record of a run is right however the run ended."""

import os
import sqlite3
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from pathlib import Path

import mlflow
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient

from data_prep.errors import DataError
from tasks.arms import mlflow_runs
from tasks.arms.liveness import PROCESS_TAG
from tasks.runtime.escaping import escape_key
from tasks.runtime.home import home
from tasks.runtime.lease import lease_name


@pytest.fixture
def experiment() -> str:
    return mlflow_runs.connect()


def status(run_id: str) -> str:
    return MlflowClient().get_run(run_id).info.status


@pytest.mark.parametrize(
    ("raised", "ends"), [(None, "FINISHED"), (ValueError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_ends_in_the_state_it_deserves_and_leaves_its_parent_alone(
    experiment: str, raised: BaseException | None, ends: str
) -> None:
    parent = mlflow_runs.create_run(experiment, "parent", {}, {})
    child = mlflow_runs.create_run(experiment, "child", {"mlflow.parentRunId": parent}, {})
    with mlflow_runs.active_run(parent):
        with pytest.raises(type(raised)) if raised else nullcontext(), mlflow_runs.active_run(child):
            if raised:
                raise raised
        assert status(child) == ends
        assert status(parent) == "RUNNING"
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == parent


def test_a_run_of_a_process_that_is_gone_is_marked_killed_at_the_next_start(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = mlflow_runs.create_run(experiment, "ours", {}, {})
    gone = f"{lease_name().partition(':')[0]}:{0:016x}"
    monkeypatch.setattr(mlflow_runs, "signature", lambda: {PROCESS_TAG: gone})
    orphan = mlflow_runs.create_run(experiment, "orphan", {}, {})
    mlflow_runs.connect()
    assert (status(ours), status(orphan)) == ("RUNNING", "KILLED")


def test_metrics_logged_again_after_a_resume_stand_once(experiment: str) -> None:
    run = mlflow_runs.create_run(experiment, "arm", {}, {})
    for _ in range(2):
        mlflow_runs.log_metrics(run, {"val_auc/Mass (big)": 0.5, "undefined": float("nan")}, step=3, timestamp_ms=1000)
    history = MlflowClient().get_metric_history(run, "val_auc/Mass _x28_big_x29_")
    assert [(point.step, point.value) for point in history] == [(3, 0.5)]
    assert "undefined" not in MlflowClient().get_run(run).data.metrics


def test_runs_are_shown_by_a_server_or_by_a_command_and_neither_gives_anything_away(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = mlflow_runs.runs_record().command
    assert command is not None
    assert "MEDMTL_HOME" in command
    assert os.environ["MEDMTL_HOME"] not in command
    assert subprocess.check_output(["sh", "-c", f"echo {command}"], text=True).split()[-1] == home().tracking_uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/base/")
    monkeypatch.setattr(mlflow_runs, "connect", lambda: "7")
    shown = mlflow_runs.runs_record()
    assert (shown.address, shown.command) == ("https://mlflow.example/base/#/experiments/7/runs/", None)


def test_a_run_has_a_page_where_mlflow_is_a_server(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = mlflow_runs.create_run(experiment, "arm", {}, {})
    assert mlflow_runs.run_url(run) is None
    monkeypatch.setattr(mlflow_runs, "experiment_of", lambda _: "7")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/base/")
    assert mlflow_runs.run_url(run) == f"https://mlflow.example/base/#/experiments/7/runs/{run}"


def drawn_names(count: int) -> list[str]:
    """Names that differ, of what other systems refuse, fold or take for something else, from a seed."""
    random = np.random.default_rng(0)
    parts = [
        "/",
        "//",
        ".",
        "..",
        "_x28_",
        "(",
        ")",
        "[",
        ",",
        ";",
        ":",
        "'",
        '"',
        "`",
        "%",
        "$x$",
        "é",
        "e\u0301",
        "ﬁ",
        " ",
    ]
    parts += ["\x1b[31m", "\u202e", "🩻", "step", "mean", "Mass", "mass", "</script>", "x" * 150]
    names = {"".join(random.choice(parts, random.integers(1, 9))) for _ in range(4 * count)}
    return sorted(names)[:count]


def test_metrics_and_parameters_of_names_that_mlflow_refuses_are_read_back_each_under_a_key_of_its_own(
    experiment: str,
) -> None:
    names = drawn_names(300)
    numbers = {name: float(number) for number, name in enumerate(names)}
    rates = {"noise": {"rates": numbers}}
    run = mlflow_runs.create_run(experiment, "".join(names), {}, rates)
    mlflow_runs.log_metrics(run, {f"val_auc/{name}": number for name, number in numbers.items()}, 1, 1000)
    found = MlflowClient().get_run(run)
    assert sorted(found.data.metrics.values()) == sorted(numbers.values())
    assert [found.data.metrics[escape_key(f"val_auc/{name}")] for name in names] == list(numbers.values())
    assert [float(found.data.params[key]) for key in mlflow_runs.flatten(rates)] == list(numbers.values())
    assert len(found.data.params) == len(names)


def test_a_dataset_may_have_any_name(experiment: str, tmp_path: Path) -> None:
    run = mlflow_runs.create_run(experiment, "arm", {}, {})
    with mlflow_runs.active_run(run):
        mlflow_runs.log_dataset("".join(drawn_names(300)), tmp_path, "sha256:1", "store")
    assert len(MlflowClient().get_run(run).inputs.dataset_inputs) == 1


def test_an_arm_is_found_again_by_its_hash_and_no_other_is(experiment: str) -> None:
    run = mlflow_runs.create_run(experiment, "arm", {mlflow_runs.ARM_TAG: "abc"}, {"a": {"b": 1}})
    found = mlflow_runs.find_run(experiment, mlflow_runs.ARM_TAG, "abc")
    assert found is not None
    assert found.info.run_id == run
    assert found.data.params == {"a.b": "1"}
    assert mlflow_runs.find_run(experiment, mlflow_runs.ARM_TAG, "abd") is None


def test_parameters_that_a_kill_kept_from_a_run_are_given_to_it_and_no_other_changes(experiment: str) -> None:
    run = MlflowClient().create_run(experiment)
    mlflow_runs.resume_run(run, {"a": 1})
    assert mlflow_runs.resume_run(MlflowClient().get_run(run.info.run_id), {"a": 2, "b": {"c": 3}}) == run.info.run_id
    assert MlflowClient().get_run(run.info.run_id).data.params == {"a": "1", "b.c": "3"}


def test_a_database_whose_making_was_interrupted_is_made_anew() -> None:
    unfinished = home().root / "mlflow.db.unfinished"
    unfinished.write_bytes(b"half")
    assert mlflow_runs.connect() == mlflow_runs.connect()
    assert not unfinished.exists()


def test_runs_that_name_the_same_data_for_the_first_time_at_once_all_succeed(experiment: str, tmp_path: Path) -> None:
    at_once = 4
    together = threading.Barrier(at_once)

    def name(digest: int) -> str:
        run = mlflow_runs.create_run(experiment, "arm", {}, {})
        with mlflow_runs.active_run(run):
            together.wait(60)
            mlflow_runs.log_dataset("phantom", tmp_path, f"sha256:{digest}", "store")
        return run

    for digest in range(5):
        with ThreadPoolExecutor(at_once) as pool:
            runs = list(pool.map(name, [digest] * at_once))
        found = [MlflowClient().get_run(run) for run in runs]
        assert {run.info.status for run in found} == {"FINISHED"}
        assert {used.dataset.digest for run in found for used in run.inputs.dataset_inputs} == {str(digest)}


SPOILED = st.sampled_from(
    [
        ("UPDATE runs SET start_time = ?", None),
        ("UPDATE runs SET name = ?", None),
        ("UPDATE runs SET user_id = ?", None),
        ("UPDATE runs SET end_time = ?", "later"),
        ("UPDATE tags SET value = ? WHERE key = 'medmtl.process'", f"{'0' * 16}:../{'0' * 13}"),
        ("UPDATE tags SET value = ? WHERE key = 'medmtl.process'", "²:²"),
        ("UPDATE tags SET value = ? WHERE key = 'medmtl.alive'", "²"),
        ("UPDATE tags SET value = ? WHERE key = 'medmtl.alive'", "9" * 5000),
        ("UPDATE params SET value = ?", str(2**64)),
        ("UPDATE runs SET lifecycle_stage = ?", "nonsense"),
        ("UPDATE runs SET source_type = ?", "NONSENSE"),
    ]
)


@given(spoiled=st.lists(SPOILED, min_size=1, max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_old_records_of_any_kind_block_no_start(experiment: str, spoiled: list[tuple[str, str | None]]) -> None:
    mlflow_runs.create_run(experiment, "old", {}, {"seed": 1})
    with closing(sqlite3.connect(home().root / "mlflow.db")) as database:
        for statement, value in spoiled:
            with suppress(sqlite3.IntegrityError):
                database.execute(statement, (value,))
        database.commit()
    assert mlflow_runs.connect() == experiment
    assert status(mlflow_runs.create_run(experiment, "new", {}, {})) == "RUNNING"


def test_a_deleted_experiment_is_named_with_the_remedy(experiment: str) -> None:
    MlflowClient().delete_experiment(experiment)
    with pytest.raises(DataError, match=f"restore --experiment-id {experiment}"):
        mlflow_runs.connect()


def test_a_damaged_database_is_named() -> None:
    path = home().root / "mlflow.db"
    path.write_bytes(b"not a database at all")
    with pytest.raises(DataError, match=f"{path} is damaged"):
        mlflow_runs.connect()


def test_an_empty_database_is_made() -> None:
    (home().root / "mlflow.db").touch()
    assert mlflow_runs.connect() == mlflow_runs.connect()
