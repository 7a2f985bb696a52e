"""A store of thirty random images of fifteen patients."""

from pathlib import Path

import numpy as np

from data_prep.labels.table import LabelTable
from data_prep.store.writer import StoreWriter
from tasks.data.ingest import StoreRef

N, SIZE = 30, 32
LABELS = ("Mass", "Nodule")


def write_small_store(path: Path) -> StoreRef:
    generator = np.random.default_rng(0)
    images = np.array([f"{row}.png" for row in range(N)])
    writer = StoreWriter(path, SIZE, {})
    with writer.shard(N) as shard:
        for image in images.tolist():
            shard.append(image, generator.integers(0, 256, (SIZE, SIZE), dtype=np.uint8), f"pixels of {image}", "")
    table = LabelTable(
        images=images,
        patients=np.array([f"key{row // 2}" for row in range(N)]),
        labels=LABELS,
        targets=generator.integers(0, 2, (N, len(LABELS))).astype(np.int8),
        views=np.full(N, ""),
        layout="columns",
        sha256="0" * 64,
    )
    store = writer.finish(table, {"population": "here"})
    return StoreRef(name="made up", path=store.path, fingerprint=store.fingerprint, reused=False)
