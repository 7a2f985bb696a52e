"""A local Prefect server for the duration of one command.

Prefect's own ephemeral server stops before the last task states reach its database. This one is a child process on
127.0.0.1. It is stopped only when every run of this process has a final state, and it ends by itself if the command
is killed. If PREFECT_API_URL names a server, that one is used instead.

Other users of the machine can neither use it nor take its place: this process binds the port and keeps it, and a
password that is drawn anew for every command is handed over in the environment, which other users cannot read.
"""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.error import HTTPError

from tasks.runtime.interrupts import STOP_SIGNALS
from tasks.runtime.lease import has_ended, lease_name
from tasks.runtime.part_errors import RESUME, ServerError, reason
from tasks.runtime.prefect_app import PASSWORD, authorization
from tasks.runtime.progress import LOGGER
from tasks.runtime.servers import check_prefect, environment
from tasks.runtime.sqlite_check import PREFECT, check_database

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, TaskRun

SERVE = ("-m", "tasks.runtime.prefect_app")  # Python arguments of the child process; its socket's number follows
START_SECONDS = 120.0  # 20 were measured with a cold disk and two busy cores
FINAL_STATE_SECONDS = 20.0  # task states pass through an event queue and arrive within a second or two
SETTLED_SECONDS = 60.0  # after the end of a flow run, the last states of its task runs have arrived
HISTORY_SECONDS = 5.0  # the most that each step of looking for runs of killed commands may take
PAGE = 200  # the server's maximum
TAG = "medmtl"  # of our flow runs
LEASE_TAG = "lease:"  # begins the tag of a flow run that names its process
UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
BEGUN = ("RUNNING", "CANCELLING")
BUSY_RETRIES = "5"  # of a request that our own server is too busy for (503); once it has ended it says so (410)
LOG_LINE = 200  # characters of the server's log in an error line

Run = TypeVar("Run")


@contextmanager
def prefect_server(folder: Path) -> Iterator[str]:
    """Run a Prefect server, and set PREFECT_API_URL, its password and PREFECT_HOME accordingly.

    Enter it before prefect is imported. The server answers some seconds after this yields: call `wait_until_up`
    before the first flow, and do slow imports in between.

    Args:
        folder: of the server's database and log.

    Yields:
        The URL of the server's API; the one in PREFECT_API_URL if it is set, and then no server is started.

    Raises:
        DataError: the server that PREFECT_API_URL names cannot be used, or the database in the folder.
        ServerError: the server has ended. The main thread is stopped as by a signal.
    """
    if url := os.environ.get("PREFECT_API_URL"):
        check_prefect(url)
        yield url
        return
    check_database(folder / "prefect.db", PREFECT)
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["PREFECT_HOME"] = str(folder)
    server = _Server(folder / "server.log")
    _started.add(server.url)
    client = {"PREFECT_API_URL": server.url, "PREFECT_API_AUTH_STRING": server.password}
    client["PREFECT_CLIENT_MAX_RETRIES"] = BUSY_RETRIES
    try:
        with environment(client):
            try:
                yield server.url
                wait_for_final_states()
            except BaseException:
                if server.url in _answered and not server.died:
                    with suppress(Exception):  # the original error matters more than its record in Prefect
                        wait_for_final_states()
                raise
            finally:
                server.stop()
    except BaseException as error:
        if server.died:
            raise ServerError(server.obituary()) from error
        raise


class _Server:
    """The child process, its socket, and its password."""

    def __init__(self, log: Path) -> None:
        self.died = False
        self._ending = False
        self._lock = threading.Lock()
        self._socket = socket.create_server(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.url, self.password = f"{host}/api", f"medmtl:{secrets.token_urlsafe(32)}"
        self._stand_in: ThreadingHTTPServer | None = None
        child = {PASSWORD: self.password, "PREFECT_SERVER_UI_ENABLED": "false"}
        child["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] = host  # its own pages only
        with log.open("ab") as file:
            self._log, self._log_start = log, file.tell()
            # The server's standard input is a pipe from this process: however this process ends, the pipe closes and
            # the server ends. A session of its own protects the server from a Ctrl-C in this terminal: it must live
            # until the final states have reached it.
            self._process = subprocess.Popen(
                [sys.executable, *SERVE, str(self._socket.fileno())],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=file,
                env=os.environ | child,
                pass_fds=[self._socket.fileno()],
                start_new_session=True,
            )
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Wait for the child; if it ends before its time, answer in its stead, and stop the main thread."""
        self._process.wait()
        with self._lock:
            if self._ending:
                return
            self.died = True
            # a client that is refused would try again for a minute, and another user could take the port
            self._stand_in = ThreadingHTTPServer(self._socket.getsockname(), _Gone, bind_and_activate=False)
            self._stand_in.socket.close()
            self._stand_in.socket = self._socket
            threading.Thread(target=self._stand_in.serve_forever, daemon=True).start()
        main = threading.main_thread().ident
        stop = next((number for number in STOP_SIGNALS if callable(signal.getsignal(number))), None)
        if main is not None and stop is not None:
            signal.pthread_kill(main, stop)

    def stop(self) -> None:
        """End the child, if it has not ended, and give up the port."""
        with self._lock:
            self._ending = True
        if self._stand_in:
            self._stand_in.shutdown()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()
        self._socket.close()

    def obituary(self) -> str:
        """Return one line on the child's end, with the last word of its log."""
        code = self._process.returncode
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)] or lines
        last = f"; its log ends with: {said[-1][:LOG_LINE]}" if said else ""
        return f"Prefect's server has ended ({how}{last}); its log is {self._log}; {RESUME}"


class _Gone(BaseHTTPRequestHandler):
    """Answers every request with a status at which clients do not try again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return lambda: self.send_error(410)
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Write no log."""


_started: set[str] = set()  # servers of this process
_answered: set[str] = set()  # servers that have been up; waiting for another one is in vain


def wait_until_up(url: str, seconds: float = START_SECONDS) -> None:
    """Wait until the server at `url` answers.

    Raises:
        ServerError: it has not answered within `seconds`, or answers with an error.
    """
    request = urllib.request.Request(f"{url}/health")
    if password := os.environ.get("PREFECT_API_AUTH_STRING"):
        request.add_header("Authorization", authorization(password))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=2):
                _answered.add(url)
                return
        except HTTPError as error:
            if error.code != 503:  # busy
                raise ServerError(f"the Prefect server at {url} answers {error.code}; {RESUME}") from error
            time.sleep(0.1)
        except OSError:  # also urllib's errors
            time.sleep(0.1)
    raise ServerError(f"no Prefect server answers at {url} after {seconds:.0f} s: its log is server.log in its folder")


def is_private(url: str | None) -> bool:
    """Tell whether a server is one that a command of this process has started; it has no pages to look at."""
    return url in _started


def run_tags() -> tuple[str, str]:
    """Return the tags of this process's flow runs; the second is its lease, by which they are found after a kill."""
    return TAG, f"{LEASE_TAG}{lease_name()}"


def sign(client: "SyncPrefectClient", run: "FlowRun") -> None:
    """Give a flow run the tags of this process, in the place of those of a process that had it before."""
    others = {tag for tag in run.tags if not tag.startswith(LEASE_TAG)}
    signed = sorted(others.union(run_tags()))
    if signed != sorted(run.tags):
        client.update_flow_run(run.id, tags=signed)
        run.tags = signed


def wait_for_final_states(seconds: float = FINAL_STATE_SECONDS) -> None:
    """Wait until the server has this process's last log lines, and a final state for each of its runs.

    Raises:
        ServerError: some runs have no final state after `seconds`.
    """
    from prefect.logging.handlers import APILogHandler

    APILogHandler().flush()  # log lines are sent in batches; send the last one while the server still runs
    ours = {"tags": {"all_": [run_tags()[1]]}}
    deadline = time.monotonic() + seconds
    with _client() as client:
        while unfinished := sum(len(runs) for runs in _unfinished_runs(client, ours)):
            if time.monotonic() > deadline:
                raise ServerError(f"{unfinished} Prefect runs have no final state after {seconds:.0f} s; {RESUME}")
            time.sleep(0.1)


def mark_orphans_crashed() -> int:
    """Set runs that killed processes of this machine left RUNNING to CRASHED (Prefect never does); return how many.

    Old records never stop a command: what cannot be read or changed in a few seconds stays, with one log line.
    """
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.states import Crashed

    crashed: State = Crashed(message="its process was killed")
    marked = 0
    try:
        with _client() as client:
            orphans = _orphans(client)
            deadline = time.monotonic() + HISTORY_SECONDS
            for run in orphans:
                if time.monotonic() > deadline:
                    raise TimeoutError
                set_state = client.set_flow_run_state if isinstance(run, FlowRun) else client.set_task_run_state
                set_state(run.id, crashed, force=True)
                marked += 1
    except Exception as error:
        LOGGER.info("Prefect's server %s: some runs of killed commands keep their state", reason(error))
    return marked


def _client() -> "SyncPrefectClient":
    from prefect.client.orchestration import get_client

    return get_client(httpx_settings={"timeout": HISTORY_SECONDS}, sync_client=True)


def _orphans(client: "SyncPrefectClient") -> "list[FlowRun | TaskRun]":
    """Return unfinished runs of killed processes; a flow run has its process's name as a tag, its task runs do not."""
    from prefect.client.schemas.filters import FlowRunFilter

    tasks, flows = _unfinished_runs(client, {})
    of_tasks = FlowRunFilter.model_validate({"id": {"any_": list({run.flow_run_id for run in tasks})}})
    parents = _readable(partial(client.read_flow_runs, flow_run_filter=of_tasks)) if tasks else []
    killed = {run.id for run in (*flows, *parents) if is_orphan(run) or _is_over(run)}
    return [*(run for run in tasks if run.flow_run_id in killed), *(run for run in flows if run.id in killed)]


def _is_over(run: "FlowRun") -> bool:
    """Tell whether a run of ours has ended for good, so that a task run still going on in its record does not."""
    return TAG in run.tags and run.end_time is not None and time.time() - run.end_time.timestamp() > SETTLED_SECONDS


def is_orphan(run: "FlowRun") -> bool:
    """Tell whether the process of a run has ended.

    Before a worker's run begins, a process of it is still to come: it may carry the lease of the one before.
    """
    has_begun = run.state is None or run.state.is_final() or run.state.type.value in BEGUN
    is_to_come = run.deployment_id and not has_begun
    return not is_to_come and any(has_ended(tag.removeprefix(LEASE_TAG)) for tag in run.tags)


def _unfinished_runs(
    client: "SyncPrefectClient", flow_runs: Mapping[str, Any]
) -> "tuple[list[TaskRun], list[FlowRun]]":
    """Return the runs without a final state among some flow runs and their task runs; a few hundred at most."""
    from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter

    unfinished = {"state": {"type": {"any_": UNFINISHED}}}
    which = FlowRunFilter.model_validate(flow_runs) if flow_runs else None
    task_filter = TaskRunFilter.model_validate(unfinished)
    flow_filter = FlowRunFilter.model_validate({**flow_runs, **unfinished})
    tasks = _readable(partial(client.read_task_runs, flow_run_filter=which, task_run_filter=task_filter))
    return tasks, _readable(partial(client.read_flow_runs, flow_run_filter=flow_filter))


def _readable(read: Callable[..., list[Run]]) -> list[Run]:
    """Read a page of runs; where one of them cannot be read, read them one by one, and leave that one out."""
    with suppress(Exception):
        return read(limit=PAGE)
    found: list[Run] = []
    deadline = time.monotonic() + HISTORY_SECONDS
    for offset in range(PAGE):
        with suppress(Exception):
            if not (one := read(limit=1, offset=offset)):
                break
            found += one
        if time.monotonic() > deadline:
            break
    return found
