"""`medmtl doctor` on a Prefect server: all is well, and then each thing that can be wrong is one line."""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import prefect
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import AwaitingConcurrencySlot, Completed, Failed, Running, Scheduled, State

from tasks.operations import doctor_runs
from tasks.operations.automations import apply_automation, zombies
from tasks.operations.doctor_prefect import check_prefect_records
from tasks.runtime.doctor import Check
from tasks.runtime.lease import lease_name
from tasks.runtime.prefect_server import LEASE_TAG, prefect_server, wait_until_up

pytestmark = pytest.mark.slow

POOL = "hospital"
NIGHT = "nightly/every-night"
FAR_AWAY = f"0 2 1 {datetime.now(UTC) + timedelta(days=180):%-m} *"
"""A schedule for which Prefect's server plans nothing yet: it looks 100 days ahead. So the tests plan."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncPrefectClient]:
    """A client of a server of its own."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as outlasting, ExitStack() as stack:
        patch.delenv("PREFECT_API_URL", raising=False)
        url = stack.enter_context(prefect_server(tmp_path_factory.mktemp("prefect")))
        known = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: os.environ["PREFECT_API_AUTH_STRING"]}
        outlasting.enter_context(temporary_settings(known))
        wait_until_up(url)
        yield stack.enter_context(get_client(sync_client=True))


class Deployed:
    """A server with a pool, a worker that lives, a nightly deployment, and what watches over its runs."""

    def __init__(self, client: SyncPrefectClient, patch: pytest.MonkeyPatch) -> None:
        self.client, self.patch = client, patch
        self.flow_id = client.create_flow_from_name("nightly")
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template={}))
        self.beat()
        self.deployment = self.client.create_deployment(
            flow_id=self.flow_id,
            name="every-night",
            tags=["medmtl"],
            work_pool_name=POOL,
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron=FAR_AWAY), active=True)],
        )
        client.create_flow_run_from_deployment(
            self.deployment, state=Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=5))
        )
        apply_automation(client, zombies())

    def beat(self, seconds: int = 3600) -> None:
        self.client.request(
            "POST",
            f"/work_pools/{POOL}/workers/heartbeat",  # type: ignore[arg-type]
            json={"name": "tests", "heartbeat_interval_seconds": seconds},
        )

    def run(self, name: str, *states: State[Any], tags: tuple[str, ...] = ("medmtl",)) -> UUID:
        """A run of the deployment that went through these states."""
        run = self.client.create_flow_run_from_deployment(self.deployment, name=name, tags=[*tags])
        for state in states:
            self.client.set_flow_run_state(run.id, state, force=True)
        return run.id


@pytest.fixture
def deployed(client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    monkeypatch.setenv("PREFECT_API_URL", str(client.api_url))
    made = Deployed(client, monkeypatch)
    yield made
    for run in client.read_flow_runs():
        client.delete_flow_run(run.id)
    client.delete_deployment(made.deployment)
    for pool in client.read_work_pools():
        client.delete_work_pool(pool.name)
    for automation in client.read_automations():
        client.delete_automation(automation.id)


def checks() -> list[Check]:
    return list(check_prefect_records(None))


def wrong() -> list[Check]:
    return [check for check in checks() if check.status == "WRONG"]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, checks()
        time.sleep(0.2)


def test_a_server_on_which_all_is_well_has_no_wrong_line(deployed: Deployed) -> None:
    deployed.run("before", Running(), Failed(message="then"))
    deployed.run("night", Running(), Completed())
    deployed.run("now", Running())
    assert [(check.status, check.name) for check in checks()] == [
        ("ok", "Prefect"),
        ("ok", f"pool {POOL}"),
        ("ok", NIGHT),
        ("ok", "dead runs"),
        ("ok", "runs"),
    ]
    told = " ".join(check.finding for check in checks())
    assert "1 worker is online" in told
    assert "last success 0 s ago" in re.sub(r"\d+ s ago", "0 s ago", told)
    assert "1 running, 0 late" in told
    assert os.environ["PREFECT_API_AUTH_STRING"].partition(":")[2] not in told


def pause_pool(deployed: Deployed) -> None:
    deployed.client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))


def delete_pool(deployed: Deployed) -> None:
    deployed.client.delete_work_pool(POOL)


def lose_worker(deployed: Deployed) -> None:
    deployed.beat(seconds=1)
    wait_until(lambda: bool(wrong()))  # after three seconds without a heartbeat


def disable_automation(deployed: Deployed) -> None:
    (automation,) = deployed.client.read_automations()
    deployed.client.pause_automation(automation.id)


def delete_automation(deployed: Deployed) -> None:
    (automation,) = deployed.client.read_automations()
    deployed.client.delete_automation(automation.id)


def fail(deployed: Deployed) -> None:
    deployed.run("night", Running(), Completed())
    deployed.run("next", Running(), Failed(message="Flow run encountered an exception: DataError: no table"))


def kill(deployed: Deployed) -> None:
    home, _, _ = lease_name().partition(":")
    deployed.run("killed", Running(), tags=("medmtl", f"{LEASE_TAG}{home}:{16 * '0'}"))


def fall_silent(deployed: Deployed) -> None:
    deployed.patch.setattr(doctor_runs, "SILENT_SECONDS", 0)
    deployed.run("silent", Running())


def wait_in_vain(deployed: Deployed) -> None:
    deployed.patch.setattr(doctor_runs, "LATE", timedelta(0))
    deployed.run("late")


def be_older(deployed: Deployed) -> None:
    deployed.patch.setattr(SyncPrefectClient, "client_version", lambda _: "3.999")


def stop_planning(deployed: Deployed) -> None:
    for run in deployed.client.read_flow_runs():
        deployed.client.delete_flow_run(run.id)


WRONG: dict[Callable[[Deployed], None], tuple[str, str]] = {
    pause_pool: (f"pool {POOL}", f"prefect work-pool resume {POOL}"),
    delete_pool: ("pool ", "run medmtl deploy"),
    lose_worker: (f"pool {POOL}", f"no worker is online.*prefect worker start --pool {POOL}"),
    disable_automation: ("dead runs", 'prefect automation resume "medmtl: dead runs"'),
    delete_automation: ("dead runs", "run medmtl deploy"),
    fail: (NIGHT, r"failed \d+ s ago \(Failed: no table\), last success.*prefect deployment run nightly/every-night"),
    kill: ("stuck runs", r"processes have ended \(killed\): .*start it again"),
    fall_silent: ("stuck runs", r"without a heartbeat .*\(silent\): .*prefect flow-run cancel"),
    wait_in_vain: ("stuck runs", r"have not begun .*\(late\): see the worker's log"),
    be_older: ("Prefect", "install Prefect 3.999 for the server"),
    stop_planning: (NIGHT, "no next run is planned: .*restart Prefect's server"),
}
"""What goes wrong -> the name of the line that says so, and its remedy."""


@pytest.mark.parametrize("go_wrong", WRONG)
def test_each_thing_that_is_wrong_is_one_line_with_its_remedy(
    go_wrong: Callable[[Deployed], None], deployed: Deployed
) -> None:
    assert not wrong()
    go_wrong(deployed)
    (found,) = wrong()
    name, remedy = WRONG[go_wrong]
    assert found.name == name
    assert re.search(remedy, found.finding)


def test_runs_that_wait_for_a_worker_are_not_wrong_beside_the_missing_worker(deployed: Deployed) -> None:
    lose_worker(deployed)
    wait_in_vain(deployed)
    assert [check.name for check in wrong()] == [f"pool {POOL}"]


def test_a_run_that_waits_for_its_turn_or_sends_heartbeats_is_not_stuck(deployed: Deployed) -> None:
    fall_silent(deployed)
    wait_in_vain(deployed)
    for run in deployed.client.read_flow_runs():
        if run.name == "late":
            deployed.client.set_flow_run_state(run.id, AwaitingConcurrencySlot(), force=True)
        if run.name == "silent":
            deployed.patch.setattr(doctor_runs, "SILENT_SECONDS", 60)
            happened = datetime.now(UTC).isoformat()
            resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}"}
            beat = {
                "occurred": happened,
                "event": "prefect.flow-run.heartbeat",
                "resource": resource,
                "id": str(uuid4()),
            }
            deployed.client.request("POST", "/events", json=[beat])  # type: ignore[arg-type]
            # it has been running for long
            deployed.patch.setattr(doctor_runs, "_begun_after", lambda *_: False)
    wait_until(lambda: not wrong())


def test_a_paused_schedule_is_said_and_is_not_wrong(deployed: Deployed) -> None:
    (schedule,) = deployed.client.read_deployment_schedules(deployed.deployment)
    deployed.client.update_deployment_schedule(deployed.deployment, schedule.id, active=False)
    (found,) = [check for check in checks() if check.name == NIGHT]
    assert (found.status, found.finding) == ("-", "its schedule is paused; no success yet")


def test_a_server_without_deployments_says_how_they_are_made(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", str(client.api_url))
    found = {check.name: check for check in checks()}
    assert found["deployments"].status == "-"
    assert "medmtl deploy" in found["deployments"].finding
    assert not wrong()


def test_a_newer_server_is_named_and_is_not_wrong(deployed: Deployed) -> None:
    deployed.patch.setattr(SyncPrefectClient, "client_version", lambda _: "3.0.1")
    (found,) = [check for check in checks() if check.name == "Prefect"]
    assert found.status == "ok"
    assert f"version {prefect.__version__}, this installation of 3.0.1" in found.finding


def test_a_wrong_password_is_one_line(deployed: Deployed) -> None:
    deployed.patch.setenv("PREFECT_API_AUTH_STRING", "medmtl:geheim17")
    (found,) = checks()
    assert found.status == "WRONG"
    assert "answers 401: it wants a password" in found.finding
    assert "geheim17" not in found.finding
