"""Write a store: its table and manifest beside its shards.

n images, k labels, s side of an image in pixels.

A store is prepared in ``<store>.partial``, which gets its final name last, so that it exists whole or not at all.
The files of a finished store: see `data_prep.store.store`.
"""

import contextlib
import csv
import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.labels.patients import number_patients
from data_prep.labels.table import UNKNOWN, LabelTable
from data_prep.store.shards import (
    RECORDS,
    ShardRecord,
    os_errors_explained,
    read_json_or_none,
    sync,
    write_whole,
)
from data_prep.store.store import (
    CLASSES,
    COLUMNS,
    HELD_BY_1,
    LABELS,
    MANIFEST,
    PARTS,
    PATIENTS,
    PIXELS,
    ROWS,
    SCHEMA_1,
    SCHEMA_3,
    SIZES,
    TABLE,
    VIEWS,
    Quarantined,
    Store,
    file_digest,
    json_digest,
    schema_of,
)

_RECIPE = "recipe.json"


class StoreWriter:
    """A writer of a store; it continues where an earlier writer of the same recipe was stopped.

    Attributes:
        path: of the store.
        partial: the folder of the unfinished store, which must hold the shards when it is finished.
    """

    def __init__(self, path: Path, size: int, recipe: Mapping[str, Any], channels: int = 1) -> None:
        """Prepare ``<path>.partial``; what a writer of another recipe left in it is removed.

        Raises:
            DataError: the folder cannot be written.
        """
        self.path, self._size, self._recipe, self._channels = path, size, dict(recipe), channels
        self.partial = path.with_name(path.name + ".partial")
        with os_errors_explained(path):
            if read_json_or_none(self.partial / _RECIPE) != self._recipe:
                shutil.rmtree(self.partial, ignore_errors=True)
                (self.partial / RECORDS).mkdir(parents=True)
                write_whole(self.partial / _RECIPE, json.dumps(self._recipe).encode())

    def finish(
        self,
        table: LabelTable,
        facts: Mapping[str, Any],
        records: Sequence[ShardRecord],
        rows: np.ndarray | None = None,
    ) -> Store:
        """Write table and manifest, give the folder its final name, and open the store.

        Args:
            table: the rows of all records in order, with opaque patient keys.
            facts: further entries of the manifest (population, counts of the source, ...).
            records: of the shards in the folder.
            rows: (n,) int64, the place of each row of the table among the images of all shards; None: its own place.
        """
        unreadable = [entry for record in records for entry in record.quarantine]
        others = [entry for record in records for entry in record.others]
        held = HELD_BY_1 if schema_of(table, self._channels) == SCHEMA_1 else _held(table)
        sizes = np.array([size for record in records for size in record.sizes], np.int32).reshape(-1, 2)
        contents = {
            TABLE: _table_text(table, held).encode(),
            **({SIZES: _npy(sizes)} if sizes.all() else {}),
            **({} if rows is None else {ROWS: _npy(rows)}),
        }
        with os_errors_explained(self.path):
            for name, content in contents.items():
                write_whole(self.partial / name, content)
            files = {record.file: record.sha256 for record in records if record.file is not None}
            manifest = {
                **self._schema(table, held, [digest for record in records for digest in record.pixels], rows),
                "size": self._size,
                "images": len(table.images),
                "patients": len(set(table.patients.tolist())),
                "labels": list(table.labels),
                **facts,
                "same_pixels": find_same_pixels(records, table.patients),
                "sources_sha256": json_digest([record.sources for record in records if record.images]),
                "quarantine": [Quarantined(*entry)._asdict() for entry in [*unreadable, *others]],
                "files": {**{name: file_digest(self.partial / name) for name in contents}, **files},
                "recipe": self._recipe,
            }
            manifest["sha256"] = json_digest(manifest)
            write_whole(self.partial / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False).encode())
            for left in (*self.partial.glob("*.tmp"), *self.partial.glob("*lock")):
                left.unlink()
            self.partial.rename(self.path)
            sync(self.path.parent)
            tidy(self.path)
        return Store.open(self.path)

    def _schema(
        self, table: LabelTable, held: Sequence[str], pixels_sha256: list[str], rows: np.ndarray | None
    ) -> dict[str, Any]:
        """Return the entries of the manifest that say what the store holds, in the form of its schema.

        The fingerprint is of the content: where the images lie makes no difference to it.
        """
        schema = schema_of(table, self._channels)
        if schema == SCHEMA_1:
            fingerprint = _fingerprint_of_1(table, self._size, pixels_sha256)
        else:
            fingerprint = _fingerprint(table, held, [self._size, self._channels, pixels_sha256])
        if schema == SCHEMA_1 and rows is None:
            return {"schema": schema, "fingerprint": fingerprint}
        return {
            "schema": schema if rows is None else SCHEMA_3,
            "fingerprint": fingerprint,
            "holds": list(held),
            "channels": self._channels,
            "classes": list(table.classes),
        }


def find_same_pixels(records: Sequence[ShardRecord], patients: np.ndarray) -> list[list[str]]:
    """Return the groups of images, by name, that have the same pixels but belong to several patients.

    `patients` are those of the n images of the records, in their order: (n,) str.
    """
    groups: dict[str, dict[str, str]] = {}
    digests = (
        (image, digest) for record in records for image, digest in zip(record.images, record.pixels, strict=True)
    )
    for (image, digest), patient in zip(digests, patients.tolist(), strict=True):
        groups.setdefault(digest, {})[image] = patient
    return [sorted(group) for group in groups.values() if len(set(group.values())) > 1]


def tidy(path: Path) -> None:
    """Remove from the finished store at `path` the files that were needed to continue; a kill may have left them."""
    shutil.rmtree(path / RECORDS, ignore_errors=True)
    with contextlib.suppress(OSError):  # a read-only store is as good with it
        (path / _RECIPE).unlink(missing_ok=True)


def _held(table: LabelTable) -> list[str]:
    """Return the names of the parts of a store of schema 2 of these rows; see `data_prep.store.store`."""
    is_held = {
        PIXELS: True,
        PATIENTS: len(set(table.patients.tolist())) < len(table.patients),
        VIEWS: bool((table.views != "").any()),
        LABELS: not table.classes,
        CLASSES: bool(table.classes),
        PARTS: table.parts is not None,
    }
    return [part for part, holds in is_held.items() if holds]


def _table_text(table: LabelTable, held: Sequence[str]) -> str:
    """Return the table: the images, the columns of the parts that are held, the labels."""
    columns: dict[str, Any] = {
        PATIENTS: table.patients,
        VIEWS: table.views,
        CLASSES: table.targets[:, 0] if CLASSES in held else None,
        PARTS: table.parts,
    }
    shown = [part for part in COLUMNS if part in held]
    labels = table.labels if LABELS in held else ()
    cells = {1: "1", 0: "0", UNKNOWN: ""}
    of_labels = ([cells[value] for value in row] if labels else [] for row in table.targets.tolist())
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *(COLUMNS[part] for part in shown), *labels])
    rows = zip(table.images, *(columns[part] for part in shown), of_labels, strict=True)
    writer.writerows([*row, *last] for *row, last in rows)
    return text.getvalue()


def _fingerprint(table: LabelTable, held: Sequence[str], pixels: list[Any]) -> str:
    """Hash what a model sees and how a split groups it, part by part: a part that is not held does not enter.

    Neither do the schema, the patients' keys and the views, which describe an image but are not what is learnt.
    """
    content = {
        PIXELS: pixels,
        PATIENTS: number_patients(table.patients).tolist(),
        LABELS: [table.labels, table.targets.tolist()],
        CLASSES: [table.classes, table.targets.tolist()],
        PARTS: None if table.parts is None else table.parts.tolist(),
    }
    parts = {part: value for part, value in content.items() if part in held}
    return "sha256:" + json_digest({"images": table.images.tolist(), **parts})


def _fingerprint_of_1(table: LabelTable, size: int, pixels_sha256: list[str]) -> str:
    """Hash what a model sees and how a split groups it, as schema 1 does; the patients' keys are left out."""
    hash_ = hashlib.sha256()
    for part in ([SCHEMA_1, size, table.labels], table.images.tolist(), table.views.tolist(), pixels_sha256):
        hash_.update(json.dumps(part).encode())
    hash_.update(np.ascontiguousarray(table.targets, dtype=np.int8).tobytes())
    hash_.update(number_patients(table.patients).astype("<i8").tobytes())
    return "sha256:" + hash_.hexdigest()


def _npy(array: np.ndarray) -> bytes:
    """Return the content of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()
