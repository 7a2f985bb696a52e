"""A Ray cluster on which arms train: its machines are checked before any training, and watched meanwhile.

Ray repeats an arm whose machine or process has died on another machine; there it goes on from its checkpoint.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Any, NamedTuple

import ray
from prefect.events.worker import EventsWorker
from prefect.settings import PREFECT_API_URL
from prefect_ray import RayTaskRunner
from prefect_ray.context import remote_options
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_prep.errors import DataError
from tasks.arms.ray_log import lines_sent, lines_shown
from tasks.runtime.env_defaults import DEFAULTS
from tasks.runtime.home import home
from tasks.runtime.interrupts import STOP_SIGNALS
from tasks.runtime.lease import is_locked, lease_name
from tasks.runtime.part_errors import RESUME, ServerError
from tasks.runtime.prefect_server import is_private
from tasks.runtime.progress import LOGGER
from tasks.runtime.servers import sqlite_path

PACKAGES = ("medmtl", "torch")  # of the same version everywhere, or one arm would be two
SERVERS = ("MLFLOW_", "PREFECT_API_")  # how the names of variables begin that hold addresses and passwords
CLIENT = "ray://"  # begins the address of a server through which processes outside of a cluster use it
ANSWER_SECONDS = 5.0
STATUS_SECONDS = 40.0  # one or two are usual
START_SECONDS = 180.0  # for a machine's first process; it imports torch
STOP_SECONDS = 20.0  # for arms to write what they have after Ctrl-C
WATCH_SECONDS = 2.0
DEAD_SECONDS = 20.0  # without a head; after 60 Ray ends this process without a word


class Machine(NamedTuple):
    """What one machine of a cluster has, as seen from there."""

    host: str
    versions: dict[str, str]
    shares_home: bool


@contextmanager
def ray_cluster(options: dict[str, Any], processors: int, gpus: int) -> Iterator[RayTaskRunner[Any]]:
    """Connect to a Ray cluster, or start one; leave it at the end, stopping what still runs there after an error.

    Args:
        options: of `ray.init`; the address among them is that of a cluster to connect to.
        processors: of each arm.
        gpus: of each arm.

    Yields:
        A Prefect task runner.

    Raises:
        DataError: there is no such cluster, or it cannot train arms.
        ServerError: its head has ended meanwhile. The main thread is stopped as by a signal.
    """
    address = options.get("address")
    variables = {name: os.environ[name] for name in DEFAULTS if name in os.environ}  # Ray writes them into its logs
    variables["MEDMTL_HOME"] = str(home().root)
    _connect(address, options | {"runtime_env": {"env_vars": variables}})
    head = _Head(address)
    try:
        _check(processors, gpus)
        with remote_options(num_cpus=processors, num_gpus=gpus), lines_shown(), head.watched(), _Runner(head) as runner:
            yield runner
    except BaseException as error:
        if head.died:
            raise ServerError(f"the head of the Ray cluster at {head.address} has ended; {RESUME}") from error
        raise
    finally:
        if not head.died:  # Ray would wait for it
            ray.shutdown()


def _connect(address: str | None, options: dict[str, Any]) -> None:
    if address:
        check_answer(address)
    named = options | {"address": address or "local"}  # None would be any cluster that runs on this machine
    try:
        ray.init(**named, logging_level=logging.ERROR, log_to_driver=False)
    except (RuntimeError, ValueError, OSError, RayError) as error:  # such as other versions: Ray names both
        raise DataError(f"the Ray cluster at {address} cannot be used: {' '.join(str(error).split())}") from error


def check_answer(address: str) -> None:
    """Check that the head of a Ray cluster answers and lets us in; Ray itself would try for minutes.

    Raises:
        DataError: it does not.
    """
    if not _answers(address):
        remedy = "start it (docs/ray.md), or name another one in runner.address"
        raise DataError(f"no Ray cluster answers at {address} within {ANSWER_SECONDS:.0f} s: {remedy}")
    if address.startswith(CLIENT):
        return
    ask = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]  # a process can be ended
    try:
        asked = subprocess.run(ask, capture_output=True, text=True, timeout=STATUS_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DataError(
            f"what listens at {address} does not answer as the head of a Ray cluster: name its port in runner.address, "
            f"6379 unless it was started with another one; a port for clients, such as 10001, wants {CLIENT}HOST:PORT"
        ) from error
    if "AuthenticationError" in asked.stderr:
        raise DataError(
            f"the Ray cluster at {address} wants its token: set RAY_AUTH_MODE=token, and copy the token to "
            "~/.ray/auth_token or name its file in RAY_AUTH_TOKEN_PATH"
        )
    if asked.returncode:
        last = (asked.stderr.strip() or "no reason given").splitlines()[-1]
        raise DataError(f"the Ray cluster at {address} cannot be used: {last}")


def _answers(address: str) -> bool:
    """Tell whether something listens at an address, 'host:port' or 'ray://host:port'."""
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        raise DataError(f"runner.address is {address!r}: give it as HOST:PORT or {CLIENT}HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _check(processors: int, gpus: int) -> None:
    """Check that a machine of the cluster is large enough for an arm, and that each is set up like this one."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    check_size([node["Resources"] for node in nodes], processors, gpus)
    lease = lease_name()
    asked = {
        node["NodeManagerAddress"]: ray.remote(look)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(lease)
        for node in nodes
    }
    deadline = time.monotonic() + START_SECONDS
    for name, answer in asked.items():
        try:
            machine = Machine(*ray.get(answer, timeout=max(1.0, deadline - time.monotonic())))
        except GetTimeoutError as error:
            raise DataError(f"{_machine(name)} starts no process within {START_SECONDS:.0f} s: see its logs") from error
        except RayTaskError as error:
            raise DataError(f"{_machine(name)} cannot train arms: {error.cause}") from error
        except RayError as error:
            why = str(error).strip().splitlines()[-1]
            raise DataError(f"{_machine(name)} cannot run medmtl: install it there as here ({why})") from error
        check_machine(name, machine)


def check_size(resources: list[dict[str, float]], processors: int, gpus: int) -> None:
    """Check that one machine is large enough for an arm.

    Args:
        resources: of each machine, as Ray names them.
        processors: of an arm.
        gpus: of an arm, 0 or 1.

    Raises:
        DataError: none is.
    """
    has = [(int(each.get("GPU", 0)), int(each.get("CPU", 0))) for each in resources]
    if any(cards >= gpus and cores >= processors for cards, cores in has):
        return
    cards, cores = max(has, default=(0, 0), key=lambda each: (each[0] >= gpus, each[1]))
    raise DataError(
        f"no machine of the Ray cluster is large enough for an arm, which needs {processors} processors "
        f"(runner.threads) and {gpus} GPUs (device); the largest has {cores} processors and "
        f"{cards} GPUs: lower runner.threads, or start a larger machine"
    )


def check_machine(name: str, machine: Machine) -> None:
    """Check that a machine trains an arm as this one would, and that it can reach what this one uses.

    Raises:
        DataError: it cannot.
    """
    for package, here in _versions().items():
        if (there := machine.versions[package]) != here:
            raise DataError(
                f"{_machine(name)} has {package} {there}, and this one {here}: install the same requirements.lock"
            )
    if not machine.shares_home:
        raise DataError(
            f"{_machine(name)} does not see the files or the locks of this one in {home().root}: MEDMTL_HOME must be "
            "one folder on storage that all machines share, with locks"
        )
    if machine.host == socket.gethostname():
        return
    if sqlite_path(home().tracking_uri):
        raise DataError(
            f"{_machine(name)} cannot use MLflow's database, a file of this one: start `mlflow server`, and set "
            "MLFLOW_TRACKING_URI to its address"
        )
    if is_private(PREFECT_API_URL.value()):
        raise DataError(
            f"{_machine(name)} cannot reach this command's Prefect server: start `prefect server start`, and set "
            "PREFECT_API_URL to an address that all machines reach"
        )


def _machine(name: str) -> str:
    return f"machine {name} of the Ray cluster"


def _versions() -> dict[str, str]:
    return {package: version(package) for package in PACKAGES}


def look(lease: str) -> tuple[Any, ...]:
    """Return what a machine has, seen from there, as the fields of `Machine`; that class may not be there.

    Args:
        lease: of a process that lives, elsewhere.
    """
    return socket.gethostname(), _versions(), is_locked(home().root / "leases" / lease.partition(":")[2])


class _Head:
    """The head of a cluster, without which nothing in it goes on."""

    def __init__(self, address: str | None) -> None:
        self.address = address or ray.get_runtime_context().gcs_address
        self.died = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Stop the main thread as by a signal if the head has been away for `DEAD_SECONDS`."""
        ended = threading.Event()
        for watch in (self._watch, _watch_machines):
            threading.Thread(target=watch, args=(ended,), name="ray-watch", daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _watch(self, ended: threading.Event) -> None:
        seen = time.monotonic()
        while not ended.wait(WATCH_SECONDS):
            if _answers(self.address):
                seen = time.monotonic()
            elif time.monotonic() - seen > DEAD_SECONDS:
                self.died = True
                main = threading.main_thread().ident
                stop = next((number for number in STOP_SIGNALS if callable(signal.getsignal(number))), None)
                if main is not None and stop is not None:
                    signal.pthread_kill(main, stop)
                return


def _watch_machines(ended: threading.Event) -> None:
    """Say which machines come and go; Ray's own call waits for a head that is away, and fails at the end."""
    with suppress(Exception):
        known = _alive()
        while not ended.wait(WATCH_SECONDS):
            now = _alive()
            for node in known.keys() - now.keys():
                LOGGER.info("%s has gone: its arms go on from their checkpoints on another one", _machine(known[node]))
            for node in now.keys() - known.keys():
                LOGGER.info("%s has come", _machine(now[node]))
            known = now


def _alive() -> dict[str, str]:
    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}


class _Runner(RayTaskRunner[Any]):
    """Prefect's task runner for Ray, with the log lines of arms, and without arms that outlive a command."""

    def __init__(self, head: _Head) -> None:
        super().__init__()
        self._head = head
        self._submitted: list[Any] = []
        self._run_prefect_task = _with_servers({n: value for n, value in os.environ.items() if n.startswith(SERVERS)})

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Submit a task, as Prefect's class does, and remember it."""
        future = super().submit(*args, **kwargs)
        self._submitted.append(future.wrapped_future)
        return future

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        """Stop, after an error, what still runs: each arm leaves a checkpoint, and its runs a final state."""
        if kind is not None and not self._head.died:
            for task in self._submitted:
                ray.cancel(task)
            ray.wait(self._submitted, num_returns=len(self._submitted), timeout=STOP_SECONDS)
        super().__exit__(kind, *rest)


def _with_servers(variables: dict[str, str]) -> Callable[..., Any]:
    """Return what runs a task in a process of a worker as this command's own process would run it.

    The variables go along in the function: they may hold passwords, and Ray's logs show the others to every user.
    """

    def run_prefect_task(*args: Any, **kwargs: Any) -> Any:
        os.umask(0o077)  # what is made from patients is for its owner only
        os.environ.update(variables)
        with lines_sent():
            state = RayTaskRunner._run_prefect_task(*args, **kwargs)
        EventsWorker.drain_all(timeout=ANSWER_SECONDS, at_exit=False)  # the process may end as soon as its task has
        return state

    return run_prefect_task
