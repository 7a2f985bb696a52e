"""Phantom stores for benchmarks that train without Prefect and MLflow."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep.phantom.dataset import PhantomSettings, write_phantom
from data_prep.sources.folder import FolderSource
from data_prep.store.from_source import build_store
from data_prep.store.store import Store
from models.data.image_batches import Examples, examples
from models.evaluation.leakage import hashed_patients


def phantom_store(folder: Path, seed: int, patients: int, size: int = 64, *, workers: int = 1) -> Store:
    """Open the store of a phantom below a folder; render it first if it is missing."""
    settings = PhantomSettings(seed=seed, patients=patients, size=size)
    place = folder / f"phantom-{seed}-{patients}-{size}"
    write_phantom(settings, place / "phantom", workers=workers, progress=lambda done, total: None)
    return build_store(FolderSource.open(place / "phantom"), place / "store", size, key=b"")


def part(store: Store, rows: NDArray[np.int64], targets: NDArray[np.int8] | None = None) -> Examples:
    """Return the images of some rows of a store, in memory, with the store's targets or others (n, k)."""
    numbers = np.unique(store.patients[rows], return_inverse=True)[1]
    shown = hashed_patients(store.population, store.patients[rows])
    targets = store.targets[rows] if targets is None else targets
    return examples(store.pixels[rows], targets, shown, patient_numbers=numbers)
