"""What the Prefect server watches over by itself: it ends dead runs, and tells a person of what needs one.

A flow run emits a heartbeat every BEAT_SECONDS. One that was silent for DEAD_SECONDS becomes Crashed; the states of its
task runs are not changed by any automation, the next command of ours sets them. A server that was down for longer finds
its runs silent too: a run that lives becomes Crashed for a while and ends with its own state.

A notification holds a title, the name of a run, its flow and its state; of a model, its name, the night and one
sentence. Messages of states are left out: they may quote names of files.
"""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from tasks.operations.changes import Change

TAG = "medmtl"  # of all our flow runs
BEAT_SECONDS = 30  # between two heartbeats, the shortest that Prefect allows
DEAD_SECONDS = 75  # two missed beats, and half of one for the way
LATE_SECONDS = 60  # a worker looks for runs every 15 s; Prefect calls a run late after as many

ENDED = ("Completed", "Failed", "TimedOut", "Crashed", "Cancelled", "Suspended")
BEGUN = ("Pending", "Running", "AwaitingConcurrencySlot", *ENDED)

RUN_BODY = "{{ flow.name }}: {{ event.resource.name }} is {{ event.resource['prefect.state-name'] }}"
LATE_BODY = "{{ flow.name }}: {{ event.resource.name }} has not begun; is a worker running?"
MODEL_BODY = "{{ event.resource.name }}, {{ event.payload.night }}: {{ event.payload.summary }}"


def _of_runs(states: Sequence[str]) -> set[str]:
    return {f"prefect.flow-run.{state}" for state in states}


def _ours(**trigger: object) -> EventTrigger:
    """Return a trigger for events of our flow runs, of each run by itself."""
    return EventTrigger.model_validate(
        {
            "match": {"prefect.resource.id": "prefect.flow-run.*"},
            "match_related": {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
            "for_each": {"prefect.resource.id"},
            **trigger,
        }
    )


def _silence(after: str, expect: set[str], seconds: int) -> EventTrigger:
    """Return a trigger for a run of which, after an event, none of those expected came within some seconds."""
    within = timedelta(seconds=seconds)
    return _ours(after={after}, expect=expect, posture=Posture.Proactive, threshold=1, within=within)


def zombies() -> AutomationCore:
    """Return the automation that sets dead flow runs to Crashed."""
    beat = "prefect.flow-run.heartbeat"
    crashed = ChangeFlowRunState(state=StateType.CRASHED, message=f"no sign of life for {DEAD_SECONDS} s")
    return AutomationCore(
        name="medmtl: dead runs",
        description=f"A run without a heartbeat for {DEAD_SECONDS} s becomes Crashed.",
        tags=[TAG],
        trigger=_silence(beat, {beat, *_of_runs(ENDED)}, DEAD_SECONDS),
        actions=[crashed],
    )


def _model_events(event: str) -> EventTrigger:
    return EventTrigger.model_validate({"match": {"prefect.resource.id": "medmtl.model.*"}, "expect": {event}})


NOTIFIED: dict[str, tuple[EventTrigger, str]] = {
    "run failed": (_ours(expect=_of_runs(["Failed", "TimedOut"])), RUN_BODY),
    "run crashed": (_ours(expect=_of_runs(["Crashed"])), RUN_BODY),
    "run late": (_silence("prefect.flow-run.Late", _of_runs(BEGUN), LATE_SECONDS), LATE_BODY),
    "model promoted": (_model_events("medmtl.model.promoted"), MODEL_BODY),
    "model waits for approval": (_model_events("medmtl.model.waiting"), MODEL_BODY),
    "data have drifted": (_model_events("medmtl.night.drift"), MODEL_BODY),
}
"""What a person is told of -> when, and in which words (templates of Prefect)."""


def notifications(blocks: Sequence[UUID]) -> list[AutomationCore]:
    """Return one automation for each thing that a person is told of, through each of some notification blocks."""
    return [
        AutomationCore(
            name=title(what),
            description=f"Notification: {what}.",
            tags=[TAG],
            trigger=trigger,
            actions=[SendNotification(block_document_id=block, subject=title(what), body=body) for block in blocks],
        )
        for what, (trigger, body) in NOTIFIED.items()
    ]


def title(what: str) -> str:
    """Return the name of a notification's automation, which is also its title."""
    return f"medmtl: {what}"


def apply_automation(client: SyncPrefectClient, wanted: AutomationCore) -> Change:
    """Create an automation, or make the server's like it; one that a person has disabled stays so."""
    found = next(iter(client.read_automations_by_name(wanted.name)), None)
    if found is None:
        client.create_automation(wanted)
        return Change("created", "automation", wanted.name)
    note = "" if found.enabled else "disabled"
    if found.model_dump(exclude={"id", "enabled"}) == wanted.model_dump(exclude={"enabled"}):
        return Change("unchanged", "automation", wanted.name, note)
    # the client sends only what was set: the server misses defaults, and refuses the owner, which is for Prefect Cloud
    content = wanted.model_dump(exclude={"owner_resource"}) | {"enabled": found.enabled}
    complete = AutomationCore.model_validate(content)
    client.update_automation(found.id, complete)
    return Change("updated", "automation", wanted.name, note)


def left_notifications(client: SyncPrefectClient) -> Change:
    """Say what becomes of notifications when no place is given for them: those of an earlier time stay."""
    names = [title(what) for what in NOTIFIED]
    found = [name for name in names if client.read_automations_by_name(name)]
    if found:
        return Change("left", "automation", ", ".join(found), "--webhook or --notify would change where they go")
    return Change("left", "automation", "no notifications", "--webhook or --notify says where they go")
