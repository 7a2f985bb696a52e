"""Versions behind a result: the code's commit, the libraries, the machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """Return everything that may change the last bits, or the speed, of a result: versions, device, threads."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    packages = {name: version(name) for name in ("torch", "timm", "mlflow", "prefect")}
    return (
        {"python": platform.python_version(), "system": platform.platform(), "device": device}
        | {"threads": str(torch.get_num_threads())}
        | packages
    )


def git_commit() -> str | None:
    """Return the commit of this code, followed by '+' if tracked files were changed; None outside git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        changes = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "")
