"""The command `clean`: remove what can be made again and what nobody needs any more."""

import click


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
