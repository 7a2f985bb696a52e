"""Clean Prefect's records of our runs that ended long ago, with their task runs, log lines and artifacts."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tasks.operations.removable import IN_USE, CleanSettings, Finding
from tasks.runtime.prefect_server import prefect_server, wait_until_up
from tasks.runtime.progress import LOGGER

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

TAG = "medmtl"
PAGE = 200  # the server's maximum
LOG_SECONDS = 20.0  # the server removes the log lines of a run some time after the run


@contextmanager
def prefect_client(folder: Path) -> "Iterator[SyncPrefectClient | None]":
    """Open a client of the server that PREFECT_API_URL names, or of one of our own on the database in a folder.

    Enter it before prefect is imported.

    Yields:
        The client; None where there is no database yet.

    Raises:
        DataError: the server or the database cannot be used.
    """
    if "PREFECT_API_URL" not in os.environ and not (folder / "prefect.db").exists():
        yield None
        return
    with prefect_server(folder) as url:
        wait_until_up(url)
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            yield client


def find_flow_runs(client: "SyncPrefectClient", limits: CleanSettings) -> Finding:
    """Find the flow runs to remove among those with our tag; those that are not over always stay."""
    gone: list[UUID] = []
    finding = Finding("flow runs in Prefect", afterwards=partial(_wait_for_logs, client, gone))
    newer = Counter[UUID]()
    for run in sorted(_our_runs(client), key=_age, reverse=True):
        newer[run.flow_id] += 1
        reasons = {
            IN_USE: run.state is None or not run.state.is_final(),
            limits.newest: newer[run.flow_id] <= limits.keep,
            limits.young: _age(run) >= limits.before,
        }
        why = next((reason for reason, holds in reasons.items() if holds), None)
        finding.add(why, lambda: 0, partial(_remove, client, run.id))
        if why is None:
            gone.append(run.id)
    return finding


def _our_runs(client: "SyncPrefectClient") -> "Iterator[FlowRun]":
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    ours: Any = FlowRunFilter.model_validate({"tags": {"all_": [TAG]}})
    offset = 0
    while page := client.read_flow_runs(flow_run_filter=ours, sort=FlowRunSort.ID_DESC, limit=PAGE, offset=offset):
        yield from page
        offset += PAGE


def _age(run: "FlowRun") -> float:
    """Return when a run ended, or else when it was made; Unix time, seconds."""
    moment = run.end_time or run.created
    return moment.timestamp() if moment else time.time()


def _remove(client: "SyncPrefectClient", run_id: UUID) -> bool:
    """Remove a flow run, first the artifacts, which the server would leave; task runs go with it, log lines later."""
    from prefect.client.schemas.filters import ArtifactFilter
    from prefect.exceptions import ObjectNotFound

    of_run = ArtifactFilter.model_validate({"flow_run_id": {"any_": [run_id]}})
    while artifacts := client.read_artifacts(artifact_filter=of_run, limit=PAGE):
        for artifact in artifacts:
            client.delete_artifact(artifact.id)
    try:
        client.delete_flow_run(run_id)
    except ObjectNotFound:
        return False
    return True


def _wait_for_logs(client: "SyncPrefectClient", runs: list[UUID]) -> None:
    """Wait until the server has removed the log lines of removed runs, which it does on its own time."""
    from prefect.client.schemas.filters import LogFilter

    deadline = time.monotonic() + LOG_SECONDS
    for start in range(0, len(runs), PAGE):
        of_runs = LogFilter.model_validate({"flow_run_id": {"any_": runs[start : start + PAGE]}})
        while client.read_logs(of_runs, limit=1):
            if time.monotonic() > deadline:
                LOGGER.info("Prefect's server has not removed all log lines of these runs yet; it goes on when it runs")
                return
            time.sleep(0.1)
