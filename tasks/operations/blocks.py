"""Notification blocks: where the Prefect server sends what a person is told."""

from uuid import UUID

from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import ObjectNotFound

from data_prep.errors import DataError
from tasks.operations.changes import Change, Done

NAME = "medmtl"  # of the block that --webhook makes


def webhook_block(client: SyncPrefectClient, url: str) -> tuple[UUID, Change]:
    """Keep a webhook's address in a block on the server, as a secret: whoever knows it can write there.

    A notification is a POST of JSON with the fields `title` and `text`.

    Raises:
        DataError: the address is none of http or https.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError("--webhook: expected an address that begins with http:// or https://")
    wanted = CustomWebhookNotificationBlock(
        name=NAME,
        url="{{ address }}",
        json_data={"title": "{{ subject }}", "text": "{{ body }}"},
        secrets={"address": url},
    )
    slug = wanted.get_block_type_slug()
    try:
        found = client.read_block_document_by_name(NAME, slug, include_secrets=True)
        if CustomWebhookNotificationBlock.model_validate(found.data) == wanted:
            return found.id, Change("unchanged", "block", f"{slug}/{NAME}")
        done: Done = "updated"
    except ObjectNotFound:
        done = "created"
    wanted.save(NAME, overwrite=True)
    return client.read_block_document_by_name(NAME, slug).id, Change(done, "block", f"{slug}/{NAME}")


def existing_block(client: SyncPrefectClient, place: str) -> tuple[UUID, Change]:
    """Find a notification block that a person has made, such as one for e-mail.

    Raises:
        DataError: there is no such block on the server, or it sends no notifications.
    """
    slug, _, name = place.partition("/")
    try:
        found = client.read_block_document_by_name(name, slug)
    except ObjectNotFound as error:
        remedy = "expected TYPE/NAME, such as sendgrid-email/office; prefect block ls shows them"
        raise DataError(f"--notify {place}: the server has no such block; {remedy}") from error
    if "notify" not in (found.block_schema.capabilities if found.block_schema else ()):
        raise DataError(f"--notify {place}: this block sends no notifications; prefect block type ls shows which do")
    return found.id, Change("unchanged", "block", place)
