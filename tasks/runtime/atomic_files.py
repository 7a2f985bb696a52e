"""Files that are whole or not there, and training states that can be read back safely."""

import glob
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from data_prep.errors import DataError
from tasks.runtime.processes import is_gone, this_process

UNFINISHED = ".unfinished"


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name beside `path`, flush to the disk, rename: a kill leaves the old file or the new.

    What killed processes left under such names is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f"{glob.escape(path.name)}.*{UNFINISHED}"):
        if is_gone(left.name[len(path.name) + 1 : -len(UNFINISHED)]):
            left.unlink(missing_ok=True)
    unfinished = path.with_name(f"{path.name}.{this_process()}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_state(state: Mapping[str, Any], path: Path) -> None:
    """Write nested plain values and tensors."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


def read_state(path: Path) -> dict[str, Any] | None:
    """What `write_state` wrote, or None where there is nothing. Nothing in the file is executed.

    Raises:
        DataError: the file is damaged; training from the start in silence would hide it.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own
        raise DataError(f"the checkpoint {path} is damaged ({error}): delete it to train from the start") from error
