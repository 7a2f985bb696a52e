"""Index of an archive: what it holds, so that it need not be read again when the pool has its images.

An index names the members of the archive, which may be named after patients. So that of private images is not kept
longer than their store is unfinished; and there is none of an archive that holds other files than PNG and JPEG.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.labels.safe_names import is_harmless
from data_prep.sources.archives import Member
from data_prep.store.shards import os_errors_explained, read_json_or_none, write_whole
from data_prep.store.store import json_digest

Index = Sequence[Member[str]]
"""The members of an archive, in their order, with the SHA-256 of the content of each that was read."""

_ENDING, _LOCK, _KEY_DIGITS = "index.json", "lock", 16


def shards_prefix(name: str, mark: str) -> str:
    """Return what the names of an archive's files in a pool begin with.

    Args:
        name: of the archive: two of one size may be of one time.
        mark: see `ArchiveSource`.
    """
    return hashlib.sha256(json.dumps([name, mark]).encode()).hexdigest()[:_KEY_DIGITS] + "-"


def read_index(folder: Path, prefix: str) -> Index | None:
    """Return the index of an archive in a folder; None if there is none, or it is damaged."""
    found = read_json_or_none(folder / f"{prefix}{_ENDING}")
    is_whole = isinstance(found, dict) and found.get("sha256") == json_digest(found.get("members"))
    return [Member(*member) for member in found["members"]] if is_whole else None


def write_index(folder: Path, prefix: str, index: Index) -> None:
    """Write the index of an archive, unless a file in it is neither PNG nor JPEG by its name.

    Raises:
        DataError: the disk is full, or the folder cannot be written.
    """
    files = [path for path, data, reason in index if data or reason]
    if all(map(is_harmless, files)):
        members = [list(member) for member in index]
        content = {"members": members, "sha256": json_digest(members)}
        with os_errors_explained(folder):
            write_whole(folder / f"{prefix}{_ENDING}", json.dumps(content).encode())


def archive_lock(folder: Path, prefix: str) -> Path:
    """Return the lock file of the process that decodes an archive into a folder of a pool."""
    return folder / f"{prefix}{_LOCK}"


def unused_indexes(folder: Path) -> Iterator[Path]:
    """Yield the indexes, and locks, of archives of which no shard is in a folder of a pool."""
    for file in (*folder.glob(f"*-{_ENDING}"), *folder.glob(f"*-{_LOCK}")):
        prefix = file.name[: _KEY_DIGITS + 1]
        if not any(folder.glob(f"{prefix}*.npy")):
            yield file
