"""A real MLflow server dies in mid-run, and so does the training; both come back, and nothing is lost or doubled."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tasks.arms import mlflow_runs
from tasks.arms.checkpoint_writer import UNSENT
from tasks.runtime.atomic_files import read_state
from tests.tasks.arms.paced_arm import ARM

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


def wait_for(what: Callable[[], Any], process: "subprocess.Popen[bytes]", said: Path, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.05)


class Processes:
    """An MLflow server on a port of its own, and trainings on it."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._started = folder, list["subprocess.Popen[bytes]"]()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def start(self, said: Path, *command: str) -> "subprocess.Popen[bytes]":
        names = {
            "MLFLOW_TRACKING_URI": self.url,
            "PYTHONPATH": str(ROOT),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        with said.open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], env=os.environ | names, cwd=self._folder, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip
        self._started.append(process)
        return process

    def server(self) -> "subprocess.Popen[bytes]":
        store = ["--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        store += ["--artifacts-destination", str(self._folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", self.url.rpartition(":")[2], "--workers", "1"]
        return self.start(self._folder / "server-said", "mlflow", "server", *store, *address)

    def is_up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def kill(self, process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_all(self) -> None:
        for process in self._started:
            self.kill(process)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    found.kill_all()


def test_an_outage_and_a_kill_in_it_lose_no_metric_and_log_none_twice(processes: Processes, tmp_path: Path) -> None:
    trained, said = ["tests.tasks.arms.paced_arm", str(tmp_path)], tmp_path / "said"
    server, client = processes.server(), MlflowClient(processes.url)
    wait_for(processes.is_up, server, tmp_path / "server-said")

    def runs() -> list[Any]:
        experiment = client.get_experiment_by_name(mlflow_runs.EXPERIMENT)
        return list(client.search_runs([experiment.experiment_id])) if experiment else []

    def allow(*epochs: int) -> None:
        for epoch in epochs:
            (tmp_path / f"epoch-{epoch}").touch()

    def unsent() -> dict[int, Any]:
        return (read_state(ARM.checkpoint) or {UNSENT: {}})[UNSENT]

    first = processes.start(said, *trained)
    allow(1, 2)
    wait_for(lambda: any(len(client.get_metric_history(run.info.run_id, "loss")) == 2 for run in runs()), first, said)
    processes.kill(server)
    allow(3, 4)
    wait_for(lambda: {3, 4} <= set(unsent()), first, said)  # training goes on
    wait_for(lambda: "nothing is lost" in said.read_text(), first, said)
    kept = unsent()
    processes.kill(first)
    allow(5, 6)
    second = processes.start(said, *trained)
    wait_for(lambda: said.read_text().count("nothing is lost") == 2, second, said)
    wait_for(processes.is_up, processes.server(), tmp_path / "server-said")
    assert second.wait(120) == 0, said.read_text()

    assert said.read_text().count(f"MLflow's server at {processes.url} is not there") == 2
    assert said.read_text().count("MLflow answers again, after") == 1
    (run,) = runs()
    assert (run.info.status, run.data.params) == ("FINISHED", {"seed": "0"})
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(epoch, 1 / epoch) for epoch in range(1, 7)]
    assert {point.step: point.timestamp for point in history if point.step in kept} == {
        epoch: timestamp for epoch, (timestamp, _) in kept.items()
    }
    assert len(client.list_artifacts(run.info.run_id, "arm")) == 2
    assert not ARM.folder.exists()
