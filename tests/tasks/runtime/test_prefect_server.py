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
from pathlib import Path

import pytest

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


@pytest.mark.slow
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
