"""A store and its split are opened once for all steps of a process that ask for the same content."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.labels.splits import PARTS, SplitSettings, make_split
from data_prep.store.store import Store
from tasks.data.ingest import StoreRef
from tasks.data.open_split import open_split
from tests.tasks.small_store import write_small_store


@pytest.fixture
def ref(tmp_path: Path) -> StoreRef:
    return write_small_store(tmp_path / "store")


def test_the_split_is_that_of_the_store_and_the_same_objects_are_given_again(ref: StoreRef) -> None:
    settings = SplitSettings(seed=3)
    store, split = open_split(ref, settings)
    assert open_split(ref.model_copy(update={"name": "another name"}), SplitSettings(seed=3)) == (store, split)
    naive = make_split(settings, store.images, store.patients)
    assert split.fingerprint == naive.fingerprint
    assert all(np.array_equal(getattr(split, part), getattr(naive, part)) for part in PARTS)
    assert open_split(ref, SplitSettings(seed=4))[1].fingerprint != split.fingerprint
    assert store is Store.open(ref.path)


def test_a_store_that_holds_other_content_than_the_study_was_planned_with_is_refused(ref: StoreRef) -> None:
    with pytest.raises(DataError, match=r"store: .*other content.*run again"):
        open_split(ref.model_copy(update={"fingerprint": "sha256:of another"}), SplitSettings())
