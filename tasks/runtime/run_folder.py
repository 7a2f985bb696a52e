"""The output folder of a run: config.yaml, results.json, report.html; another run's are only replaced with --force."""

import hashlib
from pathlib import Path

import yaml
from pydantic import BaseModel

from data_prep.errors import DataError
from tasks.runtime.atomic_files import write_atomically

CONFIG, RESULTS, REPORT = "config.yaml", "results.json", "report.html"


def as_yaml(settings: BaseModel) -> str:
    """Return all settings as YAML, in the order of their definition."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def prepare_run_folder(out: Path | None, kind: str, settings: BaseModel, force: bool) -> Path:
    """Create and return the output folder of a run, with config.yaml in it.

    A folder that holds the same settings is used again: that is how a stopped run is resumed.

    Args:
        out: the folder; by default runs/<kind>-<8 digits of the hash of the settings>.
        kind: of run, such as 'study'.
        settings: written to config.yaml.
        force: replace the results of another run.

    Raises:
        DataError: the folder holds results of other settings (and `force` is off), or cannot be written.
    """
    config = as_yaml(settings)
    default = Path("runs") / f"{kind}-{hashlib.sha256(config.encode()).hexdigest()[:8]}"
    folder = (out or default).expanduser().absolute()
    if not force and any((folder / name).exists() for name in (CONFIG, RESULTS, REPORT)):
        found = (folder / CONFIG).read_text(encoding="utf-8") if (folder / CONFIG).exists() else None
        if found != config:
            raise DataError(f"{folder} already holds another run: choose another --out, or replace it with --force")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RESULTS, REPORT):
            (folder / name).unlink(missing_ok=True)  # files that are there when this run ends are its own
        write_atomically(folder / CONFIG, config.encode())
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror}): choose another folder with --out") from error
    return folder
