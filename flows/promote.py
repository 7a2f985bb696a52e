"""The commands promote and rollback: choose the champion of a model by hand; they need MLflow only."""

import click

MODEL = click.Option(["--model"], default="medmtl", show_default=True, help="Name of the model in MLflow's registry.")


class ChampionCommand(click.Command):
    """A command that changes which version is the champion, and says in one line what changed."""

    def invoke(self, ctx: click.Context) -> None:
        """Check MLflow's store or server, and run the command."""
        from tasks.runtime.home import home
        from tasks.runtime.progress import configure_logging
        from tasks.runtime.servers import check_mlflow

        configure_logging()
        check_mlflow(home().tracking_uri)
        click.echo(super().invoke(ctx))


@click.command(cls=ChampionCommand, params=[MODEL])
@click.option("--version", type=click.IntRange(min=1), help="The version to promote, whatever the gate decided.")
def promote(model: str, version: int | None) -> str:
    """Make the model that waits for approval the champion, or the version that --version names."""
    from tasks.images import championship

    return championship.promote(model, None if version is None else str(version))


@click.command(cls=ChampionCommand, params=[MODEL])
def rollback(model: str) -> str:
    """Make the champion before this one the champion again; given again, the one before that."""
    from tasks.images import championship

    return championship.roll_back(model)
