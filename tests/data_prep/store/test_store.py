"""Stores on disk: what is checked, what is kept after an accident, and what never gets in."""

import errno
import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels.table import LabelTable
from data_prep.store import store as store_module
from data_prep.store.shards import ShardWriter
from data_prep.store.store import Pixels, Store, file_digest
from data_prep.store.writer import StoreWriter
from tests.data_prep.store.written import write_shard, write_store

SIZE = 8
N = 10
TICK = 0.02  # seconds; a file's time goes on in steps of some milliseconds
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (N, SIZE, SIZE), dtype=np.uint8)
TABLE = LabelTable(
    images=np.array([f"{row}, or so.png" for row in range(N)]),
    patients=np.array([f"key{row // 2}" for row in range(N)]),
    labels=("Mass", "Pleural, fluid"),
    targets=RNG.integers(-1, 2, (N, 2)).astype(np.int8),
    views=np.array(["PA", "AP", "LATERAL", "", "PA"] * 2),
    layout="columns",
    sha256="0" * 64,
)


def write(path: Path, table: LabelTable = TABLE, pixels: np.ndarray = PIXELS, shard: int = 4) -> Store:
    return write_store(path, table, pixels, {"population": "here"}, shard)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_pixels_of_several_shards_are_indexed_as_one_array(lengths: list[int], data: st.DataObject) -> None:
    whole = np.random.default_rng(1).integers(0, 256, (sum(lengths), 3, 3), dtype=np.uint8)
    pixels = Pixels(np.split(whole, np.cumsum(lengths)[:-1]), 3)
    n = len(whole)
    assert (len(pixels), pixels.shape, pixels.dtype) == (n, whole.shape, np.uint8)
    rows = data.draw(
        st.one_of(
            st.integers(-n, n - 1),
            st.slices(n),
            st.lists(st.integers(-n, n - 1)).map(lambda drawn: np.array(drawn, dtype=np.int64)),
            st.lists(st.booleans(), min_size=n, max_size=n).map(np.array),
        )
    )
    assert np.array_equal(pixels[rows], whole[rows])
    with pytest.raises(IndexError):
        pixels[n]


def test_what_is_read_is_a_copy(tmp_path: Path) -> None:
    store = write(tmp_path / "store")
    store.pixels[0][:] = 0
    store.pixels[np.array([0])][:] = 0
    assert (store.pixels[0] == PIXELS[0]).all()


def test_a_store_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert (store.pixels[:] == PIXELS).all()
    assert store.labels == TABLE.labels
    for name in ("images", "patients", "targets", "views"):
        assert np.array_equal(getattr(store, name), getattr(TABLE, name)), name
    assert store.targets.dtype == np.int8
    assert (store.size, store.population, store.quarantine) == (SIZE, "here", ())
    assert store.fingerprint.startswith("sha256:")
    assert sorted(file.name for file in store.path.iterdir()) == [
        "manifest.json", "pixels-00000.npy", "pixels-00001.npy", "pixels-00002.npy", "table.csv",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == [store.path]


def test_a_shard_is_an_ordinary_npy_file(tmp_path: Path) -> None:
    write(tmp_path / "store")
    assert (np.load(tmp_path / "store" / "pixels-00002.npy") == PIXELS[8:]).all()


def test_the_fingerprint_is_of_the_content_not_of_shards_or_keys(tmp_path: Path) -> None:
    first = write(tmp_path / "first").fingerprint
    assert write(tmp_path / "shards", shard=3).fingerprint == first
    keys = replace(TABLE, patients=np.array([f"other{row // 2}" for row in range(N)]))
    assert write(tmp_path / "keys", keys).fingerprint == first


def test_a_grey_store_of_binary_labels_stays_what_it_was_to_the_last_byte(tmp_path: Path) -> None:
    """Every finished arm hashes such a store's fingerprint; these were taken before the second schema."""
    store = write(tmp_path / "store")
    assert store.fingerprint == "sha256:e53ab5284f713792bae82304a8a4293579c11d9c08e0304f9286b424b54c88ce"
    assert {file.name: file_digest(file) for file in store.path.iterdir()} == {
        "manifest.json": "9e291afca69fe561ef90cfb6671e2c0be1c8a06e9e8dffbb5c5c767c5cfd2f2f",
        "table.csv": "453342b79af9e5e528c6e0d545709c7a7c51900b255139670edc92fea19ea469",
        "pixels-00000.npy": "17a47eb4ab5bf387d5c0ce06d5be9ec5cbf3b905bec239cc4dee6bc8b5a01679",
        "pixels-00001.npy": "6ba23249ac4343fb3cbba40156d0654fa24505e379449147372f01e597cc4c38",
        "pixels-00002.npy": "2a3752f82bb9581e1e14b5ae2cfe79cc67d50f51c9ab479e6c1544ab1acbfa9e",
    }


@pytest.mark.parametrize("changed", ["pixels", "targets", "labels", "patients", "images", "views"])
def test_the_fingerprint_follows_all_that_a_study_depends_on(tmp_path: Path, changed: str) -> None:
    first = write(tmp_path / "first").fingerprint
    table, pixels = TABLE, PIXELS
    if changed == "pixels":
        pixels = 255 - PIXELS
    elif changed == "labels":
        table = replace(TABLE, labels=("Mass", "Other"))
    else:
        values = getattr(TABLE, changed).copy()
        values[3] = {"targets": [1, 1] if values[3].tolist() != [1, 1] else [0, 0], "patients": "new"}.get(changed, "x")
        table = replace(TABLE, **{changed: values})
    assert write(tmp_path / "second", table, pixels).fingerprint != first


@pytest.mark.parametrize("name", ["manifest.json", "table.csv", "pixels-00001.npy"])
def test_a_changed_or_missing_file_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "store").path
    file = path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    time.sleep(TICK)
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is (damaged|not what was written).*delete the folder and run again"):
        Store.open(path)
    file.unlink()
    with pytest.raises(DataError, match=rf"{name} is missing"):
        Store.open(path)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was hashed to open a store."""
    found = Counter[str]()

    def counted(file: Path) -> str | None:
        found[file.name] += 1
        return file_digest(file)

    monkeypatch.setattr(store_module, "file_digest", counted)
    return found


def test_a_store_is_hashed_and_read_once_however_often_and_by_however_many_threads_it_is_opened(
    tmp_path: Path, hashed: Counter[str]
) -> None:
    path = write(tmp_path / "store").path
    with ThreadPoolExecutor(8) as threads:
        opened = set(threads.map(Store.open, [path] * 8))
    assert len(opened) == 1
    assert hashed == dict.fromkeys(("table.csv", "pixels-00000.npy", "pixels-00001.npy", "pixels-00002.npy"), 1)


def test_a_store_is_hashed_again_when_a_file_may_have_changed_and_refused_only_while_it_has(
    tmp_path: Path, hashed: Counter[str]
) -> None:
    path = write(tmp_path / "store").path
    file = path / "pixels-00001.npy"
    whole = file.read_bytes()
    os.utime(file, (0, 0))
    assert (Store.open(path).pixels[:] == PIXELS).all()
    assert set(hashed.values()) == {2}
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(DataError, match=r"pixels-00001\.npy is not what was written"):
            Store.open(path)
    file.unlink()
    file.write_bytes(whole)
    assert (Store.open(path).pixels[:] == PIXELS).all()


def test_another_store_in_the_same_place_is_opened_anew(tmp_path: Path) -> None:
    first = write(tmp_path / "store")
    first.path.rename(tmp_path / "moved")
    second = write(tmp_path / "store", pixels=255 - PIXELS)
    assert (Store.open(tmp_path / "store").pixels[:] == 255 - PIXELS).all()
    assert second.fingerprint != Store.open(tmp_path / "moved").fingerprint == first.fingerprint


def test_a_store_of_another_schema_and_a_folder_that_is_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no store here"):
        Store.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"schema": "medmtl/store/0"}))
    with pytest.raises(DataError, match="not a store of schema medmtl/store/1 or medmtl/store/2"):
        Store.open(tmp_path)


def test_what_a_writer_of_another_recipe_left_is_removed(tmp_path: Path) -> None:
    left = StoreWriter(tmp_path / "store", SIZE, {"shard": 4}).partial / "left"
    left.write_text("")
    StoreWriter(tmp_path / "store", SIZE, {"shard": 4})
    assert left.exists()
    StoreWriter(tmp_path / "store", SIZE, {"shard": 5})
    assert not left.exists()


def test_a_shard_whose_images_were_all_quarantined_has_no_file(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "store", SIZE, {})
    with ShardWriter(writer.partial / "pixels-00000.npy", 1, (SIZE, SIZE)) as shard:
        shard.quarantine("bad.png", "empty file")
        bad = shard.finish()
    good = write_shard(writer.partial / "pixels-00001.npy", TABLE, PIXELS, range(N))
    store = writer.finish(TABLE, {"population": "here"}, [bad, good])
    assert store.quarantine == (("bad.png", "empty file"),)
    assert len(store.pixels) == N


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, r"No space left on device\); free some space and run again"),
        (errno.EROFS, r"Read-only file system\); choose a folder that can be written"),
        (errno.EIO, r"error\); repair it, or choose another folder"),
    ],
)
def test_a_disk_that_refuses_is_a_data_error_with_path_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, remedy: str
) -> None:
    path = tmp_path / "store"
    writer = StoreWriter(path, SIZE, {"shard": 4})

    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DataError, match=rf"{path}.*cannot be written.*{remedy}"):
            write_shard(writer.partial / "pixels-00000.npy", TABLE, PIXELS, range(4))
    assert not path.exists()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_place_that_cannot_hold_a_folder_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the store cannot be written"):
        StoreWriter(tmp_path / "file" / "store", SIZE, {})
