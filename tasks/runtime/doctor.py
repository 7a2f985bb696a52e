"""What this machine can do: versions, processors, GPU, disk, writable folders, and what is missing."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tasks.runtime.home import home
from tasks.runtime.processes import processors

PARTS = ("medmtl", "torch", "torchvision", "timm", "prefect", "mlflow", "torchjd", "pydicom", "opencv-python-headless")
FREE_GB = 2.0  # a default study with its stores and models takes half of it
MEMORY_GB = 4.0

Finding = tuple[bool, str, str]


def examine() -> list[Finding]:
    """Findings in the order of reading: (all right?, what was looked at, what was found and what to do)."""
    return [_python(), *_versions(), _processors(), _memory(), _gpu(), *_folders(), _servers()]


def _python() -> Finding:
    return True, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"


def _versions() -> Iterator[Finding]:
    for part in PARTS:
        try:
            yield True, part, importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            yield False, part, "not installed: remove .venv and run make test"


def _processors() -> Finding:
    from torch.backends import cpu

    return True, "processors", f"{processors()}, {cpu.get_cpu_capability()}"


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return total >= MEMORY_GB, "memory", f"{total:.1f} GB ({MEMORY_GB:.0f} GB are enough for the default study)"


def _gpu() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return True, "GPU", "none: training runs on the CPU"
    card = torch.cuda.get_device_properties(0)
    return True, "GPU", f"{torch.cuda.device_count()} x {card.name}, {card.total_memory / 1e9:.0f} GB"


def _folders() -> Iterator[Finding]:
    for what, folder in (("MEDMTL_HOME", home().root), ("this folder", Path.cwd())):
        free = shutil.disk_usage(folder).free / 1e9
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            yield False, what, f"{folder}: cannot be written ({error.strerror})"
            continue
        yield free >= FREE_GB, what, f"{folder}: {free:.0f} GB free ({FREE_GB:.0f} GB are enough for the default study)"


def _servers() -> Finding:
    prefect = os.environ.get("PREFECT_API_URL") or "one of our own, for the length of each command"
    return True, "servers", f"Prefect: {prefect}; MLflow: {home().tracking_uri}"
