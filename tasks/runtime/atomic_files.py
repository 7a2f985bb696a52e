"""Atomic file writes, and checkpoints (training states) that are read back without executing anything."""

import glob
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import DataError
from tasks.runtime.lease import has_ended, lease_name

UNFINISHED = ".unfinished"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a kill leaves either the old content or the new, never a part.

    Writes to a temporary name in the same folder, flushes to the disk, then renames. Temporary files of processes
    that no longer run are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def link_atomically(link: Path, target: str) -> None:
    """Make or change a symbolic link, to a name relative to its folder, so that there is always the old or the new."""
    with replacing(link) as unfinished:
        unfinished.symlink_to(target)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, to be written to, and rename it to `path` in the end.

    After an error it is removed; after a kill, the next time.
    """
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*{UNFINISHED}"):
        if has_ended(leftover.name[len(path.name) + 1 : -len(UNFINISHED)]):
            leftover.unlink(missing_ok=True)
    unfinished = path.with_name(f"{path.name}.{lease_name()}{UNFINISHED}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write a training state (nested plain values and tensors) atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a training state that `write_state` wrote. Nothing in the file is executed.

    Returns:
        The state, or None if there is no such file.

    Raises:
        DataError: the file is damaged. It is not ignored: that would restart the training without saying so.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own exceptions
        raise DataError(f"the checkpoint {path} is damaged ({error}): delete it to train from the start") from error
