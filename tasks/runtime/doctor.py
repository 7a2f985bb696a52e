"""Checks of this machine: versions, processors, memory, GPU, this folder; and what every check returns."""

import importlib.metadata
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from tasks.runtime.escaping import escape_unprintable
from tasks.runtime.part_errors import reason
from tasks.runtime.processes import processors
from tasks.runtime.progress import format_duration
from tasks.runtime.servers import within

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
DAY_SECONDS = 24 * 3600
MOST_SECONDS = 20.0  # for all questions to one server


class Check(NamedTuple):
    """What one check found.

    Attributes:
        status: WRONG where a person has to do something; "-" where there is nothing to check, or it is off on purpose.
        name: of what was checked.
        finding: what was found; where it is wrong, with the remedy.
    """

    status: Literal["ok", "WRONG", "-"]
    name: str
    finding: str


def judge(right: bool, name: str, finding: str, remedy: str) -> Check:
    """Return the check of something that is right, or wrong and has a remedy."""
    return Check("ok", name, finding) if right else Check("WRONG", name, f"{finding}: {remedy}")


def ask_in_time(name: str, questions: Callable[[], Iterator[Check]], seconds: float = MOST_SECONDS) -> Iterator[Check]:
    """Give what some questions find; whatever hangs or fails in between is one wrong check more, of this name."""
    found: list[Check] = []
    try:
        within(seconds, lambda: found.extend(questions()))
    except Exception as error:  # of a server that went away meanwhile, or answers what its client does not expect
        found = [*found, Check("WRONG", name, f"not all checks could be done: it {reason(error)}; look at its log")]
    yield from found


def ago(moment: datetime) -> str:
    """Say how long ago something was, roughly."""
    seconds = max((datetime.now(UTC) - moment).total_seconds(), 0)
    return f"{in_words(seconds)} ago"


def in_words(seconds: float) -> str:
    """Return a duration in words, in days from two days on."""
    return f"{seconds / DAY_SECONDS:.0f} days" if seconds >= 2 * DAY_SECONDS else format_duration(seconds)


def some(names: Sequence[str], most: int = 3) -> str:
    """Return the first of some names, and how many there are beside."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(escape_unprintable, names[:most])) + more


def check_machine() -> Iterator[Check]:
    """Check the machine; the results come in the order in which they are shown."""
    import torch

    yield Check("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        try:
            yield Check("ok", package, importlib.metadata.version(package))
        except importlib.metadata.PackageNotFoundError:
            yield Check("WRONG", package, "not installed: remove .venv and run make test")
    yield Check("ok", "processors", f"{processors()}, {torch.backends.cpu.get_cpu_capability()}")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    enough = f"{MEMORY_GB:.0f} GB are enough for the default study"
    yield judge(total >= MEMORY_GB, "memory", f"{total:.1f} GB ({enough})", "use a larger machine, or smaller images")
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        yield Check("ok", "GPU", f"{torch.cuda.device_count()} x {card.name}, {card.total_memory / 1e9:.0f} GB")
    else:
        yield Check("ok", "GPU", "none: training runs on the CPU")
    yield check_folder("this folder", Path.cwd(), "go to another folder, or name one with --out")


def check_folder(name: str, folder: Path, remedy: str) -> Check:
    """Check that a folder can be written and has room; the file that is written has no name and stays nowhere."""
    try:
        free = shutil.disk_usage(folder).free / 1e9
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("WRONG", name, f"{folder} cannot be written ({error.strerror}): {remedy}")
    room = f"{folder}: {free:.0f} GB free ({FREE_GB:.0f} GB are enough for the default study)"
    return judge(free >= FREE_GB, name, room, "run medmtl clean, or free some space")
