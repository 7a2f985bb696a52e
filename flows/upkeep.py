"""The commands `doctor` and `clean`: what is wrong, and what nobody needs any more. They are no flows."""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from data_prep.errors import DataError

if TYPE_CHECKING:
    from tasks.runtime.doctor import Check

WIDEST_NAME, LEAST_ROOM = 24, 30  # characters


@click.command(short_help="Check this machine, its home and its servers, and say what is wrong.")
def doctor() -> None:
    """Check this machine, MEDMTL_HOME and the servers, and say what is wrong and what helps.

    Looks at versions, memory, disk space and how long it will last; at Prefect's server, its work pools and their
    workers, schedules, the last nights and stuck runs; at MLflow's server, its files, dead runs and the champions.
    Changes nothing. A line says ok, WRONG, or - where there is nothing to check; the exit code is 1 if any is WRONG.
    """
    found = list(checks())
    for line in table(found, shutil.get_terminal_size().columns if sys.stdout.isatty() else None):
        click.echo(line)
    if any(check.status == "WRONG" for check in found):
        raise SystemExit(1)


def checks() -> "Iterator[Check]":
    """Check everything; what is wrong with one part keeps no other from being checked."""
    from tasks.operations.doctor_home import NAME, check_home
    from tasks.operations.doctor_mlflow import check_mlflow_records
    from tasks.operations.doctor_prefect import check_prefect_records
    from tasks.runtime.doctor import Check, check_machine
    from tasks.runtime.home import look_at_home

    yield from check_machine()
    home = None
    try:
        home = look_at_home()
    except DataError as error:
        yield Check("WRONG", NAME, str(error))
    if home:
        yield from check_home(home)
    yield from check_prefect_records(home)
    yield from check_mlflow_records(home)


def table(found: "Sequence[Check]", width: int | None) -> Iterator[str]:
    """Yield the lines of a table of checks.

    Args:
        found: the checks.
        width: of the lines, in characters, to which findings are broken; None to leave each on its line.
    """
    names = min(max(len(check.name) for check in found), WIDEST_NAME)
    for check in found:
        head = f"{check.status:<5}  {check.name:<{names}}  "
        if width is None:
            yield f"{head}{check.finding}"
        else:
            room = max(width - len(head), LEAST_ROOM)
            indent = " " * len(head)
            lines = textwrap.wrap(check.finding, room, break_long_words=False, break_on_hyphens=False)
            yield from (f"{head if line is lines[0] else indent}{line}" for line in lines)


@click.command(short_help="Remove old stores, checkpoints, nights and records that nothing needs.")
@click.option("--keep", type=int, help="Newest nights of each series, stores of each source, runs of each flow [7].")
@click.option("--older-than", type=float, metavar="DAYS", help="Remove only what is older, in days [14].")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def clean(keep: int | None, older_than: float | None, dry_run: bool) -> None:
    """Remove what can be made again and what nobody needs any more, and say what was freed.

    These go if they are neither among the newest (--keep) nor young (--older-than): nights in MLflow with their arms
    and files, stores and the decoded pixels that no store uses, flow runs in Prefect. So do checkpoints of arms that
    nobody will resume: those of finished arms, of runs that were deleted in MLflow, and of nights that a newer night
    has followed; and what killed commands left.

    These always stay: all that a version of a registered model comes from, studies with all their arms, every
    checkpoint that a study can be resumed from (to give one up, delete its run in MLflow), what a running command
    holds, downloads, and the folders of results.
    """
    from tasks.operations.clean import clean_home, table
    from tasks.operations.removable import CleanSettings
    from tasks.runtime.progress import configure_logging

    configure_logging()
    given = {name: value for name, value in (("keep", keep), ("older_than", older_than)) if value is not None}
    for line in table(clean_home(CleanSettings(dry_run=dry_run, **given)), dry_run):
        click.echo(line)
