"""The deployments of prefect.yaml: registered, fired by their schedule, and run by hand with JSON."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from tasks.arms import mlflow_runs
from tasks.runtime.prefect_server import prefect_server, wait_until_up

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "data": {"size": 32, "phantom": {"patients": 60, "size": 64}},
    "split": {"shares": [0.5, 0.2, 0.3]},
    "training": {"epochs": 3},
}


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of its own: schedules must not fire into another test."""
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path / "home"))
    with prefect_server(tmp_path / "prefect") as url:
        wait_until_up(url)
        password = os.environ["PREFECT_API_AUTH_STRING"]
        # prefect read its own settings when it was imported
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}):
            yield url


def prefect(*arguments: str) -> None:
    """Prefect's own command; not through pipes, which something that it starts could hold open for ever."""
    command = [sys.executable, "-m", "prefect", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)


@contextmanager
def prefect_worker() -> Iterator[None]:
    """A worker of the pool; it has been seen not to end when asked to."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"]
    worker = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


def newest_runs() -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC)


def test_a_schedule_fires_without_a_hand_and_a_manual_run_takes_json(own_server: str, tmp_path: Path) -> None:
    prefect("work-pool", "create", "local", "--type", "process", "--overwrite")
    prefect("--no-prompt", "deploy", "--all")
    with get_client(sync_client=True) as client:
        registered = {deployment.name for deployment in client.read_deployments()}
    assert registered == {
        "study",
        "study-nightly",
        "train",
        "evaluate",
        "ingest",
        "classify",
        "sentiment",
        "glue",
        "theory",
    }

    # the nightly one again, small, and due in a moment; then not before a day has passed
    soon = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    (nightly,) = (entry for entry in soon["deployments"] if entry["name"] == "study-nightly")
    due = datetime.now(UTC) + timedelta(seconds=45)
    nightly["schedules"] = [{"interval": 24 * 3600, "anchor_date": due.isoformat(), "slug": "soon"}]
    nightly["parameters"] = {"out": str(tmp_path / "nightly"), "settings": SMALL | {"seeds": 1}}
    soon["deployments"] = [nightly]
    changed = tmp_path / "prefect.yaml"
    changed.write_text(yaml.safe_dump(soon).replace("{{ $PWD }}", str(ROOT)))
    prefect("--no-prompt", "deploy", "--all", "--prefect-file", str(changed))
    by_hand = {
        "out": str(tmp_path / "by hand"),
        "settings": SMALL | {"method": {"kind": "svd", "features": "running", "refresh": [1]}},
    }
    prefect("deployment", "run", "train/train", "--params", json.dumps(by_hand))

    with prefect_worker():
        scheduled, manual = wait_for_one_of_each()
    assert scheduled.state_name == manual.state_name == "Completed", (scheduled.state, manual.state)
    assert manual.parameters["settings"]["method"]["kind"] == "svd"
    for folder in ("nightly", "by hand"):
        assert (tmp_path / folder / "report.html").exists()
    experiment = mlflow_runs.connect()
    states = [run.info.status for run in MlflowClient().search_runs([experiment], "tags.`medmtl.kind` = 'study'")]
    assert "FINISHED" in states
    assert "FAILED" not in states


def wait_for_one_of_each() -> tuple[FlowRun, FlowRun]:
    """The first scheduled and the first manual run that are over."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        over = [run for run in newest_runs() if run.state and run.state.is_final()]
        scheduled = [run for run in over if run.auto_scheduled]
        manual = [run for run in over if not run.auto_scheduled]
        if scheduled and manual:
            return scheduled[0], manual[0]
        time.sleep(1)
    pytest.fail(f"after ten minutes: {[(run.name, run.state_name) for run in newest_runs()]}")
