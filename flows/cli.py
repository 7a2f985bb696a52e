"""The command line: `medmtl study`, `train`, `evaluate`, `ingest`, `sentiment`, `glue`, `doctor`.

Flags set common settings; everything else comes from the YAML file given with --config (flags win). Nothing heavy
is imported before a command is known, so that `medmtl --help` answers at once.
"""

import importlib
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from flows.settings import FLAGS, compose, describe, one_line

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class FlowCommand(click.Command):
    """A command that runs one flow; its flags are paths into the flow's settings, its help lists them all."""

    def __init__(self, name: str, summary: str, flags: tuple[str, ...]) -> None:
        self.module = f"flows.{name}"
        options: list[click.Parameter] = [
            click.Option(
                ["--config"], type=click.Path(path_type=Path), help="YAML file of settings; flags win over it."
            ),
            click.Option(["--out"], type=click.Path(path_type=Path), help="Folder for the results."),
            click.Option(["--force"], is_flag=True, help="Replace another run's results in --out."),
        ]
        options += [
            click.Option(
                [flag],
                multiple=FLAGS[flag].multiple,
                type=FLAGS[flag].type,
                is_flag=FLAGS[flag].type is bool,
                default=None,
                help=FLAGS[flag].help,
            )
            for flag in flags
        ]
        super().__init__(name, params=options, callback=self.run, help=summary, short_help=summary)

    def settings(self) -> type[BaseModel]:
        """The settings of the flow; importing them takes seconds."""
        found: type[BaseModel] = getattr(importlib.import_module(self.module), f"{str(self.name).title()}Settings")
        return found

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Settings for the YAML file, with their defaults"):
            formatter.write_dl(describe(self.settings()))

    def run(self, config: Path | None, out: Path | None, force: bool, **flags: Any) -> None:
        from tasks.runtime.home import home
        from tasks.runtime.prefect_server import crash_orphans, prefect_server, process_tag, wait_until_up
        from tasks.runtime.progress import LOGGER, show_lines

        show_lines()
        with ExitStack() as stack:
            url = stack.enter_context(prefect_server(home().prefect))
            model = self.settings()  # imports torch, while the server comes up
            settings = compose(model, config, {f"--{name.replace('_', '-')}": value for name, value in flags.items()})
            wait_until_up(url)
            if orphans := crash_orphans():
                LOGGER.info("%d Prefect runs of a killed command are now marked crashed", orphans)
            from prefect import tags

            stack.enter_context(tags(process_tag()))
            flow: Callable[..., Any] = getattr(importlib.import_module(self.module), str(self.name))
            flow(settings, out=out, force=force)


@click.group()
@click.version_option(package_name="medmtl")
def medmtl() -> None:
    """Multi-task learning on medical images with noisy labels.

    Results go to --out (results.json, report.html, config.yaml); what outlives a run (decoded images, unfinished
    training, MLflow's and Prefect's databases) goes to MEDMTL_HOME, by default ~/.medmtl.
    """


DATA_FLAGS = ("--data", "--labels", "--size", "--from", "--manifest", "--parts", "--discard-archives")
NOISE_FLAGS = ("--noise", "--noise-rate", "--noise-label")
ARM_FLAGS = (
    *DATA_FLAGS,
    "--adjudicated",
    "--split",
    "--backbone",
    "--method",
    *NOISE_FLAGS,
    "--epochs",
    "--seed",
    "--device",
)

medmtl.add_command(
    FlowCommand(
        "study",
        "Compare task weightings under label noise: methods x noise x seeds, and a report.",
        (*ARM_FLAGS, "--protocol", "--seeds", "--dry-run"),
    )
)
medmtl.add_command(
    FlowCommand("train", "Train one model and register it in MLflow.", (*ARM_FLAGS, "--model", "--profile"))
)
medmtl.add_command(
    FlowCommand(
        "evaluate",
        "Score registered models, and promote the challenger if it may be.",
        (*DATA_FLAGS, "--split", "--model", "--promote"),
    )
)
TEXT_FLAGS = (
    "--experiment", "--folder", "--task", "--cap", "--encoder", "--align", "--schedule",
    "--epochs", "--seed", "--seeds", "--device",
)  # fmt: skip

medmtl.add_command(
    FlowCommand(
        "sentiment",
        "Six tasks on sentences: alone, in pairs, aligned, transferred, by capacity.",
        (*TEXT_FLAGS, "--vectors"),
    )
)
medmtl.add_command(FlowCommand("glue", "Five of GLUE's tasks in one pretrained encoder, aligned and not.", TEXT_FLAGS))
medmtl.add_command(
    FlowCommand("theory", "Hold the theory of transfer against what optimisation finds.", ("--seed", "--seeds"))
)
medmtl.add_command(FlowCommand("ingest", "Download or take the data, decode them into a store.", DATA_FLAGS))


@medmtl.command()
def doctor() -> None:
    """Say what this machine can do, and what is missing."""
    from tasks.runtime.doctor import examine

    rows = examine()
    for ok, what, finding in rows:
        click.echo(f"{'ok     ' if ok else 'MISSING'}  {what:<18} {finding}")
    if not all(ok for ok, _, _ in rows):
        raise SystemExit(FAILED)


def main() -> None:
    """Run a command and exit: 0 done, 2 bad input (one line), 130 interrupted and resumable, 1 anything else."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop asked for politely leaves all as Ctrl-C does
    sys.exit(exit_code(sys.argv[1:]))


def exit_code(arguments: list[str]) -> int:
    """Run a command and return its exit code, see `main`."""
    try:
        code = medmtl(arguments, standalone_mode=False)
        return code if isinstance(code, int) else OK
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo("medmtl: stopped; the same command goes on where it was", err=True)
        return INTERRUPTED
    except Exception as error:
        if line := one_line(error):
            click.echo(f"medmtl: {line}", err=True)
            return BAD_INPUT
        traceback.print_exc()
        return FAILED


if __name__ == "__main__":
    main()
