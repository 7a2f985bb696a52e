"""A Prefect server on this machine for the length of one command.

Prefect's own ephemeral server is ended before the last task states reach its database. This one is a child
process on 127.0.0.1 that is stopped only once every run of ours has reached a final state, and that ends by
itself when the command is killed. Where PREFECT_API_URL names a server, that one is used instead.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.runtime.processes import is_gone, this_process

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, TaskRun

SERVE = ("-m", "tasks.runtime.prefect_server")  # what the child runs, with a port
START_SECONDS = 120.0  # a cold disk and two busy cores took 20
SETTLE_SECONDS = 20.0  # task states travel by an event queue; they arrive within a second or two


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Run a server on the database in `folder`; yields its API URL and sets PREFECT_API_URL to it.

    Enter it before prefect is imported. The server answers some seconds after this yields: call
    `wait_until_up` before the first flow, and do slow imports in between.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        yield url
        return
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)
    port = _free_port()
    url = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    with (folder / "server.log").open("ab") as log:
        # Its standard input is a pipe that we hold: when we are gone, however that came, it closes and the server
        # ends. Its own session keeps a Ctrl-C meant for us from reaching it before the states are settled.
        server = subprocess.Popen(
            [sys.executable, *SERVE, str(port)],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield url
            settle()
        except BaseException:
            with suppress(Exception):  # the error on its way out matters more than the record of it
                settle()
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
    """Return when the server at `url` answers.

    Raises:
        TimeoutError: it has not answered in `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError(
        f"no Prefect server answers at {url} after {seconds:.0f} s: its log is server.log in the prefect folder "
        "of MEDMTL_HOME; unset PREFECT_API_URL to use a server of our own"
    )


def process_tag() -> str:
    """The tag that our flow runs carry, so that their record can be put right when we are gone."""
    return f"process:{this_process()}"


def settle(seconds: float = SETTLE_SECONDS) -> None:
    """Wait until the server has our last log lines, and a final state for every run of this process.

    Raises:
        TimeoutError: some are not final after `seconds`.
    """
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()  # log lines travel in batches; the last one must find the server still there
    deadline = time.monotonic() + seconds
    while unfinished := _unfinished_runs(lambda tag: tag == process_tag()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(unfinished)} Prefect runs have no final state after {seconds:.0f} s")
        time.sleep(0.1)


def crash_orphans() -> int:
    """Set to CRASHED what a killed process of this machine left RUNNING; returns how many runs.

    Prefect itself leaves them RUNNING for ever.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.states import Crashed

    orphans = _unfinished_runs(lambda tag: is_gone(tag.removeprefix("process:")))
    gone: State = Crashed(message="its process ended without a word")
    with get_client(sync_client=True) as client:
        for run in orphans:
            put = client.set_flow_run_state if isinstance(run, FlowRun) else client.set_task_run_state
            put(run.id, gone, force=True)
    return len(orphans)


def _unfinished_runs(of_process: Callable[[str], bool]) -> "list[FlowRun | TaskRun]":
    """Flow runs with a process tag that `of_process` accepts, and their task runs, without a final state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import TaskRunFilter
    from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

    page = 200  # the most the server gives at once; the newest are the ones that can be unfinished
    with get_client(sync_client=True) as client:
        flows = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=page)
        ours = [run for run in flows if any(map(of_process, run.tags))]
        if not ours:
            return []
        of_ours = TaskRunFilter.model_validate({"flow_run_id": {"any_": [run.id for run in ours]}})
        tasks = client.read_task_runs(task_run_filter=of_ours, sort=TaskRunSort.ID_DESC, limit=page)
    runs: list[FlowRun | TaskRun] = [*tasks, *ours]
    return [run for run in runs if run.state is None or not run.state.is_final()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _serve(port: int) -> None:
    """The child: Prefect's server until the pipe on standard input closes or SIGTERM comes."""
    import uvicorn

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop_with_parent, daemon=True).start()
    uvicorn.run(
        "prefect.server.api.server:create_app", factory=True, host="127.0.0.1", port=port,
        log_level="critical", timeout_graceful_shutdown=3,
    )  # fmt: skip


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
