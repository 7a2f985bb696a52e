"""A store that is written from arrays."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.labels.table import LabelTable
from data_prep.store.shards import ShardRecord, ShardWriter
from data_prep.store.store import PIXELS, Store
from data_prep.store.writer import StoreWriter


def write_store(
    path: Path, table: LabelTable, pixels: np.ndarray, facts: Mapping[str, Any], shard_images: int = 4096
) -> Store:
    """Write a store of (n, s, s) or (n, 3, s, s) uint8; the hashes of pixels and files are made up."""
    n, shape = len(pixels), pixels.shape[1:]
    writer = StoreWriter(path, shape[-1], {"shard": shard_images}, shape[0] if len(shape) > 2 else 1)
    records = [
        write_shard(
            writer.partial / f"{PIXELS}-{number:05d}.npy", table, pixels, range(start, min(start + shard_images, n))
        )
        for number, start in enumerate(range(0, n, shard_images))
    ]
    return writer.finish(table, facts, records)


def write_shard(file: Path, table: LabelTable, pixels: np.ndarray, rows: range) -> ShardRecord:
    """Write the images of some rows."""
    with ShardWriter(file, len(rows), pixels.shape[1:]) as shard:
        for row in rows:
            shard.append(str(table.images[row]), pixels[row], f"pixels {pixels[row].sum()}", f"file {row}")
        return shard.finish()
