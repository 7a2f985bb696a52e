"""A file is whole or not there, whatever happened to those who wrote it."""

import fcntl
import os
from pathlib import Path

import pytest

from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home
from tasks.runtime.lease import lease_name


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.json"
    write_atomically(path, b"old")

    def fail(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_half_written_is_removed_but_not_what_a_living_one_writes(tmp_path: Path) -> None:
    of_home = lease_name().partition(":")[0]
    dead, living = f"{of_home}:{'0' * 16}", f"{of_home}:{'1' * 16}"
    for left in (f"a[1].json.{dead}", f"a[1].json.{living}", f"another.json.{dead}"):
        (tmp_path / f"{left}.unfinished").touch()
    with (home().root / "leases" / ("1" * 16)).open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        write_atomically(tmp_path / "a[1].json", b"whole")
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"a[1].json", f"a[1].json.{living}.unfinished", f"another.json.{dead}.unfinished"}
