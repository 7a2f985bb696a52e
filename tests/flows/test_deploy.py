"""`medmtl deploy`: what stands on the server, what fires by schedule and by hand, and what a person is told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.tracking import MlflowClient
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.events.clients import get_events_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Crashed, Failed, State

from data_prep.errors import DataError
from flows.deploy import deploy_file
from tasks.arms import mlflow_runs
from tasks.runtime.prefect_server import prefect_server, wait_until_up

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "data": {"size": 32, "phantom": {"patients": 60, "size": 64}},
    "split": {"shares": [0.5, 0.2, 0.3]},
    "training": {"epochs": 3},
}
CANARY = "Doe^Jane"


class Receiver:
    """A local webhook, and what it was told."""

    def __init__(self) -> None:
        self.told: list[dict[str, str]] = []
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait_for(self, number: int, seconds: float) -> list[dict[str, str]]:
        """What was told within some seconds; if it is as many as expected, a little longer, for one too many."""
        deadline = time.monotonic() + seconds
        while len(self.told) < number and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(3)
        return sorted(self.told, key=lambda each: each["title"])


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[SyncPrefectClient]:
    """A client of a server of its own, with the deployments of prefect.yaml: they must not fire into another test."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as outlasting, ExitStack() as stack:
        patch.delenv("PREFECT_API_URL", raising=False)
        patch.chdir(ROOT)
        url = stack.enter_context(prefect_server(tmp_path_factory.mktemp("prefect")))
        # prefect read its own settings when it was imported; these must hold until the server has settled
        known = {PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: os.environ["PREFECT_API_AUTH_STRING"]}
        outlasting.enter_context(temporary_settings(known))
        wait_until_up(url)
        changes = list(deploy_file(ROOT / "prefect.yaml", receiver.url, None))
        assert {change.done for change in changes} == {"created"}
        yield stack.enter_context(get_client(sync_client=True))


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: SyncPrefectClient) -> None:
    monkeypatch.setenv("MEDMTL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PREFECT_API_URL", str(client.api_url))
    monkeypatch.chdir(ROOT)


def on_the_server(client: SyncPrefectClient) -> dict[str, Any]:
    """All that a deploy makes, with identifiers and times of changes."""
    kinds = ("deployments", "automations", "block_documents", "work_pools")
    found = {kind: client.request("POST", f"/{kind}/filter", json={}).json() for kind in kinds}  # type: ignore[arg-type]
    for each in (*found["deployments"], *found["work_pools"]):
        for name in ("status", "last_polled", "work_queue_id", "default_queue_id"):
            each.pop(name, None)
    return {f"{kind} {each['name']}": each for kind, all_ in found.items() for each in all_}


def deploy(*, file: Path = ROOT / "prefect.yaml", webhook: str | None = None) -> dict[str, str]:
    """What became of each thing."""
    return {change.name: change.done for change in deploy_file(file, webhook, None)}


@pytest.mark.slow
def test_a_second_deploy_changes_nothing(client: SyncPrefectClient, receiver: Receiver) -> None:
    deploy(webhook=receiver.url)
    before = on_the_server(client)
    for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        assert f"deployments {entry['name']}" in before
    assert {change for change in deploy(webhook=receiver.url).values() if change != "left"} == {"unchanged"}
    assert on_the_server(client) == before


@pytest.mark.slow
def test_what_a_person_paused_stays_paused_when_its_definition_changes(
    client: SyncPrefectClient, receiver: Receiver, tmp_path: Path
) -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    nightly = next(entry for entry in content["deployments"] if entry["name"] == "nightly")
    deployment = client.read_deployment_by_name("nightly/nightly")
    client.update_deployment_schedule(deployment.id, deployment.schedules[0].id, active=False)
    (automation,) = client.read_automations_by_name("medmtl: run failed")
    client.pause_automation(automation.id)

    nightly["schedules"][0]["cron"] = "0 3 * * *"
    content["deployments"] = [nightly]
    changed = tmp_path / "prefect.yaml"
    changed.write_text(yaml.safe_dump(content))
    done = deploy(file=changed, webhook=f"{receiver.url}/moved")
    assert done["nightly/nightly"] == done["custom-webhook/medmtl"] == "updated"
    assert done["study/study"] == "left"  # the file does not name it
    (schedule,) = client.read_deployment_by_name("nightly/nightly").schedules
    assert not schedule.active
    assert "0 3 * * *" in str(schedule.schedule)
    (automation,) = client.read_automations_by_name("medmtl: run failed")
    assert not automation.enabled
    client.resume_automation(automation.id)


@pytest.mark.slow
def test_a_block_that_a_person_made_sends_the_notifications_and_another_kind_of_block_is_refused(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    CustomWebhookNotificationBlock(name="office", url=receiver.url, json_data={"office": "{{ subject }}"}).save(
        "office", overwrite=True
    )
    Secret(value=CANARY).save("none-of-it", overwrite=True)
    for place, problem in (("custom-webhook/nobody", "has no such block"), ("secret/none-of-it", "no notifications")):
        with pytest.raises(DataError, match=f"--notify {place}: .*{problem}"):
            list(deploy_file(ROOT / "prefect.yaml", None, place))
    receiver.told.clear()
    list(deploy_file(ROOT / "prefect.yaml", None, "custom-webhook/office"))
    finished_run(client, "first", Failed(message=CANARY), tags=["medmtl"])
    deadline = time.monotonic() + 60
    while not receiver.told and time.monotonic() < deadline:
        time.sleep(0.2)
    assert receiver.told == [{"office": "medmtl: run failed"}]
    deploy(webhook=receiver.url)


def finished_run(client: SyncPrefectClient, name: str, state: State[Any], tags: list[str]) -> None:
    """A run of a flow that ended in a state, as the server sees it."""
    run = client.create_flow_run(flow(name="night")(lambda: None), name=name, tags=tags)
    client.set_flow_run_state(run.id, state, force=True)


async def emit(*events: Event) -> None:
    async with get_events_client() as events_client:
        for event in events:
            await events_client.emit(event)


@pytest.mark.slow
def test_each_event_that_needs_a_person_is_told_once_and_without_its_message(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    receiver.told.clear()
    finished_run(client, "someone else's", Failed(message=CANARY), tags=[])
    finished_run(client, "first", Failed(message=CANARY), tags=["medmtl"])
    finished_run(client, "second", Failed(name="TimedOut", message=CANARY), tags=["medmtl"])
    finished_run(client, "third", Crashed(message=CANARY), tags=["medmtl", "nightly"])
    model = {"prefect.resource.id": "medmtl.model.chest", "prefect.resource.name": "chest"}
    payload = {"night": "2026-11-26", "summary": "version 3 is better by 0.02", "more": CANARY}
    names = ("medmtl.model.promoted", "medmtl.model.waiting", "medmtl.night.drift", "medmtl.night.done")
    asyncio.run(emit(*(Event(event=name, resource=model, payload=payload) for name in names)))
    assert [(each["title"], each["text"]) for each in receiver.wait_for(6, seconds=60)] == [
        ("medmtl: data have drifted", "chest, 2026-11-26: version 3 is better by 0.02"),
        ("medmtl: model promoted", "chest, 2026-11-26: version 3 is better by 0.02"),
        ("medmtl: model waits for approval", "chest, 2026-11-26: version 3 is better by 0.02"),
        ("medmtl: run crashed", "night: third is Crashed"),
        ("medmtl: run failed", "night: first is Failed"),
        ("medmtl: run failed", "night: second is TimedOut"),
    ]


def prefect(*arguments: str) -> None:
    """Prefect's own command; not through pipes, which something that it starts could hold open for ever."""
    command = [sys.executable, "-m", "prefect", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)


@contextmanager
def prefect_worker() -> Iterator[None]:
    """A worker of the pool; it has been seen not to end when asked to."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local"]
    worker = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(worker.pid, signal.SIGTERM)
        try:
            worker.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()


@pytest.mark.slow
def test_a_schedule_fires_without_a_hand_and_a_manual_run_takes_json(client: SyncPrefectClient, tmp_path: Path) -> None:
    # one that is due in a moment, and then not before a day has passed
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    study = next(entry for entry in content["deployments"] if entry["name"] == "study")
    due = datetime.now(UTC) + timedelta(seconds=45)
    schedule = {"interval": 24 * 3600, "anchor_date": due.isoformat(), "slug": "soon"}
    parameters = {"out": str(tmp_path / "scheduled"), "settings": SMALL | {"seeds": 1}}
    content["deployments"] = [study | {"name": "soon", "schedules": [schedule], "parameters": parameters}]
    changed = tmp_path / "prefect.yaml"
    changed.write_text(yaml.safe_dump(content))
    assert deploy(file=changed)["study/soon"] == "created"
    by_hand = {
        "out": str(tmp_path / "by hand"),
        "settings": SMALL | {"method": {"kind": "svd", "features": "running", "refresh": [1]}},
    }
    prefect("deployment", "run", "train/train", "--params", json.dumps(by_hand))

    with prefect_worker():
        scheduled, manual = first_finished(client, "soon"), first_finished(client, "train")
    assert scheduled.auto_scheduled
    assert not manual.auto_scheduled
    assert scheduled.state_name == manual.state_name == "Completed", (scheduled.state, manual.state)
    assert manual.parameters["settings"]["method"]["kind"] == "svd"
    for folder in ("scheduled/latest", "by hand"):  # a scheduled run has a folder for its night
        assert (tmp_path / folder / "report.html").exists()
    experiment = mlflow_runs.connect()
    states = [run.info.status for run in MlflowClient().search_runs([experiment], "tags.`medmtl.kind` = 'study'")]
    assert "FINISHED" in states
    assert "FAILED" not in states


def first_finished(client: SyncPrefectClient, deployment: str) -> FlowRun:
    """The first run of a deployment that is over."""
    of_it = DeploymentFilter.model_validate({"name": {"any_": [deployment]}})
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        runs = client.read_flow_runs(deployment_filter=of_it)
        if over := [run for run in runs if run.state and run.state.is_final()]:
            return over[0]
        time.sleep(1)
    pytest.fail(f"after ten minutes: {[(run.name, run.state_name) for run in runs]}")


BEATING = """
import sys, time
import flows  # as in a run of ours: the frequency of heartbeats
from prefect import flow, tags

@flow(name="night", flow_run_name=sys.argv[1])
def night():
    time.sleep(600)

with tags("medmtl"):
    night()
"""


@pytest.mark.long
def test_a_killed_run_becomes_crashed_and_a_waiting_one_late_while_a_living_one_goes_on(
    client: SyncPrefectClient, receiver: Receiver
) -> None:
    def states() -> dict[str, str | None]:
        return {run.name: run.state_name for run in client.read_flow_runs()}

    receiver.told.clear()
    waiting = client.create_flow_run_from_deployment(client.read_deployment_by_name("theory/theory").id)
    runs = {name: subprocess.Popen([sys.executable, "-c", BEATING, name], cwd=ROOT) for name in ("dead", "alive")}
    try:
        while [states().get(name) for name in runs] != ["Running", "Running"]:
            assert all(run.poll() is None for run in runs.values())
            time.sleep(1)
        time.sleep(5)  # the first heartbeats are on their way
        runs["dead"].kill()
        told = receiver.wait_for(2, seconds=120)
        assert states()["dead"] == "Crashed"
        assert states()["alive"] == "Running"
        assert told == [
            {"title": "medmtl: run crashed", "text": "night: dead is Crashed"},
            {"title": "medmtl: run late", "text": f"theory: {waiting.name} has not begun; is a worker running?"},
        ]
    finally:
        for run in runs.values():
            run.kill()
            run.wait()
