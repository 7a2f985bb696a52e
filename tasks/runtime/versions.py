"""What results were made with: the code, its parts, the machine."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def versions() -> dict[str, str]:
    """What may change the last bits, or the speed, of a result."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    parts = {part: version(part) for part in ("torch", "timm", "mlflow", "prefect")}
    return (
        {"python": platform.python_version(), "system": platform.platform(), "device": device}
        | {"threads": str(torch.get_num_threads())}
        | parts
    )


def git_commit() -> str | None:
    """The commit of this code, with '+' behind it if tracked files differ from it; None outside git."""
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
