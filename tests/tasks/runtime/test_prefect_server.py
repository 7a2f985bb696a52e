"""After a command Prefect's own record is right, and no server of ours stays behind."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from tasks.runtime import prefect_server
from tasks.runtime.lease import lease_name

if TYPE_CHECKING:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.objects import FlowRun, State, TaskRun

COMMAND = textwrap.dedent("""
    import os, sys, time
    from pathlib import Path
    from tasks.runtime.env_defaults import set_env_defaults
    set_env_defaults()
    from tasks.runtime.prefect_server import mark_orphans_crashed, prefect_server, run_tags, wait_until_up
    with prefect_server(Path(sys.argv[1])) as url:
        from prefect import flow, get_client, tags, task
        wait_until_up(url)
        print("orphans", mark_orphans_crashed())

        def is_known():  # to the server: it hears of a step some time after its beginning
            with get_client(sync_client=True) as client:
                return any(run.state_name == "Running" for run in client.read_task_runs())

        @task
        def step(number):
            if number == 3 and sys.argv[2] == "killed":
                while not is_known():
                    time.sleep(0.1)
                os.kill(os.getpid(), 9)
            return number

        @flow
        def steps():
            return [step(number) for number in range(5)]

        with tags(*run_tags()):
            steps()
""")


def run(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(folder), how], capture_output=True, text=True, timeout=400, check=False
    )


def states(folder: Path, table: str) -> list[str]:
    with sqlite3.connect(folder / "prefect.db") as database:
        return sorted(state for (state,) in database.execute(f"select state_type from {table}_run"))


@pytest.mark.slow
def test_every_run_is_final_also_after_a_kill_and_the_terminal_shows_our_lines_only(tmp_path: Path) -> None:
    done = run(tmp_path, "whole")
    assert (done.returncode, done.stdout, done.stderr) == (0, "orphans 0\n", "")
    assert states(tmp_path, "flow") == ["COMPLETED"]
    assert states(tmp_path, "task") == ["COMPLETED"] * 5

    assert run(tmp_path, "killed").returncode == -signal.SIGKILL
    assert run(tmp_path, "whole").stdout != "orphans 0\n"
    assert states(tmp_path, "flow") == ["COMPLETED", "COMPLETED", "CRASHED"]
    assert set(states(tmp_path, "task")) == {"COMPLETED", "CRASHED"}


@pytest.mark.slow
def test_the_server_ends_when_its_command_is_killed(tmp_path: Path) -> None:
    from tasks.runtime.prefect_server import SERVE

    holder = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys, time\n"
         f"server = subprocess.Popen([sys.executable, *{SERVE!r}, '0'], stdin=subprocess.PIPE)\n"
         f"print(server.pid, flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PREFECT_HOME": str(tmp_path)},
    )  # fmt: skip
    assert holder.stdout is not None
    server = int(holder.stdout.readline())
    holder.kill()
    holder.wait()
    for _ in range(1200):
        if not Path("/proc", str(server)).exists():
            return
        subprocess.run(["sleep", "0.1"], check=True)
    pytest.fail("the server outlived its command by two minutes")


def spoil(folder: Path, statement: str, *values: str) -> None:
    with closing(sqlite3.connect(folder / "prefect.db")) as database:
        database.execute(statement, values)
        database.commit()


SPOILED = {
    "a seed that the server cannot give out": ("parameters = ?", json.dumps({"settings": {"seed": 2**64}})),
    "parameters that are no JSON": ("parameters = ?", "{"),
    "a state that there is not": ("state_type = ?", "NONSENSE"),
    "tags that are none": ("tags = ?", "7"),
    "a process that cannot be": ("tags = ?", json.dumps([f"lease:{n}" for n in ("", ":", "²", "../../x", "0" * 33)])),
    "a time that is none": ("start_time = ?", "yesterday"),
}


@pytest.mark.long
def test_old_records_of_any_kind_block_no_start(tmp_path: Path) -> None:
    assert run(tmp_path / "kept", "killed").returncode == -signal.SIGKILL
    for number, (name, (change, value)) in enumerate(SPOILED.items()):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "kept", folder)
        spoil(folder, f"UPDATE flow_run SET {change}", value)
        done = run(folder, "whole")
        assert (done.returncode, done.stdout[:8]) == (0, "orphans "), (name, done.stderr)


@pytest.mark.slow
def test_one_record_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    for _ in range(3):
        assert run(tmp_path, "killed").returncode == -signal.SIGKILL
        spoil(tmp_path, "UPDATE flow_run SET state_type = 'RUNNING', state_name = 'Running'")
    spoil(
        tmp_path,
        "UPDATE flow_run SET parameters = ? WHERE id = (SELECT id FROM flow_run ORDER BY created LIMIT 1 OFFSET 1)",
        json.dumps({"seed": 2**64}),
    )
    assert run(tmp_path, "whole").returncode == 0
    assert states(tmp_path, "flow") == ["COMPLETED", "CRASHED", "CRASHED", "RUNNING"]


class Record:
    """Prefect's record of some runs, as its client reads and changes it."""

    def __init__(self, flows: "list[FlowRun]", tasks: "list[TaskRun]") -> None:
        self.flows, self.tasks, self.crashed = flows, tasks, set[UUID]()

    def read_flow_runs(self, flow_run_filter: "FlowRunFilter", **_: object) -> "list[FlowRun]":
        wanted = flow_run_filter.state and flow_run_filter.state.type and flow_run_filter.state.type.any_
        return [run for run in self.flows if not wanted or (run.state and run.state.type in wanted)]

    def read_task_runs(self, **_: object) -> "list[TaskRun]":
        return self.tasks

    def set_flow_run_state(self, run: UUID, *_: object, **__: object) -> None:
        self.crashed.add(run)

    set_task_run_state = set_flow_run_state

    def update_flow_run(self, run: UUID, tags: list[str]) -> None:
        (found,) = (each for each in self.flows if each.id == run)
        found.tags = tags

    def __enter__(self) -> "Record":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def dead() -> str:
    return f"lease:{lease_name().partition(':')[0]}:{'0' * 16}"


def run_of(lease: str, state: "State", **more: Any) -> "FlowRun":
    from prefect.client.schemas.objects import FlowRun

    return FlowRun(flow_id=uuid4(), tags=["medmtl", lease], state=state, **more)


@pytest.mark.parametrize("state", ["Pending", "Running", "Cancelling"])
@pytest.mark.parametrize("of_a_worker", [False, True])
def test_runs_of_dead_processes_crash_and_those_whose_process_is_still_to_come_do_not(
    state: str, of_a_worker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect import states

    now = getattr(states, state)()
    deployment = {"deployment_id": uuid4()} if of_a_worker else {}
    dead_one, living, elsewhere = (
        run_of(lease, now, **deployment) for lease in (dead(), f"lease:{lease_name()}", f"lease:{'a' * 16}:{'0' * 16}")
    )
    record = Record([dead_one, living, elsewhere], [])
    monkeypatch.setattr(prefect_server, "_client", lambda: record)
    is_to_come = of_a_worker and state == "Pending"  # a person has started it again
    assert prefect_server.mark_orphans_crashed() == len(record.crashed)
    assert record.crashed == (set() if is_to_come else {dead_one.id})


def test_what_still_runs_in_the_record_of_a_run_that_is_over_crashes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.schemas.objects import TaskRun
    from prefect.states import Crashed, Running

    def task_of(run: "FlowRun") -> "TaskRun":
        return TaskRun(flow_run_id=run.id, task_key="step", dynamic_key="0", state=Running())

    now = datetime.now(UTC)
    elsewhere = f"lease:{'a' * 16}:{'0' * 16}"
    long_over = run_of(elsewhere, Crashed(), end_time=now - timedelta(minutes=2))
    just_over = run_of(elsewhere, Crashed(), end_time=now)
    tasks = [task_of(long_over), task_of(just_over)]
    record = Record([long_over, just_over], tasks)
    monkeypatch.setattr(prefect_server, "_client", lambda: record)
    assert prefect_server.mark_orphans_crashed() == 1
    assert record.crashed == {tasks[0].id}


def test_a_run_that_is_started_again_carries_the_lease_of_its_process_now_and_keeps_its_other_tags() -> None:
    from prefect.states import Running

    run = run_of(dead(), Running())
    run.tags.append("nightly")
    record: Any = Record([run], [])
    for _ in range(2):
        prefect_server.sign(record, run)
        assert sorted(run.tags) == sorted(["nightly", "medmtl", f"lease:{lease_name()}"])
