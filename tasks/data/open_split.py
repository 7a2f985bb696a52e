"""The images of a study and their split, opened once in a process and given to every step that asks."""

from functools import lru_cache

from data_prep.errors import DataError
from data_prep.labels.class_split import ClassSplitSettings, split_classes
from data_prep.labels.splits import Split, SplitSettings, make_split
from data_prep.store.store import Store
from tasks.data.ingest import StoreRef

REMEMBERED = 4  # splits, and what is computed from one


def open_split(ref: StoreRef, split: SplitSettings | ClassSplitSettings) -> tuple[Store, Split]:
    """Open a store and split its images; asked again in this process, return the same objects.

    Args:
        ref: the store.
        split: which patients, or which images of each class, train, validate and test.

    Raises:
        DataError: the store cannot be opened, holds other content than `ref` says, or cannot be split so.
    """
    store = open_store(ref)
    return store, _split(store, split)


def open_store(ref: StoreRef) -> Store:
    """Open a store; asked again in this process, return the same object.

    Raises:
        DataError: the store cannot be opened, or holds other content than `ref` says.
    """
    store = Store.open(ref.path)
    if store.fingerprint != ref.fingerprint:
        raise DataError(f"{ref.path}: the store was built anew with other content meanwhile; run again")
    return store


@lru_cache(REMEMBERED)
def _split(store: Store, split: SplitSettings | ClassSplitSettings) -> Split:
    if isinstance(split, ClassSplitSettings):
        return split_classes(split, store.images, store.targets[:, 0], store.parts, store.same_pixels, store.classes)
    return make_split(split, store.images, store.patients, store.same_pixels)
