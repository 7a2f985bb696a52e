"""Liveness of MLflow runs: which of our RUNNING runs belong to a process that has ended.

A run bears the lease of its process, which says all within one home. Several homes may share an MLflow server, such as
containers with disks of their own; so a run there also bears the time, by the clock of its own machine, at which its
process last said that it lives.
"""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from mlflow.entities import RunTag
from mlflow.tracking import MlflowClient

from tasks.runtime.home import home
from tasks.runtime.lease import has_ended, known_home, lease_name
from tasks.runtime.servers import sqlite_path

PROCESS_TAG = "medmtl.process"
ALIVE_TAG = "medmtl.alive"  # Unix time in seconds
RENEW_SECONDS = 30.0
DEAD_SECONDS = 120.0  # leaves a minute for clocks that differ, and half a minute for a slow server


def signature() -> dict[str, str]:
    """Return the tags by which a run shows whose it is, and that its process lives now."""
    return {PROCESS_TAG: lease_name(), ALIVE_TAG: str(int(time.time()))}


def has_died(tags: Mapping[str, str]) -> bool:
    """Tell, from a run's tags, whether its process has ended.

    A process of this home is known by its lease; one of another home has ended if it has not said for
    `DEAD_SECONDS`, by the clocks of the two machines, that it lives. False where nothing is known.
    """
    lease, alive = tags.get(PROCESS_TAG, ""), tags.get(ALIVE_TAG, "")
    if lease and lease.partition(":")[0] == known_home():
        return has_ended(lease)
    return bool(re.fullmatch("[0-9]{1,12}", alive)) and time.time() - int(alive) > DEAD_SECONDS


@contextmanager
def renewed(run_id: str) -> Iterator[None]:
    """Say every `RENEW_SECONDS` that the process of a run lives; a database of this home needs no word."""
    if sqlite_path(home().tracking_uri):
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_renew, args=(run_id, ended), name="run-renewal", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _renew(run_id: str, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        with suppress(Exception):  # of a server that is away; the next time is soon
            MlflowClient().log_batch(run_id, tags=[RunTag(key, value) for key, value in signature().items()])
