"""A study on a Ray cluster whose machines are killed ends with the numbers of one without Ray, all recorded once.

The machines are those of docs/ray.md, started by its commands, as two on this one. A machine is killed with all of its
processes, as a power cut would.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from mlflow.tracking import MlflowClient
from prefect.client.orchestration import get_client

pytest.importorskip("prefect_ray", reason="Ray is not installed: pip install 'medmtl[ray]'")

from data_prep.errors import DataError
from tasks.arms import mlflow_runs
from tasks.arms.ray_cluster import check_answer

HEAD, OTHER = "127.0.0.2", "127.0.0.3"
ROOT = Path(__file__).parents[2]
SECONDS = 300  # far more than anything here takes on a quiet machine
EPOCHS, LONGER = 15, 200  # long enough to be killed in the middle, and to go on until the lost head is noticed
STUDY = """
data: {size: 32, phantom: {patients: 60, size: 64}}
split: {shares: [0.5, 0.2, 0.3]}
training: {epochs: EPOCHS, batch_size: 4}
methods: [{kind: uniform}, {kind: famo}]  # neither waits for the other
protocol: {kind: all, noise: [{kind: none}]}
seeds: 1
floor: false
device: cpu
"""
MEASURED = re.compile("seconds|per_second|memory|^mlflow_run_id$|^reused$")  # all else is equal


class Machine:
    """A machine of a Ray cluster, or a command on it, with all the processes that it starts."""

    started: ClassVar[list["Machine"]] = []

    def __init__(self, command: list[str], folder: Path, variables: dict[str, str], name: str) -> None:
        self.log = folder / f"{name}.log"
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self.started.append(self)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        return self.log.read_text()

    def locks(self, folder: Path) -> set[str]:
        """The names, without `.lock`, of the lock files in a folder that its processes have open."""
        opened = set()
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # ended since
                if os.getsid(int(process.name)) == self.process.pid:
                    opened |= {file.readlink() for file in process.glob("fd/*")}
        return {path.stem for path in opened if path.parent == folder and path.suffix == ".lock"}


class Cluster:
    """Two machines of one processor each."""

    def __init__(self, folder: Path, address: str | None) -> None:
        self.folder = folder
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.variables = {"RAY_USAGE_STATS_ENABLED": "0"} | token
        self.address = address or f"{HEAD}:{free_port()}"
        # other clusters may run beside this one
        own = [f"--temp-dir={folder}", f"--ray-client-server-port={free_port()}"]
        self.machines = [self._start(HEAD, "--head", own), self._start(OTHER, "--address", [])]

    def _start(self, host: str, kind: str, more: list[str]) -> Machine:
        """Type a command of the page, with this cluster's addresses and one processor."""
        page = (ROOT / "docs" / "ray.md").read_text()
        (options,) = re.findall(rf"^    \.venv/bin/ray start ({kind}.*)$", page, re.MULTILINE)
        for theirs, ours in (
            ("10.0.0.1:6379", self.address),
            ("10.0.0.1", HEAD),
            ("10.0.0.2", OTHER),
            ("6379", self.address.partition(":")[2]),
            ("--num-cpus=8", "--num-cpus=1"),
        ):
            options = options.replace(theirs, ours)
        command = ["ray.scripts.scripts", "start", *options.split(), *more]
        machine = Machine(command, self.folder, self.variables, host)
        wait_until(lambda: "Ray runtime started" in machine.said(), machine)
        return machine

    def logs(self) -> str:
        """All that Ray has written about this cluster; every user may read it."""
        return "".join(path.read_text(errors="replace") for path in self.folder.rglob("logs/*.*"))


@pytest.fixture
def cluster() -> Iterator[Callable[..., Cluster]]:
    """Starts clusters, at an address if one is given; afterwards nothing is left of them and of commands."""
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:  # names of sockets must be short
        yield lambda address=None: Cluster(Path(folder), address)
        while Machine.started:
            Machine.started.pop().kill()


class Study:
    """A study in a home of its own."""

    def __init__(self, folder: Path, cluster: Cluster | None, epochs: int) -> None:
        folder.mkdir()
        self.folder, self.home = folder, folder / "home"
        where = {"kind": "ray", "address": cluster.address} if cluster else {"arms_at_once": 2}
        (folder / "study.yaml").write_text(
            f"{STUDY.replace('EPOCHS', str(epochs))}\nrunner: {json.dumps(where | {'threads': 1})}\n"
        )
        self.variables = {"MEDMTL_HOME": str(self.home)} | (cluster.variables if cluster else {})
        self.command = self.start()

    def start(self) -> Machine:
        command = ["flows.cli", "study", "--config", "study.yaml", "--out", "out"]
        self.command = Machine(command, self.folder, self.variables, "study")
        return self.command

    def said(self) -> str:
        return self.command.said()

    def wait_until_an_arm_trains_on(self, machine: Machine) -> None:
        """Wait for the first checkpoint of an arm that a process of the machine has locked."""
        arms = self.home / "arms"
        wait_until(lambda: any((arms / arm / "checkpoint.pt").exists() for arm in machine.locks(arms)), self.command)

    def end(self) -> int:
        return self.command.process.wait(SECONDS)

    def numbers(self) -> Any:
        """Scores, comparisons and settings of the arms, less what a clock measured."""
        results = json.loads((self.folder / "out" / "results.json").read_text())
        kept = {key: results[key] for key in ("arms", "comparisons")}
        return json.loads(json.dumps(kept), object_hook=without_measured)

    def runs(self) -> Counter[tuple[str, str]]:
        """The kind and the state of each run in MLflow."""
        client = MlflowClient(f"sqlite:///{self.home / 'mlflow.db'}")
        experiment = client.get_experiment_by_name(mlflow_runs.EXPERIMENT)
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        return Counter((run.data.tags["medmtl.kind"], run.info.status) for run in runs)


ALL_ONCE = Counter({("arm", "FINISHED"): 2, ("study", "FINISHED"): 1})


def without_measured(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not MEASURED.search(key)}


def free_port() -> int:
    with socket.create_server((HEAD, 0)) as server:
        port: int = server.getsockname()[1]
    return port


def wait_until(holds: Callable[[], bool], machine: Machine) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert machine.process.poll() is None, machine.said()
        assert time.monotonic() < deadline, machine.said()
        time.sleep(0.02)


def unfinished_in_prefect() -> int:
    with get_client(sync_client=True) as client:
        states = [run.state for run in (*client.read_flow_runs(), *client.read_task_runs())]
    return sum(state is None or not state.is_final() for state in states)


def started(folder: Path, cluster: Callable[..., Cluster], epochs: int) -> tuple[Study, Cluster, Study]:
    """A study that ended without Ray, a cluster, and the same study there, an arm of it on the second machine."""
    alone = Study(folder / "alone", None, epochs)
    machines = cluster()
    assert alone.end() == 0, alone.said()
    study = Study(folder / "on-ray", machines, epochs)
    study.wait_until_an_arm_trains_on(machines.machines[1])
    return alone, machines, study


def must_have_ended_like(alone: Study, study: Study) -> None:
    """Look for the numbers of a study without Ray, for arms trained twice, and for what is left running."""
    assert study.end() == 0, study.said()
    assert study.said().count(": goes on after epoch ") >= 1, study.said()
    assert study.numbers() == alone.numbers()
    assert study.runs() == alone.runs() == ALL_ONCE
    assert unfinished_in_prefect() == 0


@pytest.mark.slow
def test_a_study_that_loses_a_machine_ends_with_the_numbers_of_one_without_ray(
    medmtl_home: Path, tmp_path: Path, cluster: Callable[..., Cluster]
) -> None:
    alone, machines, study = started(tmp_path, cluster, EPOCHS)
    machines.machines[1].kill()
    must_have_ended_like(alone, study)
    logs = machines.logs()
    assert str(study.home) in logs
    assert os.environ["PREFECT_API_AUTH_STRING"] not in logs
    with pytest.raises(DataError, match="wants its token: set RAY_AUTH_MODE=token"):
        check_answer(machines.address)  # this process has none


@pytest.mark.long
def test_a_study_whose_command_is_killed_goes_on_where_it_was(
    medmtl_home: Path, tmp_path: Path, cluster: Callable[..., Cluster]
) -> None:
    alone, _, study = started(tmp_path, cluster, EPOCHS)
    study.command.kill()
    study.start()
    must_have_ended_like(alone, study)


@pytest.mark.long
def test_a_study_whose_head_is_killed_says_so_in_one_line_and_goes_on_where_it_was(
    medmtl_home: Path, tmp_path: Path, cluster: Callable[..., Cluster]
) -> None:
    alone, machines, study = started(tmp_path, cluster, LONGER)
    machines.machines[0].kill()
    assert study.end() == 1, study.said()
    assert f"the head of the Ray cluster at {machines.address} has ended" in study.said().splitlines()[-1]
    machines.machines[1].kill()
    study.variables |= cluster(machines.address).variables
    study.start()
    must_have_ended_like(alone, study)
