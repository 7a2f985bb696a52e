"""The folder of a run: its config first, then its results; another run's results are never overwritten unasked."""

import hashlib
from pathlib import Path

import yaml
from pydantic import BaseModel

from data_prep.errors import DataError
from tasks.runtime.atomic_files import write_atomically

CONFIG, RESULTS, REPORT = "config.yaml", "results.json", "report.html"


def as_yaml(settings: BaseModel) -> str:
    """The settings as YAML, complete and in the order of their definition."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def settings_hash(settings: BaseModel) -> str:
    """8 hexadecimal digits that differ where the settings differ."""
    return hashlib.sha256(as_yaml(settings).encode()).hexdigest()[:8]


def prepare_run_folder(out: Path | None, kind: str, settings: BaseModel, force: bool) -> Path:
    """Make the folder `out`, by default runs/<kind>-<hash of the settings>, and write config.yaml into it.

    A folder with the same settings is taken up again: that is how a stopped run goes on.

    Raises:
        DataError: the folder holds results of other settings (and `force` is off), or cannot be written.
    """
    folder = (out or Path("runs") / f"{kind}-{settings_hash(settings)}").expanduser().absolute()
    config = as_yaml(settings)
    if not force and any((folder / name).exists() for name in (CONFIG, RESULTS, REPORT)):
        found = (folder / CONFIG).read_text(encoding="utf-8") if (folder / CONFIG).exists() else None
        if found != config:
            raise DataError(f"{folder} already holds another run: choose another --out, or replace it with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RESULTS, REPORT):
            (folder / name).unlink(missing_ok=True)  # what is there when this run ends is this run's
        write_atomically(folder / CONFIG, config.encode())
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror}): choose another folder with --out") from error
    return folder
