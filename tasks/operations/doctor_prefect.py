"""Check Prefect: whether its server answers and can plan runs, and whether somebody executes them."""

import os
import time
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from packaging.version import InvalidVersion, Version
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, FlowFilter, FlowRunFilter
from prefect.client.schemas.objects import Worker, WorkerStatus
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from data_prep.errors import DataError
from tasks.operations.automations import BEAT_SECONDS, DEAD_SECONDS, TAG, zombies
from tasks.operations.doctor_runs import check_runs, last_ends
from tasks.runtime.doctor import Check, ago, ask_in_time, in_words, judge
from tasks.runtime.home import Home
from tasks.runtime.part_errors import without_password
from tasks.runtime.servers import check_prefect, impatient_client
from tasks.runtime.sqlite_check import PREFECT, check_database

NAME = "Prefect"
DEPLOY = "run medmtl deploy"
MISSED_BEATS = 3  # of a worker that counts as offline, as for Prefect itself


class Deployment(NamedTuple):
    """A deployment of ours on the server.

    Attributes:
        name: of its flow and of itself, as flow/name.
        found: what the server says of it.
    """

    name: str
    found: DeploymentResponse


def check_prefect_records(home: Home | None) -> Iterator[Check]:
    """Check the server that PREFECT_API_URL names and what it holds of ours, or else the database in a home.

    The home is None where it cannot be used.
    """
    url = os.environ.get("PREFECT_API_URL")
    try:
        if url:
            check_prefect(url)
        elif home:
            check_database(home.prefect / "prefect.db", PREFECT)
    except DataError as error:
        yield Check("WRONG", NAME, str(error))
        return
    if url:
        yield from ask_in_time(NAME, partial(_questions, url))
    elif home:
        yield Check("ok", NAME, "a local server, started and stopped by each command")
    else:
        yield Check("-", NAME, "its database in MEDMTL_HOME was not looked at")


def _questions(url: str) -> Iterator[Check]:
    with impatient_client(url) as client:
        yield _version(client, without_password(url))
        deployments = _deployments(client)
        pools = [_pool(client, name) for name in sorted({each.found.work_pool_name or "" for each in deployments})]
        if deployments:
            yield from pools
            yield from _schedules(client, deployments)
            yield _automation(client)
        else:
            yield Check(
                "-", "deployments", f"none: {DEPLOY}, if runs are to start on a schedule or from Prefect's pages"
            )
        yield from check_runs(client, executed=all(pool.status == "ok" for pool in pools))


def _version(client: SyncPrefectClient, place: str) -> Check:
    """Check that the server is not older than the client; Prefect promises that newer ones understand it."""
    if client.server_type == ServerType.CLOUD:
        return Check("ok", NAME, f"{place}: Prefect Cloud")
    told, own = client.api_version(), Version(client.client_version())
    try:
        server = Version(told)
    except (InvalidVersion, TypeError):
        return Check("WRONG", NAME, f"{place} answers, but not as Prefect's server: correct PREFECT_API_URL")
    if server == own:
        return Check("ok", NAME, f"{place}, version {server}")
    finding = f"{place} is of version {server}, this installation of {own}"
    return judge(server > own and server.major == own.major, NAME, finding, f"install Prefect {own} for the server")


def _deployments(client: SyncPrefectClient) -> list[Deployment]:
    ours = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
    found = client.read_deployments(deployment_filter=ours)
    ids = FlowFilter.model_validate({"id": {"any_": list({each.flow_id for each in found})}})
    flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=ids)} if found else {}
    return sorted(Deployment(f"{flows.get(each.flow_id, '')}/{each.name}", each) for each in found)


def _pool(client: SyncPrefectClient, name: str) -> Check:
    """Check that a work pool is there and a worker of it lives; without one, no run begins."""
    row = f"pool {name}"
    try:
        pool = client.read_work_pool(name) if name else None
    except ObjectNotFound:
        pool = None
    if pool is None:
        return Check("WRONG", row, f"deployments have no work pool, so no run of theirs begins: {DEPLOY}")
    if pool.is_paused:
        return Check("WRONG", row, f"paused, so no run begins: prefect work-pool resume {name}")
    workers = client.read_workers_for_work_pool(name)
    online = sum(map(_is_online, workers))
    beats = [worker.last_heartbeat_time for worker in workers if worker.last_heartbeat_time]
    word = f"last heartbeat {ago(max(beats))}" if beats else "there never was one"
    remedy = f"no run begins; prefect worker start --pool {name}"
    number = f"{online} workers are online" if online > 1 else f"{online or 'no'} worker is online"
    return judge(online > 0, row, f"{number}, {word}", remedy)


def _is_online(worker: Worker) -> bool:
    """Tell whether a worker lives; the server's own word comes up to a quarter of a minute later."""
    if worker.status != WorkerStatus.ONLINE or worker.last_heartbeat_time is None:
        return False
    silent = time.time() - worker.last_heartbeat_time.timestamp()
    return silent < MISSED_BEATS * (worker.heartbeat_interval_seconds or BEAT_SECONDS)


def _schedules(client: SyncPrefectClient, deployments: Collection[Deployment]) -> Iterator[Check]:
    by_hand = [each.name for each in deployments if not each.found.schedules]
    for each in deployments:
        if each.found.schedules:
            yield _schedule(client, each)
    if by_hand:
        yield Check("ok", "deployments", f"by hand: {', '.join(by_hand)}")


def _schedule(client: SyncPrefectClient, deployment: Deployment) -> Check:
    """Check that a deployment's next run is planned, and that its last one did not fail."""
    ended = last_ends(client, deployment.found.id)
    if deployment.found.paused or not any(schedule.active for schedule in deployment.found.schedules):
        return Check("-", deployment.name, f"its schedule is paused; {ended.finding}")
    now = datetime.now(UTC)
    planned = {"deployment_id": {"any_": [deployment.found.id]}, "state": {"type": {"any_": ["SCHEDULED"]}}}
    which: Any = FlowRunFilter.model_validate(planned | {"expected_start_time": {"after_": now}})
    runs = client.read_flow_runs(flow_run_filter=which, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=1)
    if not runs or runs[0].expected_start_time is None:
        remedy = "its schedule is active; restart Prefect's server with its services, which plan the runs"
        return Check("WRONG", deployment.name, f"{ended.finding}; no next run is planned: {remedy}")
    next_run = f"the next run begins in {in_words(runs[0].expected_start_time.timestamp() - now.timestamp())}"
    remedy = f"see its log; the next night goes on, or now: prefect deployment run {deployment.name}"
    return judge(ended.right, deployment.name, f"{ended.finding}; {next_run}", remedy)


def _automation(client: SyncPrefectClient) -> Check:
    """Check that the server watches over our runs."""
    name, row = zombies().name, "dead runs"
    found = client.read_automations_by_name(name)
    if not found:
        return Check("WRONG", row, f"the server has no automation {name!r}, so they stay RUNNING: {DEPLOY}")
    finding = f"set to Crashed after {DEAD_SECONDS} s by the automation {name!r}"
    if any(each.enabled for each in found):
        return Check("ok", row, finding)
    return Check("WRONG", row, f"the automation {name!r} is disabled, so they stay RUNNING: {_resume(name)}")


def _resume(name: str) -> str:
    return f'prefect automation resume "{name}"'
