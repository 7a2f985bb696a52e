"""Clean what killed commands leave in MEDMTL_HOME: temporary files, and lock files of things that are gone."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tasks.operations.removable import (
    IN_USE,
    CleanSettings,
    Finding,
    last_change,
    remove_file,
    remove_locked,
)
from tasks.runtime.atomic_files import UNFINISHED
from tasks.runtime.home import Home
from tasks.runtime.lease import is_locked

LEAST_SECONDS = 3600  # a temporary file of a living process is seconds old
WITH_TEMPORARIES = ("arms", "stores", "texts", "theory", "tokens")


def find_leftovers(home: Home, locks: Callable[[], Sequence[Path]], limits: CleanSettings) -> Finding:
    """Find temporary files and lock files that no process will use again; `locks` returns those without an object."""
    finding = Finding("leftover files")
    before = min(limits.before, time.time() - LEAST_SECONDS)
    folders = [home.root / name for name in WITH_TEMPORARIES]
    found = [
        *home.root.glob(f"*{UNFINISHED}"),
        *(file for folder in folders for file in folder.rglob(f"*{UNFINISHED}")),
    ]
    for file in found:
        why = limits.young if last_change(file) >= before else None
        finding.add(why, partial(_size, file), partial(remove_file, file))
    for lock in locks():
        why = limits.young if last_change(lock) >= limits.before else None
        why = IN_USE if is_locked(lock) else why
        finding.add(why, partial(_size, lock), partial(remove_locked, lock.with_suffix(""), lock))
    return finding


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
