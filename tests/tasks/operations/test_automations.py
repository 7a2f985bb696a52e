"""Automations, as the server's own rules read them."""

from datetime import timedelta
from uuid import uuid4

import pytest
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.server.events.schemas.automations import EventTrigger as ServerTrigger
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.server.schemas.states import TERMINAL_STATES
from prefect.settings import get_current_settings

from tasks.operations.automations import (
    BEAT_SECONDS,
    DEAD_SECONDS,
    MODEL_BODY,
    NOTIFIED,
    RUN_BODY,
    notifications,
    zombies,
)
from tasks.runtime.env_defaults import DEFAULTS

BLOCK = uuid4()


def as_the_server_reads(automation: AutomationCore) -> ServerTrigger:
    return ServerTrigger.model_validate(automation.trigger.model_dump(mode="json"))


def event(name: str, resource: str, *tags: str) -> ReceivedEvent:
    related = [{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"} for tag in tags]
    return ReceivedEvent.model_validate(
        {
            "id": uuid4(),
            "occurred": "2026-11-26T02:00:00Z",
            "event": name,
            "resource": {"prefect.resource.id": resource},
            "related": related,
        }
    )


def fires_on(automation: AutomationCore, happened: ReceivedEvent) -> bool:
    trigger = as_the_server_reads(automation)
    return trigger.covers(happened) and trigger.expects(happened.event)


def test_a_run_is_dead_after_two_missed_heartbeats_and_within_two_minutes() -> None:
    trigger = zombies().trigger
    assert isinstance(trigger, EventTrigger)
    assert trigger.posture == Posture.Proactive
    assert timedelta(seconds=2 * BEAT_SECONDS) < trigger.within < timedelta(minutes=2)
    assert trigger.within == timedelta(seconds=DEAD_SECONDS)
    assert int(DEFAULTS["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"]) == BEAT_SECONDS


def test_the_frequency_of_heartbeats_is_one_that_prefect_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "41")
    flows = type(get_current_settings().flows)
    assert flows().heartbeat_frequency == 41


def test_only_runs_with_our_tag_are_watched_each_by_itself() -> None:
    trigger = as_the_server_reads(zombies())
    first, second = (event("prefect.flow-run.heartbeat", f"prefect.flow-run.{uuid4()}", "medmtl") for _ in range(2))
    assert trigger.starts_after(first.event)
    assert trigger.covers(first)
    assert trigger.bucketing_key(first) != trigger.bucketing_key(second)
    assert not trigger.covers(event("prefect.flow-run.heartbeat", f"prefect.flow-run.{uuid4()}", "theirs"))


def test_a_run_that_ended_in_any_way_is_not_taken_for_dead() -> None:
    trigger = as_the_server_reads(zombies())
    for name in [*(state.value.capitalize() for state in TERMINAL_STATES), "TimedOut"]:
        assert trigger.expects(f"prefect.flow-run.{name}")
    assert not trigger.expects("prefect.flow-run.Running")


@pytest.mark.parametrize(
    ("happened", "resource", "told"),
    [
        ("prefect.flow-run.Failed", "prefect.flow-run.1", {"medmtl: run failed"}),
        ("prefect.flow-run.TimedOut", "prefect.flow-run.1", {"medmtl: run failed"}),
        ("prefect.flow-run.Crashed", "prefect.flow-run.1", {"medmtl: run crashed"}),
        ("prefect.flow-run.Completed", "prefect.flow-run.1", set()),
        ("prefect.flow-run.Cancelled", "prefect.flow-run.1", set()),
        ("prefect.task-run.Failed", "prefect.task-run.1", set()),
        ("medmtl.model.promoted", "medmtl.model.chest", {"medmtl: model promoted"}),
        ("medmtl.model.waiting", "medmtl.model.chest", {"medmtl: model waits for approval"}),
        ("medmtl.night.drift", "medmtl.model.chest", {"medmtl: data have drifted"}),
        ("medmtl.model.promoted", "another.model.chest", set()),
    ],
)
def test_each_event_is_told_by_one_notification_at_most(happened: str, resource: str, told: set[str]) -> None:
    at_once = [each for each in notifications([BLOCK]) if each.name != "medmtl: run late"]
    assert {each.name for each in at_once if fires_on(each, event(happened, resource, "medmtl"))} == told


def test_a_late_run_is_told_only_while_it_has_not_begun() -> None:
    trigger, _ = NOTIFIED["run late"]
    read = ServerTrigger.model_validate(trigger.model_dump(mode="json"))
    assert read.starts_after("prefect.flow-run.Late")
    assert read.expects("prefect.flow-run.Running")
    assert not read.expects("prefect.flow-run.Late")


def test_no_notification_quotes_a_message_of_a_state() -> None:
    for _, body in NOTIFIED.values():
        assert "message" not in body
        assert "payload" not in body or body == MODEL_BODY
    assert "state-name" in RUN_BODY
