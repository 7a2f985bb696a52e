"""Check our flow runs in Prefect: how the last ones ended, and which are stuck."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.filters import EventFilter

from tasks.operations.automations import DEAD_SECONDS, TAG
from tasks.runtime.doctor import Check, ago, some
from tasks.runtime.escaping import escape_unprintable
from tasks.runtime.prefect_server import is_orphan

SILENT_SECONDS = 2 * DEAD_SECONDS  # the server itself acts after half of it
LATE = timedelta(minutes=5)
MOST_RUNS = 200  # the server's maximum in one answer
MOST_HEARTBEATS = 20  # running runs whose heartbeat is looked for
LONGEST_REASON = 200  # characters
WAITS_ON_PURPOSE = ("AwaitingConcurrencySlot", "AwaitingRetry", "Paused", "Suspended")  # names of states
SAFE_ERRORS = ("DataError", "SettingError", "ServerError")
"""Errors whose messages are ours: they name no patient. Those of others may quote the name of a file."""

_RAISED = re.compile(r"exception: (?P<kind>[\w.]+)(?:: (?P<told>.*))?")


class Ends(NamedTuple):
    """How the last runs of a deployment ended.

    Attributes:
        right: whether none has failed since the last success.
        finding: in words.
    """

    right: bool
    finding: str


def last_ends(client: SyncPrefectClient, deployment: UUID) -> Ends:
    """Return how the last runs of a deployment ended, whoever started them."""
    success = _newest(client, deployment, StateType.COMPLETED)
    failure = _newest(client, deployment, StateType.FAILED, StateType.CRASHED)
    good, bad = _end(success), _end(failure)
    succeeded = f"last success {ago(good)}" if good else "no success yet"
    if failure is None or bad is None or (good and good > bad):
        return Ends(True, succeeded)
    return Ends(False, f"failed {ago(bad)} ({why(failure)}), {succeeded}")


def _newest(client: SyncPrefectClient, deployment: UUID, *states: StateType) -> FlowRun | None:
    asked = {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": list(states)}}}
    which: Any = FlowRunFilter.model_validate(asked)
    return next(iter(client.read_flow_runs(flow_run_filter=which, sort=FlowRunSort.END_TIME_DESC, limit=1)), None)


def _end(run: FlowRun | None) -> datetime | None:
    return None if run is None else run.end_time or run.expected_start_time


def why(run: FlowRun) -> str:
    """Return in one line why a run failed, without what may name a patient: messages that are not ours."""
    if run.state is None:
        return "for an unknown reason"
    message = " ".join((run.state.message or "").split())
    raised = _RAISED.search(message)
    if raised is None:
        told = message.partition(":")[0]
    else:
        kind = raised["kind"].rpartition(".")[2]
        told = raised["told"] or kind if kind in SAFE_ERRORS else kind
    short = told if len(told) <= LONGEST_REASON else f"{told[:LONGEST_REASON]}…"
    return escape_unprintable(f"{run.state.name}: {short}" if short else str(run.state.name))


def check_runs(client: SyncPrefectClient, executed: bool) -> Iterator[Check]:
    """Check the runs that are not over.

    Args:
        client: of the server.
        executed: whether each pool has a worker; without one, that is what is wrong, and runs wait because of it.
    """
    begun = _unfinished(client, StateType.RUNNING, StateType.CANCELLING)
    waiting = [run for run in _unfinished(client, StateType.SCHEDULED, StateType.PENDING) if _is_late(run)]
    dead = [run for run in begun if is_orphan(run)]
    silent = [run for run in begun if run not in dead]
    silent = [run for run in silent[:MOST_HEARTBEATS] if _is_silent(client, run)]
    quiet = f"are RUNNING without a heartbeat for {SILENT_SECONDS} s"
    wrong: list[tuple[list[FlowRun], str, str]] = [
        (dead, "are RUNNING though their processes have ended", "the next run or study ends them; start it again"),
        (silent, quiet, "look for their processes; prefect flow-run cancel ID"),
    ]
    if executed:
        late = f"have not begun after {LATE.seconds // 60} min, though a worker is online"
        wrong.append((waiting, late, "see the worker's log; limits of the pool and its queues may hold them back"))
    for runs, what, remedy in wrong:
        if runs:
            yield Check("WRONG", "stuck runs", f"{len(runs)} {what} ({some([run.name for run in runs])}): {remedy}")
    if not any(runs for runs, _, _ in wrong):
        yield Check("ok", "runs", f"{len(begun)} running, {len(waiting)} late")


def _unfinished(client: SyncPrefectClient, *states: StateType) -> list[FlowRun]:
    """Return our runs in some states whose time has come, the oldest first."""
    asked = {"tags": {"all_": [TAG]}, "state": {"type": {"any_": list(states)}}}
    which: Any = FlowRunFilter.model_validate(asked | {"expected_start_time": {"before_": datetime.now(UTC)}})
    return client.read_flow_runs(flow_run_filter=which, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=MOST_RUNS)


def _is_late(run: FlowRun) -> bool:
    """Tell whether a run should have begun some minutes ago, and nothing holds it back on purpose."""
    if run.state is None or run.state.name in WAITS_ON_PURPOSE:
        return False
    due = run.state.timestamp if run.state.is_pending() else run.next_scheduled_start_time or run.expected_start_time
    return due is not None and datetime.now(UTC) - due > LATE


def _is_silent(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Tell whether a run has begun, and sent no heartbeat, for so long that it must be dead."""
    since = datetime.now(UTC) - timedelta(seconds=SILENT_SECONDS)
    if _begun_after(run, since):
        return False
    beats = {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run.id}"]}}
    which = EventFilter.model_validate(beats | {"occurred": {"since": since}})
    return not client.read_events(filter=which, limit=1).events


def _begun_after(run: FlowRun, moment: datetime) -> bool:
    return run.state is None or run.state.timestamp > moment
