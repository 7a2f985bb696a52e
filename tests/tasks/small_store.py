"""A store of thirty random images of fifteen patients."""

from pathlib import Path

import numpy as np

from data_prep.labels.table import LabelTable
from tasks.data.ingest import StoreRef
from tests.data_prep.store.written import write_store

N, SIZE = 30, 32
LABELS = ("Mass", "Nodule")


def write_small_store(path: Path) -> StoreRef:
    generator = np.random.default_rng(0)
    images = np.array([f"{row}.png" for row in range(N)])
    pixels = generator.integers(0, 256, (N, SIZE, SIZE), dtype=np.uint8)
    table = LabelTable(
        images=images,
        patients=np.array([f"key{row // 2}" for row in range(N)]),
        labels=LABELS,
        targets=generator.integers(0, 2, (N, len(LABELS))).astype(np.int8),
        views=np.full(N, ""),
        layout="columns",
        sha256="0" * 64,
    )
    store = write_store(path, table, pixels, {"population": "here"})
    return StoreRef(name="made up", path=store.path, fingerprint=store.fingerprint, reused=False)
