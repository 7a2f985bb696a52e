"""The command line: a command for each flow (`medmtl study`, `train`, `evaluate`, ...), `deploy` and `doctor`.

Flags set common settings; all other settings come from the YAML file given with --config (flags win). Heavy packages
are imported only after the command is known, so that `medmtl --help` answers at once.
"""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

from flows.deploy import deploy
from flows.promote import promote, rollback
from flows.settings import PATH, compose, describe, error_line, find_flag
from flows.upkeep import clean, doctor
from tasks.runtime.part_errors import explain

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


class FlowCommand(click.Command):
    """A command that runs one flow; each of its flags sets one of the flow's settings, and its help lists all of them.

    The flow `name` is the function of that name in `flows.<name>`; its settings are the class `<Name>Settings` there.
    """

    def __init__(self, name: str, summary: str, flags: tuple[str, ...]) -> None:
        self.module = f"flows.{name}"
        options: list[click.Parameter] = [
            click.Option(["--config"], type=PATH, help="YAML file of settings; flags win over the file."),
            click.Option(["--out"], type=PATH, help="Folder for the results [runs/COMMAND-HASH]."),
            click.Option(["--force"], is_flag=True, help="Replace the results of another run in --out."),
        ]
        for option in flags:
            flag = find_flag(name, option)
            values: dict[str, Any] = {"type": flag.type, "is_flag": flag.type is bool, "multiple": flag.multiple}
            options.append(click.Option([option], default=None, help=flag.help, **values))
        super().__init__(name, params=options, callback=self.run, help=summary, short_help=summary)

    def settings(self) -> type[BaseModel]:
        """Import the class of the flow's settings, which takes seconds."""
        model: type[BaseModel] = getattr(importlib.import_module(self.module), f"{str(self.name).title()}Settings")
        return model

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the list of all settings to `--help`."""
        with formatter.section("Settings for the YAML file, with their defaults"):
            formatter.write_dl(describe(self.settings()))

    def compose(self, config: Path | None, flags: Mapping[str, Any]) -> BaseModel:
        """Make the flow's settings from a YAML file and flags."""
        return compose(self.settings(), config, {f"--{name.replace('_', '-')}": value for name, value in flags.items()})

    def run(self, config: Path | None, out: Path | None, force: bool, **flags: Any) -> None:
        """Start a Prefect server if needed, make the settings, and run the flow."""
        from tasks.runtime.home import home
        from tasks.runtime.prefect_server import prefect_server, wait_until_up
        from tasks.runtime.progress import configure_logging
        from tasks.runtime.servers import check_mlflow

        configure_logging()
        home().check_space()  # the server's database needs some
        with prefect_server(home().prefect) as url:
            check_mlflow(home().tracking_uri)  # the flow does too, but only once the server is up
            settings = self.compose(config, flags)  # imports torch while the server starts
            wait_until_up(url)
            flow: Callable[..., Any] = getattr(importlib.import_module(self.module), str(self.name))
            flow(settings, out=out, force=force)


class PredictCommand(FlowCommand):
    """The command for single files too: it needs MLflow only, and no Prefect server, which takes seconds to start."""

    def __init__(self, name: str, summary: str, flags: tuple[str, ...]) -> None:
        super().__init__(name, summary, flags)
        self.params.insert(0, click.Argument(["files"], nargs=-1, metavar="[FILE|FOLDER]..."))

    def run(self, config: Path | None, out: Path | None, force: bool, **flags: Any) -> None:
        """Make the settings, and do what the flow does."""
        from tasks.runtime.home import home
        from tasks.runtime.progress import configure_logging
        from tasks.runtime.servers import check_mlflow

        configure_logging()
        check_mlflow(home().tracking_uri)
        flow = importlib.import_module(self.module).predict
        flow.fn(self.compose(config, flags), out=out, force=force)


@click.group()
@click.version_option(package_name="medmtl")
def medmtl() -> None:
    """Train and compare multi-task networks on medical images with noisy labels.

    Results go to --out (results.json, report.html, config.yaml). Decoded images, checkpoints, and the databases of
    MLflow and Prefect go to MEDMTL_HOME, by default ~/.medmtl.
    """


TABLE_FLAGS = ("--labels", "--label-column", "--allow-missing", "--chest-radiographs")
DATA_FLAGS = ("--data", *TABLE_FLAGS, "--size", "--from", "--manifest", "--parts", "--discard-archives")
TRAINING_FLAGS = (
    "--adjudicated",
    "--split",
    "--backbone",
    "--method",
    "--policy",
    "--noise",
    "--noise-rate",
    "--noise-label",
)
ARM_FLAGS = (*DATA_FLAGS, *TRAINING_FLAGS, "--epochs", "--seed", "--device")
TEXT_DATA_FLAGS = ("--experiment", "--folder", "--task", "--cap")
TEXT_FLAGS = (*TEXT_DATA_FLAGS, "--encoder", "--align", "--schedule", "--epochs", "--seed", "--seeds", "--device")

COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "study": (
        "Compare task weightings and augmentation policies under label noise: train methods x policies x noise x "
        "seeds, and write a report.",
        (*ARM_FLAGS, "--baseline-policy", "--protocol", "--seeds", "--dry-run"),
    ),
    "train": ("Train one model and register it in MLflow.", (*ARM_FLAGS, "--model", "--profile")),
    "evaluate": (
        "Score the registered champion and challenger, and promote the challenger if the rule allows.",
        (*DATA_FLAGS, "--split", "--model", "--promote"),
    ),
    "predict": (
        "Predict images with a registered model: files and folders of PNG, JPEG and DICOM, without labels.",
        ("--model", "--page", "--chest-radiographs"),
    ),
    "nightly": (
        "Run a night: take in new images, look for drift, train a challenger, and promote it if the rule allows.",
        (
            *DATA_FLAGS,
            "--backbone",
            "--method",
            "--policy",
            "--epochs",
            "--seed",
            "--device",
            "--start",
            "--model",
            "--promote",
            "--approve",
            "--night",
        ),
    ),
    "classify": (
        "Compare augmentation policies in image classification: policies x wrong labels x lengths of training x seeds.",
        (
            "--data",
            "--from",
            "--size",
            "--train-images",
            "--backbone",
            "--policy",
            "--baseline-policy",
            "--wrong-labels",
            "--epochs",
            "--seed",
            "--seeds",
            "--device",
            "--dry-run",
        ),
    ),
    "sentiment": (
        "Compare multi-task with single-task networks on six sentence tasks, with and without covariance alignment.",
        (*TEXT_FLAGS, "--policy", "--vectors"),
    ),
    "glue": (
        "Compare multi-task with single-task networks on five GLUE tasks with a pretrained encoder, with and without "
        "covariance alignment.",
        TEXT_FLAGS,
    ),
    "theory": (
        "Check the theory of both papers numerically: transfer between tasks, and data augmentation.",
        ("--digits", "--seed", "--seeds"),
    ),
    "ingest": ("Decode images from a folder or a download, with their labels, into a store.", DATA_FLAGS),
}
"""Name of the flow -> its summary and its flags."""

for name, (summary, flags) in COMMANDS.items():
    medmtl.add_command({"predict": PredictCommand}.get(name, FlowCommand)(name, summary, flags))
for command in (promote, rollback, clean, deploy, doctor):
    medmtl.add_command(command)


def main() -> None:
    """Run a command and exit.

    The code is 0 after success, 2 for bad input (one line), 130 if interrupted and resumable, and 1 after any other
    error: one line for a server or database that failed meanwhile, otherwise a traceback.
    """
    os.umask(0o077)  # what Prefect's server writes is for its owner only; a flow does the same itself
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM is handled like Ctrl-C
    code = exit_code(sys.argv[1:])
    if code == FAILED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # Prefect's threads would try for a minute to tell a dead server of their events
    sys.exit(code)


def exit_code(arguments: list[str]) -> int:
    """Run a command and return its exit code, see `main`."""
    try:
        code = medmtl(arguments, standalone_mode=False)
        return code if isinstance(code, int) else OK
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        click.echo("medmtl: stopped; run the same command again to resume", err=True)
        return INTERRUPTED
    except Exception as error:
        if line := error_line(error):
            click.echo(f"medmtl: {line}", err=True)
            return BAD_INPUT
        if line := explain(error):
            click.echo(f"medmtl: {line}", err=True)
            return FAILED
        traceback.print_exc()
        return FAILED


if __name__ == "__main__":
    main()
