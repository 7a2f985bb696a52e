"""Checks of this machine: versions, processors, memory, GPU, disk space, writable folders, servers."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.runtime.home import home
from tasks.runtime.processes import processors

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


def check_machine() -> list[Check]:
    """Check the machine; the results are in the order in which they are shown."""
    return [_python(), *_versions(), _processors(), _memory(), _gpu(), *_folders(), _servers()]


def _python() -> Check:
    return True, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _versions() -> Iterator[Check]:
    for package in PACKAGES:
        try:
            yield True, package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield False, package, "not installed: remove .venv and run make test"


def _processors() -> Check:
    from torch.backends import cpu

    return True, "processors", f"{processors()}, {cpu.get_cpu_capability()}"


def _memory() -> Check:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return total >= MEMORY_GB, "memory", f"{total:.1f} GB ({MEMORY_GB:.0f} GB are enough for the default study)"


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return True, "GPU", "none: training runs on the CPU"
    card = torch.cuda.get_device_properties(0)
    return True, "GPU", f"{torch.cuda.device_count()} x {card.name}, {card.total_memory / 1e9:.0f} GB"


def _folders() -> Iterator[Check]:
    for name, folder in (("MEDMTL_HOME", home().root), ("this folder", Path.cwd())):
        free = shutil.disk_usage(folder).free / 1e9
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield False, name, f"{folder}: cannot be written ({error.strerror})"
            continue
        yield free >= FREE_GB, name, f"{folder}: {free:.0f} GB free ({FREE_GB:.0f} GB are enough for the default study)"


def _servers() -> Check:
    prefect = os.environ.get("PREFECT_API_URL") or "a local server, started and stopped by each command"
    return True, "servers", f"Prefect: {prefect}; MLflow: {home().tracking_uri}"
