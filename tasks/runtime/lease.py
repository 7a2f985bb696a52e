"""Leases: how every process of a home knows which other ones still live.

A process that records something unfinished (a run, a temporary file) signs it with its lease: the name of a file in
MEDMTL_HOME/leases that it holds locked as long as it lives. The kernel frees the lock at its end, however it ends; a
container that is gone and a process number that another process has now say the same as any other dead process.
"""

import atexit
import fcntl
import os
import re
import secrets
import threading
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from data_prep.errors import DataError
from tasks.runtime.home import home, home_path

_NAME = re.compile("([0-9a-f]{16}):([0-9a-f]{16})")
_held: dict[Path, tuple[int, str]] = {}  # the open file and the name of this process's lease in each home
_lock = threading.Lock()


def lease_name() -> str:
    """Return the name of this process's lease in its home, 'home:lease'; it is taken at the first call.

    Then the leases of dead processes are cleared away, too.

    Raises:
        DataError: see `home`.
    """
    folder = _folder()
    with _lock:
        if folder not in _held:
            of_home = _home_id(folder)
            for left in folder.iterdir():
                if has_ended(f"{of_home}:{left.name}"):
                    left.unlink(missing_ok=True)  # another process may have cleared it away
            lease = secrets.token_hex(8)
            unlocked = folder / f"{lease}.new"
            file = os.open(unlocked, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            unlocked.rename(folder / lease)  # only now, so that nobody finds it free
            _held[folder] = file, f"{of_home}:{lease}"
        return _held[folder][1]


def has_ended(name: str) -> bool:
    """Tell whether the process of this name (see `lease_name`) has ended; nothing is changed by it.

    False for the processes of another home and for text that is no such name: nothing is known about them.
    """
    found = _NAME.fullmatch(name)
    return found is not None and found[1] == known_home() and not is_locked(_place() / found[2])


def known_home() -> str:
    """Return the random number of this home, the part before the colon of its leases; "" if it has none yet."""
    try:
        return (_place() / "home").read_text()
    except (OSError, DataError):  # where it cannot be read, nothing is known of any process
        return ""


def is_locked(lock: Path) -> bool:
    """Tell whether a process holds a file lock; the file stays as it is."""
    try:
        file = os.open(lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _place() -> Path:
    return home_path() / "leases"


def _folder() -> Path:
    folder = home().root / "leases"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _home_id(folder: Path) -> str:
    """Return the random number of a home, made once: a lease says nothing about the processes of another home."""
    path = folder / "home"
    with FileLock(f"{path}.lock"):
        known = path.read_text() if path.exists() else ""
        if not known:  # also where a kill came between creation and write
            known = secrets.token_hex(8)
            path.write_text(known)
    return known


@atexit.register
def _end() -> None:
    for folder, (_, name) in _held.items():
        with suppress(OSError):  # the folder was removed meanwhile
            (folder / name.partition(":")[2]).unlink()


def _forget() -> None:
    """Leave the leases of the parent to it: a forked child that kept their files open would keep them alive."""
    for file, _ in _held.values():
        os.close(file)  # which frees no lock, since the parent has the file open too
    _held.clear()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget)
