"""Hashes of files, remembered from one run to the next, so that a file that did not change is not read again.

A file counts as unchanged while its size, its inode and the times of its last change (mtime and ctime, in ns) are the
same. Who writes to a file cannot set the ctime back; a clock that was, or a file system that keeps no times, can.
Times go on in steps, of two seconds at most: a file that changed just before it was hashed is not remembered.
"""

import hashlib
import json
import time
from collections.abc import Container
from pathlib import Path

from data_prep.decoding.raster import MAX_BYTES
from data_prep.labels.patients import opaque_path
from data_prep.regular_file import open_regular
from data_prep.store.shards import os_errors_explained, read_json_or_none, write_whole
from data_prep.store.store import json_digest

_SETTLED_SECONDS = 2.0

_State = list[int]


class FileHashes:
    """SHA-256 of files, by opaque keys of their paths, since a path may name a patient."""

    def __init__(self, memory: Path, population: str, secret: bytes) -> None:
        """Read what earlier runs have written to the file `memory`; a damaged one is as good as none."""
        self._memory, self._population, self._secret = memory, population, secret
        found = read_json_or_none(memory)
        is_whole = isinstance(found, dict) and found.get("sha256") == json_digest(found.get("files"))
        self._files: dict[str, tuple[_State, str]] = found["files"] if is_whole else {}

    def of(self, file: Path | bytes) -> str | None:
        """Return the SHA-256 of a file, or of the content of one; None if it cannot be read, or is too large.

        May be called from several threads.
        """
        if isinstance(file, bytes):
            return hashlib.sha256(file).hexdigest()
        key = opaque_path(str(file), self._population, self._secret)
        try:
            state = _state(file)
            if key in self._files and self._files[key][0] == state:
                return self._files[key][1]
            if state[0] > MAX_BYTES:
                return None
            now = time.time_ns()
            with open_regular(file) as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if _state(file) == state and now - max(state[1], state[3]) > _SETTLED_SECONDS * 1e9:
                self._files[key] = state, digest
        except OSError:
            return None
        return digest

    def save(self, known: Container[str]) -> None:
        """Write the hashes that are `known`, for later runs; the others are of no use to them."""
        self._files = {key: file for key, file in self._files.items() if file[1] in known}
        with os_errors_explained(self._memory):
            content = {"files": self._files, "sha256": json_digest(self._files)}
            write_whole(self._memory, json.dumps(content).encode())


def _state(file: Path) -> _State:
    """Return what changes when a file is written to or replaced."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ino, found.st_ctime_ns]
