"""`medmtl deploy`: what runs by itself on a Prefect server, from prefect.yaml.

It is declarative: what is there and equal is left, what differs is updated, what is missing is created.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from data_prep.errors import DataError

if TYPE_CHECKING:
    from tasks.operations.changes import Change

START = "PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1 prefect server start"  # sends no telemetry


@click.command()
@click.option("--file", type=click.Path(path_type=Path), default="prefect.yaml", show_default=True, help="Deployments.")
@click.option("--webhook", metavar="URL", envvar="MEDMTL_WEBHOOK", help="Send notifications to this address.")
@click.option("--notify", metavar="TYPE/NAME", help="Send notifications through this block of the server.")
def deploy(file: Path, webhook: str | None, notify: str | None) -> None:
    """Register the deployments of prefect.yaml with the server that PREFECT_API_URL names, and watch over their runs.

    Creates what the server lacks: work pools, deployments, an automation that ends dead runs, and, with --webhook or
    --notify, a notification for each run that failed, crashed or is late, for each model that was promoted or waits for
    approval, and for drift. A second time it changes nothing.
    """
    for change in deploy_file(file, webhook, notify):
        click.echo(change)


def deploy_file(file: Path, webhook: str | None, notify: str | None) -> "Iterator[Change]":
    """Make the server as a prefect.yaml says, and give what became of each thing.

    Args:
        file: a prefect.yaml.
        webhook: address that takes notifications, if any.
        notify: notification block on the server (type/name), if any.

    Raises:
        DataError: no server, no such block, or a file that cannot be used.
    """
    if not (url := os.environ.get("PREFECT_API_URL")):
        raise DataError(
            f"PREFECT_API_URL is not set, and deployments need a server that stays; start one with '{START}', then set "
            "PREFECT_API_URL=http://127.0.0.1:4200/api"
        )
    from tasks.runtime.servers import check_prefect

    check_prefect(url)
    from prefect.client.orchestration import get_client

    from tasks.operations.automations import apply_automation, left_notifications, notifications, zombies
    from tasks.operations.blocks import existing_block, webhook_block
    from tasks.operations.deployments import create_pools, read_prefect_file, register_deployments

    content = read_prefect_file(file)
    with get_client(sync_client=True) as client:
        found = [webhook_block(client, webhook)] if webhook else []
        found += [existing_block(client, notify)] if notify else []
        yield from (change for _, change in found)
        yield from create_pools(client, content)
        yield from register_deployments(client, content)
        yield apply_automation(client, zombies())
        if found:
            for wanted in notifications([block for block, _ in found]):
                yield apply_automation(client, wanted)
        else:
            yield left_notifications(client)
