"""Events in Prefect of what a person should know of a model, of which an automation there makes notifications."""

from prefect.events import emit_event
from prefect.runtime import flow_run

from tasks.runtime.escaping import escape_key


def notify(event: str, model: str, night: str, summary: str) -> None:
    """Emit an event of a model, within a flow run; outside of one, nobody watches and nothing is done.

    Args:
        event: name of the event, such as 'medmtl.model.promoted'.
        model: name of the model.
        night: date of the night, as 2026-11-30; '' outside of the nightly pipeline.
        summary: one sentence, without a patient.
    """
    if not flow_run.id:
        return
    resource = {"prefect.resource.id": f"medmtl.model.{escape_key(model, joint='/')}", "prefect.resource.name": model}
    emit_event(event, resource, payload={"night": night, "summary": summary})
