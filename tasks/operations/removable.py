"""What can be removed, and what stays and why: the form in which each part of `medmtl clean` says what it finds."""

import os
import shutil
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import Field

from tasks.runtime.settings import Settings

IN_USE = "in use"
NEEDED_BY_ARM = "needed by an unfinished arm"
REMOVED = ".removed"  # ends the name of a folder while it is removed: after a kill, the next clean goes on with it
DAY_SECONDS = 24 * 3600


class CleanSettings(Settings):
    """What `clean` leaves: both limits must be passed before anything is removed."""

    keep: int = Field(
        7, ge=1, le=100_000, description="newest nights of each series, stores of each source and runs of each flow"
    )
    older_than: float = Field(14, ge=0, le=100_000, description="days since the last change, use or end")
    dry_run: bool = Field(False, description="say what would be removed, and remove nothing")

    @property
    def before(self) -> float:
        """What was changed or has ended before this time is old enough; Unix time, seconds."""
        return time.time() - self.older_than * DAY_SECONDS

    @property
    def newest(self) -> str:
        """Why the newest ones stay, in words."""
        return f"among the newest {self.keep}"

    @property
    def young(self) -> str:
        """Why those that are not old stay, in words."""
        return f"younger than {self.older_than:g} days"


@dataclass(frozen=True)
class Removable:
    """One thing to remove.

    Attributes:
        size: bytes that this frees; 0 where nobody can tell.
        remove: removes it; False if that was not possible because it is in use after all.
    """

    size: int
    remove: Callable[[], bool]


@dataclass
class Finding:
    """What one part found.

    Attributes:
        what: kind of the things, in the plural.
        removable: the things to remove.
        kept: why things stay, and how many for each reason.
        afterwards: called once after something was removed.
    """

    what: str
    removable: list[Removable] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    afterwards: Callable[[], None] = lambda: None

    def add(self, why_kept: str | None, size: Callable[[], int], remove: Callable[[], bool]) -> None:
        """Count a thing among those that stay, or, if there is no reason to keep it, among those to remove."""
        if why_kept is None:
            self.removable.append(Removable(size(), remove))
        else:
            self.kept[why_kept] += 1


def files_in(path: Path) -> Iterator[os.stat_result]:
    """Yield the state of a file, or of a folder and each thing in it, links not followed; what vanishes is left out."""
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        try:
            yield each.lstat()
        except FileNotFoundError:
            continue


def last_change(path: Path) -> float:
    """Return when a file, or anything in a folder, was changed last; Unix time, 0 if it is not there."""
    return max((state.st_mtime for state in files_in(path)), default=0.0)


def own_bytes(path: Path) -> int:
    """Return the bytes that the removal of a file or folder frees: of the files that have no name elsewhere too."""
    return sum(each.st_size for each in files_in(path) if stat.S_ISREG(each.st_mode) and each.st_nlink == 1)


def remove_locked(path: Path, lock: Path) -> bool:
    """Remove a folder and its lock file; return False, and leave both, if a process holds the lock."""
    try:
        with FileLock(lock, timeout=0):
            if path.exists():
                remove_folder(path)
            lock.unlink(missing_ok=True)  # who opened it meanwhile sees that it has no name any more, and tries again
    except Timeout:
        return False
    return True


def remove_folder(path: Path) -> bool:
    """Remove a folder; after a kill it is not there, whole or in part, under its name."""
    gone = path if path.name.endswith(REMOVED) else path.rename(path.with_name(f"{path.name}{REMOVED}"))
    shutil.rmtree(gone)
    return True


def remove_file(path: Path) -> bool:
    """Remove a file."""
    path.unlink(missing_ok=True)
    return True
