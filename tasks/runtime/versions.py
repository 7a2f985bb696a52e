"""Versions behind a result: the code's commit, the libraries, the machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """Return everything that may change the last bits, or the speed, of a result: versions, device, threads."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    machine = {"python": platform.python_version(), "system": platform.platform(), "device": device}
    packages = {name: version(name) for name in ("torch", "timm", "mlflow", "prefect")}
    return machine | {"threads": str(torch.get_num_threads())} | packages


def git_commit() -> str | None:
    """Return the commit of this code, followed by '+' if tracked files were changed; None outside git."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
