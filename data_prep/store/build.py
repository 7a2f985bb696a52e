"""Build a store, or open the one that was built before: the steps that all kinds of sources share.

The lock on a store, the check of an existing one against its recipe, the limit on unreadable images, the opaque keys
of patients, the table and the manifest. What differs between sources is how their shards are written; see
`data_prep.store.from_source` and `data_prep.store.from_archives`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import filelock
import kornia_rs
import numpy as np

from data_prep.errors import DataError
from data_prep.labels.patients import compare_patient_ids, opaque_name, patient_keys
from data_prep.labels.table import LabelTable
from data_prep.store.decode_items import DecodedItem
from data_prep.store.recipe import Recipe
from data_prep.store.shards import ShardRecord, ShardWriter, os_errors_explained
from data_prep.store.store import Store
from data_prep.store.writer import StoreWriter, tidy

UNREADABLE_LIMIT = 0.05  # share of the items

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class WrittenShards:
    """The shards of a store.

    Attributes:
        counts: entries of the manifest about the source ("items" and others).
        records: of the shards, in their order.
        rows: (n,) int64, the place of each of the records' images among those of all shards; None: their order.
    """

    counts: dict[str, Any]
    records: Sequence[ShardRecord]
    rows: np.ndarray | None = None


def open_or_build(
    recipe: Recipe, path: Path, unreadable_limit: float, write_shards: Callable[[StoreWriter], WrittenShards]
) -> Store:
    """Open the store at `path` if there is one, else build it while holding its lock.

    `write_shards` writes all shards, and continues after those that are finished. It checks the limit, the share of
    the items that may be unreadable, for a new store.

    Raises:
        DataError: the store at `path` has another recipe, is damaged or has too many unreadable items; or the folder
            cannot be written; or `write_shards` raises it.
    """
    if path.exists():
        return _reuse(path, recipe, unreadable_limit)
    with _store_lock(path):
        if path.exists():
            return _reuse(path, recipe, unreadable_limit)
        writer = StoreWriter(path, recipe.size, recipe.content, recipe.channels)
        written = write_shards(writer)
        table, source = _table_of(written.records, recipe), recipe.source
        patients = [patient for record in written.records for patient in record.patients]
        known, joined = compare_patient_ids(patients, table.patients)
        facts = {
            "population": source.population,
            "decoder": f"opencv {cv2.__version__}, kornia-rs {kornia_rs.__version__}",
            "label_table": {
                "sha256": source.table.sha256,
                "layout": source.table.layout,
                "ignored_columns": dict(source.table.ignored),
            },
            **written.counts,
            "patients_in_files": {"images": known, "joined": joined},
        }
        return writer.finish(table, facts, written.records, written.rows)


def add_item(shard: ShardWriter, name: str, item: DecodedItem, population: str, secret: bytes) -> None:
    """Append a decoded item to a shard, or quarantine it if it could not be read.

    The patient that a DICOM file gives becomes an opaque key; so must its `name` be.
    """
    if item.pixels is None:
        shard.quarantine(name, item.reason)
        return
    patient = str(patient_keys(np.array([item.patient_id]), population, secret)[0]) if item.patient_id else ""
    shard.append(name, item.pixels, item.pixels_sha256, item.source_sha256, item.view, patient, item.original)


def check_unreadable(unreadable: Sequence[tuple[str, str]], limit: float, total: int) -> None:
    """Check that at most the share `limit`, in [0, 1], of all `total` items is unreadable.

    Raises:
        DataError: there are more `unreadable` ones (image, reason); it quotes the first reasons.
    """
    if len(unreadable) > limit * total:
        first = "; ".join(f"{image}: {reason}" for image, reason in unreadable[:3])
        raise DataError(
            f"{len(unreadable)} of {total} images cannot be read, the limit is {limit:.0%} ({first}); "
            "repair or remove them, or raise the limit"
        )


def _reuse(path: Path, recipe: Recipe, unreadable_limit: float) -> Store:
    tidy(path)
    with suppress(OSError):  # of another user, or on a disk that cannot be written
        os.utime(path)  # the time of its last use
    store = Store.open(path)
    if store.manifest["recipe"] != recipe.content:
        raise DataError(f"{path}: holds a store of other data or settings; choose another folder, or delete it")
    items = store.manifest["items"]
    unreadable = items - len(store.images)  # the quarantine lists them first
    check_unreadable(store.quarantine[:unreadable], unreadable_limit, items)
    return store


@contextmanager
def _store_lock(path: Path) -> Iterator[None]:
    """Hold the lock on `path`; the kernel releases it when its holder dies."""
    lock = filelock.FileLock(path.with_name(path.name + ".lock"))
    with os_errors_explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _table_of(records: Sequence[ShardRecord], recipe: Recipe) -> LabelTable:
    """Return the rows of the records' images, in that order, with opaque patient keys.

    The view that a file gives goes before the view in the label table.
    """
    images = [image for record in records for image in record.images]
    if not images:
        raise DataError("none of the images can be read")
    table, population, secret = recipe.source.table, recipe.source.population, recipe.secret
    row_of = {image: row for row, image in enumerate(table.images.tolist())}
    row_of |= {opaque_name(image, population, secret): row for image, row in row_of.items()}
    rows = np.array([row_of[image] for image in images])
    views = np.array([view for record in records for view in record.views])
    return replace(
        table,
        images=np.array(images),
        patients=patient_keys(table.patients[rows], population, secret),
        targets=table.targets[rows],
        views=np.where(views == "", table.views[rows], views),
        parts=None if table.parts is None else table.parts[rows],
    )
