"""An outage of MLflow is waited out, said once, and leaves everything once, whatever answer got lost."""

import ast
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tasks.arms import mlflow_runs, outages
from tasks.arms.outages import outlasts_outages
from tasks.images.model_registry import CHALLENGER, REASON_TAG, register_model
from tasks.runtime.interrupts import interrupt_all
from tasks.runtime.progress import LOGGER

ROOT = Path(__file__).parents[3]
CALLS = [name for name, _ in inspect.getmembers(MlflowClient, inspect.isfunction) if not name.startswith("_")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of a test's own, without pauses, said at once."""
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(outages, "UNSAID_SECONDS", 0)
    monkeypatch.setattr(outages, "_outage", outages._Outage())


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The log lines."""
    lines: list[str] = []
    monkeypatch.setattr(LOGGER, "info", lambda line, *values: lines.append(line % values))
    return lines


def failing(times: int, error: Exception | None = None) -> Callable[[], str]:
    """A call that fails that often."""
    left = iter([error or ConnectionError("away")] * times)

    def call() -> str:
        for each in left:
            raise each
        return "done"

    return call


@pytest.mark.parametrize("times", [0, 1, 7])
def test_a_call_is_repeated_until_it_succeeds_and_the_outage_is_said_once(
    times: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:geheim@mlflow.example/base")
    assert outlasts_outages(outlasts_outages(failing(times)))() == "done"
    assert len(said) == (2 if times else 0)
    if times:
        assert said[0].startswith("MLflow's server at http://mlflow.example/base ")
        assert said[0].endswith("; waiting for it, 10 min at most; nothing is lost")
        assert said[1].startswith("MLflow answers again, after ")


def test_all_threads_tell_of_one_outage(said: list[str]) -> None:
    back, failed = threading.Event(), threading.Barrier(5)

    def call() -> None:
        if not back.is_set():
            failed.wait(60)
            raise ConnectionError

    with ThreadPoolExecutor(4) as pool:
        each = [pool.submit(outlasts_outages(call)) for _ in range(4)]
        for _ in range(3):
            failed.wait(60)
        back.set()
        failed.abort()
        for one in each:
            assert one.exception(60) is None or isinstance(one.exception(), threading.BrokenBarrierError)
    assert len([line for line in said if "waiting for it" in line]) == 1


def test_a_connection_that_breaks_off_once_is_not_worth_a_line(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "UNSAID_SECONDS", 60)
    assert outlasts_outages(failing(1))() == "done"
    assert said == []


def test_after_the_longest_outage_the_error_is_raised_and_no_step_around_it_waits_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(outages.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(outages, "sleep", lambda _: now.__setitem__(0, now[0] + 60))
    calls = []

    def call() -> None:
        calls.append(now[0])
        raise ConnectionError("away")

    with pytest.raises(ConnectionError):
        outlasts_outages(outlasts_outages(call))()
    assert calls == [60.0 * minute for minute in range(11)]


@pytest.mark.parametrize("error", [ValueError("x"), MlflowException("Timeout is no name", 1000), OSError("disk full")])
def test_an_error_of_ours_is_raised_at_once(error: Exception, said: list[str]) -> None:
    with pytest.raises(type(error)):
        outlasts_outages(failing(1, error))()
    assert said == []


def test_a_stop_ends_the_wait_in_every_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 600)
    monkeypatch.setattr("tasks.runtime.interrupts._stopped", threading.Event())
    begun = threading.Event()

    def call() -> None:
        begun.set()
        raise ConnectionError

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(outlasts_outages(call))
        assert begun.wait(60)
        interrupt_all()
        assert isinstance(waiting.exception(60), KeyboardInterrupt)


class Flaky(BaseHTTPRequestHandler):
    """MLflow's server, of whose answers some are bad."""

    bad: list[Callable[["Flaky"], None]]

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.bad:
            self.bad.pop()(self)
        else:
            self.answer(200, {"runs": []})

    def answer(self, status: int, body: Any) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


AWAY: dict[str, Callable[[Flaky], None]] = {
    "it breaks off": lambda server: server.connection.close(),
    "its database is away": lambda server: server.answer(500, {"error_code": "INTERNAL_ERROR", "message": "psycopg2"}),
    "it is busy": lambda server: server.answer(503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}),
    "too many ask": lambda server: server.answer(429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "x"}),
    "a proxy speaks for it": lambda server: server.answer(502, b"<html>Bad gateway</html>"),
}
REFUSALS: dict[str, Callable[[Flaky], None]] = {
    "it does not like the request": lambda server: server.answer(
        400, {"error_code": "INVALID_PARAMETER_VALUE", "message": "Timeout: 500 server errors"}
    ),
    "it does not know": lambda server: server.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "x"}),
    "it wants a password": lambda server: server.answer(401, b"who are you?"),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Flaky]]:
    handler = type("Handler", (Flaky,), {"bad": []})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    mlflow_runs.mlflow.set_tracking_uri(f"http://127.0.0.1:{http.server_port}")
    yield handler
    http.shutdown()
    mlflow_runs.mlflow.set_tracking_uri(None)


@pytest.mark.parametrize("what", AWAY)
def test_an_answer_that_says_that_the_server_is_away_is_waited_for(what: str, server: type[Flaky]) -> None:
    server.bad += [AWAY[what]] * 3
    assert mlflow_runs.find_run("0", "medmtl.arm", "abc") is None
    assert server.bad == []


@pytest.mark.parametrize("what", REFUSALS)
def test_an_answer_about_the_request_is_not(what: str, server: type[Flaky]) -> None:
    server.bad += [REFUSALS[what]] * 3
    with pytest.raises(MlflowException):
        mlflow_runs.find_run("0", "medmtl.arm", "abc")
    assert len(server.bad) == 2


@pytest.fixture
def lost_answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the first answer to each method of MLflow's client get lost after the work is done; gives their names."""
    lost: list[str] = []

    def losing(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            if name not in lost:
                lost.append(name)
                raise ConnectionError("the answer is lost")
            return result

        return call

    for name in CALLS:
        monkeypatch.setattr(MlflowClient, name, losing(name, getattr(MlflowClient, name)))
    return lost


def aliases() -> dict[str, str]:
    return {alias: str(version) for alias, version in MlflowClient().get_registered_model("a").aliases.items()}


def logged_model(client: MlflowClient, run_id: str) -> None:
    model = client.create_logged_model(client.get_run(run_id).info.experiment_id, "model", run_id)
    client.finalize_logged_model(model.model_id, "READY")


def test_whatever_answer_is_lost_there_is_one_run_with_everything_once(lost_answers: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    lost_answers.append("search_experiments")  # makes the database, which no server does
    run_id = mlflow_runs.create_run(mlflow_runs.connect(), "arm", {mlflow_runs.ARM_TAG: "abc"}, {"a": 1})
    parent = mlflow_runs.create_run(mlflow_runs.connect(), "study", {}, {})
    with mlflow_runs.active_run(parent):
        with mlflow_runs.active_run(run_id):
            mlflow_runs.log_metrics(run_id, {"auc": 0.5}, 1, 1000)
            mlflow_runs.log_dataset("data", tmp_path, "sha256:1", "store")
            mlflow_runs.log_artifact(str(tmp_path / "a.txt"))
            mlflow_runs.log_text("b", "b.txt")
            mlflow_runs.set_tags({"x": "y"})
            mlflow_runs.set_note(run_id, "note")
        assert "set_terminated" in lost_answers
        active = mlflow_runs.mlflow.active_run()
        assert active is not None
        assert active.info.run_id == parent
    assert {"create_experiment", "create_run", "search_runs", "log_batch"} <= set(lost_answers)
    lost_answers += CALLS  # no more
    found = MlflowClient().search_runs([each.experiment_id for each in MlflowClient().search_experiments()])
    assert sorted((each.info.run_id, each.info.status) for each in found) == sorted(
        [(run_id, "FINISHED"), (parent, "FINISHED")]
    )
    run = MlflowClient().get_run(run_id)
    assert (run.data.params, run.data.metrics) == ({"a": "1"}, {"auc": 0.5})
    assert len(MlflowClient().get_metric_history(run_id, "auc")) == len(run.inputs.dataset_inputs) == 1
    assert (run.data.tags["x"], run.data.tags[mlflow_runs.NOTE_TAG]) == ("y", "note")
    assert {file.path for file in MlflowClient().list_artifacts(run_id)} == {"a.txt", "b.txt"}
    assert mlflow_runs.download(run_id, "b.txt").read_text() == "b"


def test_whatever_answer_is_lost_a_run_has_one_version_in_the_registry(
    lost_answers: list[str], said: list[str]
) -> None:
    lost_answers += CALLS  # not yet
    runs = [mlflow_runs.create_run(mlflow_runs.connect(), f"arm {i}", {}, {}) for i in range(2)]
    for run_id in runs:
        logged_model(MlflowClient(), run_id)
    lost_answers.clear()
    assert register_model.fn(runs[0], "a") == "1"
    assert {"create_registered_model", "create_model_version", "set_registered_model_alias"} <= set(lost_answers)
    lost_answers.clear()
    assert register_model.fn(runs[1], "a") == register_model.fn(runs[1], "a") == "2"
    client = MlflowClient()
    lost_answers += CALLS
    found = {str(version.version): version for version in client.search_model_versions("name = 'a'")}
    assert {number: version.run_id for number, version in found.items()} == {"1": runs[0], "2": runs[1]}
    assert aliases() == {CHALLENGER: "2"}
    assert found["1"].tags[REASON_TAG] == "not evaluated: version 2 took its place"
    assert REASON_TAG not in found["2"].tags
    assert any(line.startswith("model: version 1, which was ") for line in said)


def test_an_evaluated_challenger_keeps_its_reason_and_an_older_version_is_no_challenger_again() -> None:
    runs = [mlflow_runs.create_run(mlflow_runs.connect(), f"arm {i}", {}, {}) for i in range(2)]
    client = MlflowClient()
    for run_id in runs:
        logged_model(client, run_id)
    register_model.fn(runs[0], "a")
    client.set_model_version_tag("a", "1", REASON_TAG, "not promoted: worse")
    client.delete_registered_model_alias("a", CHALLENGER)
    assert register_model.fn(runs[0], "a") == "1"
    assert aliases() == {}
    register_model.fn(runs[1], "a")
    assert register_model.fn(runs[0], "a") == "1"
    assert aliases() == {CHALLENGER: "2"}
    assert client.get_model_version("a", "1").tags[REASON_TAG] == "not promoted: worse"


IMPATIENT = {
    "tasks/arms/liveness.py": {"_renew"},  # it comes again soon
    "tasks/arms/mlflow_runs.py": {"_end", "_create_database"},  # called by those that wait; of a database of this home
    "tasks/images/model_registry.py": {"_models_of"},  # called by those that wait
    # medmtl promote and rollback take a second, and their last call changes all; the nightly's calls wait
    "tasks/images/championship.py": {
        "make_champion", "roll_back", "no_such_model", "numbered_version", "_check_usable", "_note",
    },
    "tasks/operations/doctor_mlflow.py": {"_questions"},  # medmtl doctor, which says what does not answer
    "tasks/operations/mlflow_records.py": {"__init__", "open", "refers_to"},  # medmtl clean, which is done again
    "tasks/runtime/servers.py": {"_ask_mlflow"},  # the check at the start
}  # fmt: skip
"""Functions that speak to MLflow and do not wait for it."""


def speaks_to_mlflow(function: ast.FunctionDef) -> bool:
    names = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    local = {"mlflow.set_tracking_uri", "mlflow.active_run"}
    return any(name == "MlflowClient" or name.startswith("mlflow.") for name in names - local)


def test_every_function_that_speaks_to_mlflow_waits_out_an_outage() -> None:
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / "tasks").rglob("*.py")):
        functions = [
            node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.FunctionDef)
        ]
        hasty = {
            function.name
            for function in functions
            if speaks_to_mlflow(function) and "outlasts_outages" not in map(ast.unparse, function.decorator_list)
        }
        found |= {str(file.relative_to(ROOT)): hasty} if hasty else {}
    assert found == IMPATIENT
