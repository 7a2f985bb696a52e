"""`medmtl doctor` on the whole stack: nothing is wrong, then the worker, the password, the files, the database are."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from mlflow.tracking import MlflowClient

from flows.upkeep import checks
from tasks.arms import mlflow_runs
from tests.stack.service import ROOT
from tests.stack.stack import Stack, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def healthy(deployed: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """The stack, used by this process too, with a finished arm that has a file."""
    for name, value in deployed.environment.items():
        monkeypatch.setenv(name, value)
    run = mlflow_runs.create_run(mlflow_runs.connect(), "arm", {mlflow_runs.KIND_TAG: "arm"}, {})
    client = MlflowClient()
    client.log_text(run, "{}", "facts.json")
    client.set_terminated(run)
    wait_until(lambda: not wrong(), "a stack on which nothing is wrong", 60)
    yield deployed
    deployed.start_again()
    client.delete_run(run)


def wrong() -> list[str]:
    return [f"{check.name}: {check.finding}" for check in checks() if check.status == "WRONG"]


def command(stack: Stack) -> tuple[int, str]:
    """The exit code of the command, and what it printed, in which no password is."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "doctor"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert not done.stderr
    assert not [each.name for each in stack.services if each.password in done.stdout]
    return done.returncode, done.stdout


def test_a_healthy_stack_has_no_wrong_line_and_a_worker_that_dies_is_named(healthy: Stack) -> None:
    code, told = command(healthy)
    assert (code, "WRONG" in told) == (0, False), told
    assert re.search("^ok +pool local +1 worker is online", told, re.MULTILINE)
    assert re.search(
        "^ok +MLflow files +those of the newest arm, 1 at mlflow-artifacts:/.* can be read", told, re.MULTILINE
    )
    healthy.worker.kill()
    wait_until(lambda: bool(wrong()), "the worker's silence", 60)
    (line,) = wrong()
    assert re.match("pool local: no worker is online, .*prefect worker start --pool local", line)


def test_a_server_that_answers_and_cannot_do_its_work_is_not_all_right(
    healthy: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("PREFECT_API_AUTH_STRING", "medmtl:geheim17")
        (line,) = wrong()
        assert re.match("Prefect: .*answers 401", line)
    moved = healthy.mlflow.artifacts.rename(healthy.mlflow.artifacts.with_name("moved"))
    files, *models = wrong()
    assert re.match("MLflow files: .*--artifacts-destination", files)
    # champions that other tests made on this stack
    assert all(re.match("model .*its files are not in MLflow; medmtl rollback", line) for line in models)
    moved.rename(healthy.mlflow.artifacts)
    healthy.postgres.kill()
    of_prefect, of_mlflow = wrong()
    assert re.match("Prefect: PREFECT_API_URL: .* answers 50.: .*; ", of_prefect)
    assert re.match("MLflow: MLFLOW_TRACKING_URI: .* answers 50.: .*; ", of_mlflow)
