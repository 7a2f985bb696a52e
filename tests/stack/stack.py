"""All services together, and what tests ask of them: to deploy, to run, to wait, and to look at what was recorded."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.stack.service import ROOT, Service, kill_processes, marked
from tests.stack.services import MlflowServer, Postgres, PrefectServer, Worker, postgres_program
from tests.stack.webhook import Webhook

FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PAGE = 200  # Prefect's most in one answer


def missing_programs() -> list[str]:
    """Debian packages that the stack needs and this machine has not."""
    needed = {
        "postgresql": postgres_program("postgres"),
        "chromium": shutil.which("chromium"),
        "util-linux": shutil.which("setpriv"),
    }
    return [package for package, found in needed.items() if not found]


class Stack:
    """PostgreSQL, MLflow's server, Prefect's server, a worker, and a receiver of notifications."""

    def __init__(self, folder: Path, webhook: Webhook) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.webhook = webhook
        self.postgres = Postgres(folder)
        self.mlflow = MlflowServer(folder, self.postgres.url("mlflow"))
        self.prefect = PrefectServer(folder, self.postgres.url("prefect", "postgresql+asyncpg"))
        self.worker = Worker(folder, self.environment)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which a command uses the stack."""
        own = {"MLFLOW_TRACKING_URI": self.mlflow.url, "MEDMTL_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        return self.prefect.client | own

    @property
    def services(self) -> tuple[Service, ...]:
        return self.postgres, self.mlflow, self.prefect, self.worker

    def start(self) -> None:
        """Start all but the worker, which needs a pool: `deploy` makes one."""
        self.postgres.create()
        self.postgres.start()
        self.postgres.wait_until_up()
        for database in ("mlflow", "prefect"):
            self.postgres.query("postgres", f"CREATE DATABASE {database}")
        for server in (self.mlflow, self.prefect):  # side by side
            server.start()
        for server in (self.mlflow, self.prefect):
            server.wait_until_up()

    def start_again(self) -> None:
        """Start what has been killed, the worker last."""
        for service in self.services:
            if service.process is None or service.process.poll() is not None:
                service.process = None
                service.start()
                service.wait_until_up()

    def end(self) -> None:
        """Kill all that the stack has started; nothing is left to lose."""
        kill_processes(marked(self.folder))
        for service in reversed(self.services):
            if service.process:
                service.kill()
        self.postgres.remove()

    def run_command(self, *command: str, **variables: str) -> str:
        """Run `python -m COMMAND` in the folder of the project against the stack; return what it said."""
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | self.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def deploy(self, *names: str) -> str:
        """Register deployments of prefect.yaml and all that watches over them; the webhook gets the notifications.

        They have no schedules, so that none fires while the tests run.
        """
        content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
        content["deployments"] = [entry for entry in content["deployments"] if entry["name"] in names]
        for entry in content["deployments"]:
            entry.pop("schedules", None)
        file = self.folder / "prefect.yaml"
        file.write_text(yaml.safe_dump(content))
        return self.run_command("flows.cli", "deploy", "--file", str(file), "--webhook", self.webhook.url)

    def submit(self, deployment: str, parameters: Mapping[str, Any]) -> str:
        """Ask for a run of a deployment ('flow/name'); return the run's id."""
        known = self.prefect.ask("GET", f"deployments/name/{deployment}")
        asked = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        run = self.prefect.ask("POST", f"deployments/{known['id']}/create_flow_run", asked)
        return str(run["id"])

    def flow_run(self, run_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.prefect.ask("GET", f"flow_runs/{run_id}")
        return found

    def flow_runs(self, **filters: Any) -> list[dict[str, Any]]:
        """Runs of flows, the newest first; `state={"type": {"any_": [...]}}` and the like, as in Prefect's API."""
        asked = {"sort": "EXPECTED_START_TIME_DESC", "limit": PAGE}
        found: list[dict[str, Any]] = self.prefect.ask("POST", "flow_runs/filter", asked | {"flow_runs": filters})
        return found

    def task_runs(self, run_id: str) -> list[dict[str, Any]]:
        asked = {"flow_runs": {"id": {"any_": [run_id]}}, "limit": PAGE}
        found: list[dict[str, Any]] = self.prefect.ask("POST", "task_runs/filter", asked)
        return found

    def log_lines(self, run_id: str) -> list[str]:
        """What Prefect shows as a flow run's log, the oldest line first."""
        asked = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC", "limit": PAGE}
        found: list[str] = []
        while len(page := self.prefect.ask("POST", "logs/filter", asked | {"offset": len(found)})) > 0:
            found += [line["message"] for line in page]
        return found

    def artifacts(self, run_id: str) -> list[dict[str, Any]]:
        asked = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        found: list[dict[str, Any]] = self.prefect.ask("POST", "artifacts/filter", asked)
        return found

    def wait_for(self, run_id: str, seconds: float = 600) -> dict[str, Any]:
        """Wait until a run is over; return it."""
        wait_until(lambda: self.flow_run(run_id)["state_type"] in FINAL, f"end of flow run {run_id}", seconds)
        return self.flow_run(run_id)

    def flow_processes(self, run_id: str) -> list[int]:
        """The process of a flow run, as long as it lives."""
        return marked(self.folder, f"PREFECT__FLOW_RUN_ID={run_id}")

    def what_was_said(self, run_id: str) -> str:
        """For the message of a failed test: the run's state, its log and the worker's."""
        state = json.dumps(self.flow_run(run_id)["state"], indent=1)
        return "\n".join([state, *self.log_lines(run_id)[-40:], "the worker's log:", self.worker.said()])


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    with Webhook() as webhook:
        stack = Stack(folder, webhook)
        try:
            stack.start()
            yield stack
        finally:
            stack.end()


def wait_until(holds: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.2)
