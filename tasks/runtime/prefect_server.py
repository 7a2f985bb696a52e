"""A local Prefect server for the duration of one command.

Prefect's own ephemeral server stops before the last task states reach its database. This one is a child process on
127.0.0.1. It is stopped only when every run of this process has a final state, and it ends by itself if the command
is killed. If PREFECT_API_URL names a server, that one is used instead.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.runtime.processes import has_exited, process_name

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, TaskRun

SERVE = ("-m", "tasks.runtime.prefect_server")  # Python arguments of the child process; the port follows
START_SECONDS = 120.0  # 20 were measured with a cold disk and two busy cores
FINAL_STATE_SECONDS = 20.0  # task states pass through an event queue and arrive within a second or two


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Run a Prefect server, and set PREFECT_API_URL and PREFECT_HOME accordingly.

    Enter it before prefect is imported. The server answers some seconds after this yields: call `wait_until_up`
    before the first flow, and do slow imports in between.

    Args:
        folder: of the server's database and log.

    Yields:
        The URL of the server's API; the one in PREFECT_API_URL if it is set, and then no server is started.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        yield url
        return
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)
    with socket.socket() as probe:  # finds a free port
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    with (folder / "server.log").open("ab") as log:
        # The server's standard input is a pipe from this process: however this process ends, the pipe closes and the
        # server ends. A session of its own protects the server from a Ctrl-C in this terminal: it must live until
        # the final states have reached it.
        server = subprocess.Popen(
            [sys.executable, *SERVE, str(port)], stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield url
            wait_for_final_states()
        except BaseException:
            with suppress(Exception):  # the original error matters more than its record in Prefect
                wait_for_final_states()
            raise
        finally:
            del os.environ["PREFECT_API_URL"]
            _stop(server)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(timeout=10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def wait_until_up(url: str, seconds: float = START_SECONDS) -> None:
    """Wait until the server at `url` answers.

    Raises:
        TimeoutError: it has not answered within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:  # also urllib's errors
            time.sleep(0.1)
    raise TimeoutError(
        f"no Prefect server answers at {url} after {seconds:.0f} s: its log is server.log in the prefect folder "
        "of MEDMTL_HOME; unset PREFECT_API_URL to let medmtl start a local server"
    )


def process_tag() -> str:
    """Return the tag of this process's flow runs, by which a later command finds the runs of a killed one."""
    return f"process:{process_name()}"


def wait_for_final_states(seconds: float = FINAL_STATE_SECONDS) -> None:
    """Wait until the server has this process's last log lines, and a final state for each of its runs.

    Raises:
        TimeoutError: some runs have no final state after `seconds`.
    """
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()  # log lines are sent in batches; send the last one while the server still runs
    deadline = time.monotonic() + seconds
    while unfinished := _unfinished_runs(lambda tag: tag == process_tag()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(unfinished)} Prefect runs have no final state after {seconds:.0f} s")
        time.sleep(0.1)


def mark_orphans_crashed() -> int:
    """Set runs that killed processes of this machine left RUNNING to CRASHED (Prefect never does); return how many."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.states import Crashed

    orphans = _unfinished_runs(lambda tag: has_exited(tag.removeprefix("process:")))
    crashed: State = Crashed(message="its process was killed")
    with get_client(sync_client=True) as client:
        for run in orphans:
            set_state = client.set_flow_run_state if isinstance(run, FlowRun) else client.set_task_run_state
            set_state(run.id, crashed, force=True)
    return len(orphans)


def _unfinished_runs(has_tag: Callable[[str], bool]) -> "list[FlowRun | TaskRun]":
    """Return flow runs with a tag that `has_tag` accepts, and their task runs, if they have no final state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter
    from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

    page = 200  # the server's maximum; unfinished runs are among the newest
    with get_client(sync_client=True) as client:
        flows = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=page)
        tagged = [run for run in flows if any(map(has_tag, run.tags))]
        if not tagged:
            return []
        of_tagged = TaskRunFilter.model_validate({"flow_run_id": {"any_": [run.id for run in tagged]}})
        tasks = client.read_task_runs(task_run_filter=of_tagged, sort=TaskRunSort.ID_DESC, limit=page)
    runs: list[FlowRun | TaskRun] = [*tasks, *tagged]
    return [run for run in runs if run.state is None or not run.state.is_final()]


def _serve(port: int) -> None:
    """Run Prefect's server in the child process until its standard input closes or SIGTERM arrives."""
    import uvicorn

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app",
        factory=True,
        host="127.0.0.1",
        port=port,
        log_level="critical",
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
