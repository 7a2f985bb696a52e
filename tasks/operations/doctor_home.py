"""Check MEDMTL_HOME: whether it can be used, its size, its growth, and how long the free space will last.

Growth is read from the disk: the bytes of the files that were written in the last week and are still there. So what
was written and removed within the week does not count, and neither does what is written again and again: databases and
checkpoints.
"""

import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tasks.operations.removable import DAY_SECONDS
from tasks.runtime.doctor import Check, check_folder, judge
from tasks.runtime.home import OWN, OWN_FOLDER, Home

NAME = "MEDMTL_HOME"
WALK_SECONDS = 5.0
MOST_ENTRIES = 300_000  # files and folders that are looked at
WEEK_SECONDS = 7 * DAY_SECONDS
REWRITTEN = frozenset({"arms", "leases", "mlflow", "prefect"})
SHOWN_PARTS = 6
LONG_WEEKS = 5 * 52  # nobody plans further ahead


@dataclass
class Contents:
    """What a home holds.

    Attributes:
        sizes: bytes by part of the home.
        new: bytes of the files of the last week, without those that are written again and again.
        oldest: when the oldest file was written; Unix time, seconds.
        complete: whether all files were looked at.
    """

    sizes: Counter[str] = field(default_factory=Counter)
    new: int = 0
    oldest: float = field(default_factory=time.time)
    complete: bool = True


def check_home(home: Home) -> Iterator[Check]:
    """Check a home that can be used."""
    if not home.root.is_dir():
        yield Check("ok", NAME, f"{home.root}: not there yet, the first command makes it")
        return
    yield check_folder(NAME, home.root, OWN_FOLDER)
    found = measure(home.root)
    parts = [f"{part} {_gigabytes(size)}" for part, size in found.sizes.most_common(SHOWN_PARTS) if size]
    cut = "" if found.complete else f"at least, of the first {MOST_ENTRIES} files or {WALK_SECONDS:.0f} s: "
    whole = f"{cut}{_gigabytes(found.sizes.total())}{' = ' if parts else ''}{' + '.join(parts)}"
    yield Check("ok", "its size", whole + (" + …" if len(found.sizes) > SHOWN_PARTS else ""))
    yield growth(found, shutil.disk_usage(home.root).free)


def measure(root: Path) -> Contents:
    """Add up the files of a home, links not followed; a file with several names counts once.

    It looks at no more than `MOST_ENTRIES`, and for no longer than `WALK_SECONDS`.
    """
    found, seen, entries = Contents(), set[tuple[int, int]](), 0
    since, deadline = time.time() - WEEK_SECONDS, time.monotonic() + WALK_SECONDS
    for part, state in _files(root):
        entries += 1
        if entries > MOST_ENTRIES or time.monotonic() > deadline:
            found.complete = False
            break
        if not stat.S_ISREG(state.st_mode) or (state.st_dev, state.st_ino) in seen:
            continue
        if state.st_nlink > 1:
            seen.add((state.st_dev, state.st_ino))
        found.sizes[part] += state.st_size
        found.oldest = min(found.oldest, state.st_mtime)
        if state.st_mtime >= since and part not in REWRITTEN:
            found.new += state.st_size
    return found


def growth(found: Contents, free: int) -> Check:
    """Say how much a home has grown in a week, and for how many weeks the free bytes last; less than one is wrong."""
    said = f"{'' if found.complete else 'at least '}{_gigabytes(found.new)} in the last 7 days"
    age = (time.time() - found.oldest) / DAY_SECONDS
    if not found.new:
        return Check("ok", "its growth", "nothing in the last 7 days")
    if age < 7:
        return Check("-", "its growth", f"{said}; its first files are {age:.0f} days old, too new for a forecast")
    weeks = free / found.new
    lasts = f"more than {LONG_WEEKS // 52} years" if weeks > LONG_WEEKS else f"{weeks:.1f} weeks"
    remedy = "run medmtl clean, or set MEDMTL_HOME to a folder on a larger disk"
    return judge(weeks >= 1, "its growth", f"{said}; at that rate the free {_gigabytes(free)} last {lasts}", remedy)


def _files(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the part and the state of everything in a home; what vanishes or cannot be read is left out."""
    waiting: list[tuple[str, str]] = [("", str(root))]
    while waiting:
        part, folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    own = part or _part(entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((own, entry.path))
                    yield own, entry.stat(follow_symlinks=False)
        except OSError:
            continue


def _part(name: str) -> str:
    first = name.partition(".")[0]
    return first if first in OWN else "other"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
