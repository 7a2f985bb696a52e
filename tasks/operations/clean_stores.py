"""Clean stores, builds of stores that were stopped, and decoded pixels that no store uses; all can be made again."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from mlflow.entities import Run

from data_prep.json_file import read_json
from data_prep.store.pool import remove_unused
from data_prep.store.store import MANIFEST
from tasks.arms.mlflow_runs import DIGEST
from tasks.operations.removable import (
    IN_USE,
    NEEDED_BY_ARM,
    REMOVED,
    CleanSettings,
    Finding,
    files_in,
    last_change,
    own_bytes,
    remove_folder,
    remove_locked,
)
from tasks.runtime.home import Home
from tasks.runtime.lease import is_locked
from tasks.runtime.progress import LOGGER

PARTIAL = ".partial"
USED, OF_BUILD = "used by a store", "needed by an unfinished build"
DAMAGED = "with a manifest that cannot be read"


def find_stores(home: Home, unfinished: Sequence[Run], limits: CleanSettings) -> tuple[Finding, list[Path]]:
    """Find the stores to remove, and what a removal that was killed left.

    Args:
        home: MEDMTL_HOME.
        unfinished: runs of unfinished arms, whose stores stay.
        limits: how many stores of a source stay, and how old the others must be. A source is told by the population of
            its patients, the size of the images and the names of the labels.

    Returns:
        The finding, and the folders of the stores to remove.
    """
    finding, gone = Finding("stores"), []
    needed = {each.dataset.digest for run in unfinished for each in run.inputs.dataset_inputs}
    newer: Counter[Any] = Counter()
    folders = [path for path in _entries(home.stores) if path.is_dir() and not path.name.endswith((PARTIAL, REMOVED))]
    for path in sorted(folders, key=_last_use, reverse=True):
        manifest = _manifest(path)
        source = _source(manifest)
        newer[source] += 1
        lock = path.with_name(f"{path.name}.lock")
        reasons = {
            DAMAGED: manifest is None,
            IN_USE: is_locked(lock),
            NEEDED_BY_ARM: _digest(manifest) in needed,
            limits.newest: newer[source] <= limits.keep,
            limits.young: _last_use(path) >= limits.before,
        }
        why = next((reason for reason, holds in reasons.items() if holds), None)
        finding.add(why, partial(own_bytes, path), partial(remove_locked, path, lock))
        if why is None:
            gone.append(path)
    for path in _entries(home.stores):
        if path.name.endswith(REMOVED):
            finding.add(None, partial(own_bytes, path), partial(remove_folder, path))
    return finding, gone


def find_builds(home: Home, limits: CleanSettings) -> Finding:
    """Find the builds of stores that were stopped and not gone on with."""
    finding = Finding("unfinished builds of stores")
    for path in _entries(home.stores):
        if path.name.endswith(PARTIAL):
            lock = path.with_name(f"{path.name.removesuffix(PARTIAL)}.lock")
            young = limits.young if last_change(path) >= limits.before else None
            why = IN_USE if is_locked(lock) else young
            finding.add(why, partial(own_bytes, path), partial(remove_locked, path, lock))
    return finding


def find_pixels(home: Home, gone: Sequence[Path], building: bool, limits: CleanSettings) -> Finding:
    """Find the files of decoded pixels that no store uses.

    Args:
        home: MEDMTL_HOME.
        gone: folders of the stores to remove, which are still there in a dry run.
        building: unfinished builds stay, which use what they have decoded when they go on.
        limits: tell whether this is a dry run.
    """
    finding = Finding("files of decoded pixels")
    links = Counter(state.st_ino for path in gone if limits.dry_run for state in files_in(path))
    removed = cache(lambda: {shard.file for shard in remove_unused(home.pixels, LOGGER.info)})
    for file in sorted(home.pixels.rglob("*.npy")):
        state = file.stat()
        in_use = USED if state.st_nlink - links[state.st_ino] > 1 else None
        why = in_use or (OF_BUILD if building else None)
        finding.add(why, partial(int, state.st_size), partial(_is_in, file, removed))
    return finding


def _is_in(file: Path, files: Callable[[], set[Path]]) -> bool:
    return file in files()


def store_locks(home: Home) -> list[Path]:
    """Return the lock files of stores that are neither there nor being built."""
    return [
        lock
        for lock in home.stores.glob("*.lock")
        if not any(lock.with_suffix(suffix).exists() for suffix in ("", PARTIAL))
    ]


def _entries(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.iterdir()) if folder.is_dir() else ()


def _last_use(path: Path) -> float:
    return path.stat().st_mtime


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        manifest = read_json(path / MANIFEST)
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) else None


def _source(manifest: dict[str, Any] | None) -> tuple[Any, ...] | None:
    if manifest is None:
        return None
    return manifest.get("population"), manifest.get("size"), *map(str, manifest.get("labels", ()))


def _digest(manifest: dict[str, Any] | None) -> str:
    """Return the fingerprint as an arm's MLflow run has it."""
    return str((manifest or {}).get("fingerprint", "")).removeprefix("sha256:")[:DIGEST]
