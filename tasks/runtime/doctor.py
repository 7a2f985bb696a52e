"""Checks of this machine: versions, processors, memory, GPU, disk space, writable folders, servers."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_prep.errors import DataError
from tasks.runtime.home import home
from tasks.runtime.part_errors import without_password
from tasks.runtime.processes import processors
from tasks.runtime.servers import check_mlflow, check_prefect
from tasks.runtime.sqlite_check import PREFECT, check_database

PACKAGES = (
    "medmtl",
    "torch",
    "torchvision",
    "timm",
    "prefect",
    "mlflow",
    "torchjd",
    "pydicom",
    "opencv-python-headless",
)
FREE_GB = 2.0  # the default study with its stores and models takes half of it
MEMORY_GB = 4.0

Check = tuple[bool, str, str]
"""Whether it is all right, what was checked, and what was found (with the remedy)."""


def check_machine() -> Iterator[Check]:
    """Check the machine; the results come in the order in which they are shown."""
    import torch

    yield True, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    for package in PACKAGES:
        try:
            yield True, package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield False, package, "not installed: remove .venv and run make test"
    yield True, "processors", f"{processors()}, {torch.backends.cpu.get_cpu_capability()}"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    yield total >= MEMORY_GB, "memory", f"{total:.1f} GB ({MEMORY_GB:.0f} GB are enough for the default study)"
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        yield True, "GPU", f"{torch.cuda.device_count()} x {card.name}, {card.total_memory / 1e9:.0f} GB"
    else:
        yield True, "GPU", "none: training runs on the CPU"
    for name, folder in (("MEDMTL_HOME", home().root), ("this folder", Path.cwd())):
        yield _check_folder(name, folder)
    yield _check_prefect()
    yield _check_mlflow()


def _check_prefect() -> Check:
    try:
        if url := os.environ.get("PREFECT_API_URL"):
            check_prefect(url)
            return True, "Prefect", f"the server at {without_password(url)}"
        check_database(home().prefect / "prefect.db", PREFECT)
    except DataError as error:
        return False, "Prefect", str(error)
    return True, "Prefect", "a local server, started and stopped by each command"


def _check_mlflow() -> Check:
    uri = home().tracking_uri
    try:
        check_mlflow(uri)
    except DataError as error:
        return False, "MLflow", str(error)
    return True, "MLflow", without_password(uri)


def _check_folder(name: str, folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 1e9
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return False, name, f"{folder}: cannot be written ({error.strerror})"
    return free >= FREE_GB, name, f"{folder}: {free:.0f} GB free ({FREE_GB:.0f} GB are enough for the default study)"
