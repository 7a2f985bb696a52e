"""The output folder of a run: config.yaml, results.json, report.html; another run's are only replaced with --force.

A report stays until the new one is written, and config.yaml is always that of results.json beside it: where a run
replaces another one, its config is written together with its results.
"""

import hashlib
import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from prefect.context import FlowRunContext
from pydantic import BaseModel

from data_prep.errors import DataError
from data_prep.regular_file import read_regular
from tasks.runtime.atomic_files import link_atomically, write_atomically

LATEST = "latest"
CONFIG, RESULTS, REPORT, PREDICTIONS = "config.yaml", "results.json", "report.html", "predictions.json"

_MAX_CONFIG = 1 << 20  # bytes; a larger file is no config of ours


def as_yaml(settings: BaseModel) -> str:
    """Return all settings as YAML, in the order of their definition."""
    return _yaml(settings.model_dump(mode="json"))


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    """Write the complete settings of a run, as plain values, into its folder."""
    write_atomically(folder / CONFIG, _yaml(config).encode())


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)


def prepare_run_folder(out: Path | None, kind: str, settings: BaseModel, force: bool) -> Path:
    """Create and return the output folder of a run, with config.yaml in it unless another run's results are there.

    A folder that holds the same settings is used again: that is how a stopped run is resumed. A run that Prefect's
    schedule started has a folder for its night in it, see `prepare_night_folder`.

    Args:
        out: the folder; by default runs/<kind>-<8 digits of the hash of the settings>.
        kind: of run, such as 'study'.
        settings: of the run.
        force: replace the results of another run.

    Raises:
        DataError: the folder holds results of other settings (and `force` is off), or cannot be written.
    """
    folder, night = name_run_folder(out, kind, settings), scheduled_night()
    return prepare_night_folder(folder, night, settings, force) if night else _prepare(folder, settings, force)


def prepare_night_folder(series: Path, night: date, settings: BaseModel, force: bool) -> Path:
    """Create and return the folder of a night in that of its series: as `prepare_run_folder`, but one for each date."""
    return _prepare(_absolute(series) / night.isoformat(), settings, force)


def point_latest(folder: Path) -> None:
    """Let the link `latest` beside the folder of a finished night point to it, unless it points to a later night.

    Raises:
        DataError: the link cannot be made.
    """
    link = folder.with_name(LATEST)
    is_later = link.is_symlink() and link.exists() and link.readlink().name > folder.name
    if is_later or not folder.is_dir():
        return  # a dry run has no folder
    try:
        link_atomically(link, folder.name)
    except OSError as error:
        raise DataError(f"cannot make the link {link} ({error.strerror}): move away what is there") from error


def name_run_folder(out: Path | None, kind: str, settings: BaseModel) -> Path:
    """Return the folder of a run by hand, or of the series of a scheduled one; see `prepare_run_folder`."""
    default = Path("runs") / f"{kind}-{hashlib.sha256(as_yaml(settings).encode()).hexdigest()[:8]}"
    return _absolute(out or default)


def _absolute(folder: Path) -> Path:
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:  # the home of a user whom there is not
        raise DataError(f"cannot write {folder} ({error}): choose another folder with --out") from error


def scheduled_night() -> date | None:
    """Return the local date of a run that Prefect's schedule has started, the same at each retry; None for others."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or not context.flow_run.auto_scheduled:
        return None
    due = context.flow_run.expected_start_time
    return due.astimezone().date() if due else None


def _prepare(folder: Path, settings: BaseModel, force: bool) -> Path:
    config = as_yaml(settings).encode()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_ours = _holds(folder, config)
        if not is_ours and not force:
            raise DataError(f"{folder} already holds another run: choose another --out, or replace it with --force")
        if is_ours or not _has_results(folder):
            write_atomically(folder / CONFIG, config)
        elif not os.access(folder, os.W_OK | os.X_OK):
            raise DataError(f"cannot write {folder}: choose another folder with --out")
    except FileExistsError as error:
        raise DataError(f"cannot write into {error.filename}: it is no folder; choose another --out") from error
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror}): choose another folder with --out") from error
    return folder


def _holds(folder: Path, config: bytes) -> bool:
    """Return whether the folder is free, or holds the run of this config."""
    if not os.path.lexists(folder / CONFIG):
        return not _has_results(folder)
    try:
        return read_regular(folder / CONFIG, _MAX_CONFIG) == config
    except OSError:  # a pipe, a folder, or too large: no config of ours
        return False


def _has_results(folder: Path) -> bool:
    return any(os.path.lexists(folder / name) for name in (RESULTS, REPORT, PREDICTIONS))
