"""From a source to a store: parallel, resumable, and never twice."""

import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data_prep.decoding import sandbox
from data_prep.decoding.radiograph import Radiograph
from data_prep.decoding.raster import decode
from data_prep.decoding.sandbox import decode_png_or_jpeg
from data_prep.errors import DataError
from data_prep.sources.folder import FolderSource
from data_prep.store import decode_items
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.store.recipe import store_key
from data_prep.store.store import Store

FolderMaker = Callable[..., Path]
SECRETS = b"0123456789abcdef", b"fedcba9876543210"


@pytest.fixture
def source(nih_folder: FolderMaker) -> FolderSource:
    """20 images of five patients."""
    return FolderSource.open(nih_folder())


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The content of every file that this process decodes."""
    seen: list[bytes] = []

    def spy(data: bytes, size: int, *, isolate: bool, chest: bool, picture_channels: int | None) -> Radiograph:
        assert isolate, "this process would die with its decoder"
        assert not chest
        assert picture_channels is None
        seen.append(data)
        return decode_png_or_jpeg(data, size)

    monkeypatch.setattr(decode_items, "safe_decode", spy)
    return seen


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*")}


def test_the_store_holds_each_image_with_its_row(source: FolderSource, tmp_path: Path) -> None:
    store = build_store(source, tmp_path / "store", 10, key=b"")
    assert store.images.tolist() == [name for name, _ in source.files]
    assert store.pixels.shape == (20, 10, 10)
    for row, (name, file) in enumerate(source.files):
        at = source.table.images.tolist().index(name)
        assert (store.pixels[row] == decode(file.read_bytes(), 10)).all()
        assert (store.targets[row] == source.table.targets[at]).all()
        assert store.views[row] == source.table.views[at]
    assert (np.array_equal(store.sizes, np.full((20, 2), 20)), store.sizes.dtype) == (True, np.int32)  # type: ignore[arg-type, union-attr]
    assert len(set(store.patients.tolist())) == 5
    assert len(set(store.patients[:4].tolist())) == 1
    assert store.manifest["items"] == 20
    assert store.manifest["label_table"]["sha256"] == source.table.sha256


def test_the_store_is_the_same_byte_for_byte_whatever_the_workers(
    nih_folder: FolderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderSource.open(nih_folder(patients=50))
    source.files[7][1].write_bytes(b"no image")
    build_store(source, tmp_path / "one", 10, key=b"", pool=PixelPool(shard_images=70))
    monkeypatch.setattr(decode_items, "_POOL_PAYS", 0)
    build_store(source, tmp_path / "two", 10, key=b"", workers=2, pool=PixelPool(shard_images=70))
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_a_second_build_decodes_nothing(source: FolderSource, tmp_path: Path, decoded: list[bytes]) -> None:
    first = build_store(source, tmp_path / "store", 10, key=b"")
    assert len(decoded) == 20
    os.utime(first.path, (0, 0))
    second = build_store(source, tmp_path / "store", 10, key=b"")
    assert len(decoded) == 20
    assert second.fingerprint == first.fingerprint
    assert first.path.stat().st_mtime > 0, "it has the time of its last use"


def test_two_builders_of_one_path_decode_once(source: FolderSource, tmp_path: Path, decoded: list[bytes]) -> None:
    stores: list[Store] = []
    threads = [
        threading.Thread(target=lambda: stores.append(build_store(source, tmp_path / "store", 10, key=b"")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(stores) == 3
    assert len(decoded) == 20


KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.sources.folder import FolderSource

def kill(done, total):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)

source, pool = FolderSource.open(Path(sys.argv[1])), PixelPool(shard_images=5)
build_store(source, Path(sys.argv[2]), 10, key=b"", pool=pool, progress=kill)
"""


def test_a_killed_build_goes_on_without_decoding_a_finished_image_again(
    nih_folder: FolderMaker, tmp_path: Path, decoded: list[bytes]
) -> None:
    folder, path = nih_folder(), tmp_path / "store"
    killed = subprocess.run([sys.executable, "-c", KILLED_BUILD, folder, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not path.exists()
    calls: list[tuple[int, int]] = []
    source = FolderSource.open(folder)
    pool = PixelPool(shard_images=5)
    build_store(source, path, 10, key=b"", pool=pool, progress=lambda done, total: calls.append((done, total)))
    assert [data for data in decoded] == [file.read_bytes() for _, file in source.files[10:]]
    assert calls == [(done, 20) for done in range(21)]
    assert (pool.reused, pool.decoded) == (10, 10)
    build_store(source, tmp_path / "whole", 10, key=b"", pool=PixelPool(shard_images=5))
    assert content(path) == content(tmp_path / "whole")


def test_ctrl_c_leaves_no_store_and_the_finished_shards(
    source: FolderSource, tmp_path: Path, decoded: list[bytes]
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(source, tmp_path / "store", 10, key=b"", pool=PixelPool(shard_images=5), progress=stop)
    assert not (tmp_path / "store").exists()
    decoded.clear()
    build_store(source, tmp_path / "store", 10, key=b"", pool=PixelPool(shard_images=5))
    assert len(decoded) == 10


def test_an_unreadable_image_is_set_aside_with_its_reason(nih_folder: FolderMaker, tmp_path: Path) -> None:
    source = FolderSource.open(nih_folder(patients=10))
    name, file = source.files[5]
    file.write_bytes(file.read_bytes()[:100])
    gone, missing = source.files[9]
    missing.unlink()
    store = build_store(source, tmp_path / "store", 10, key=b"")
    assert [entry.image for entry in store.quarantine] == [name, gone]
    assert store.quarantine[0].reason.startswith("truncated: the PNG file ends after 100 bytes")
    assert store.quarantine[1].reason == "cannot be read (No such file or directory)"
    assert len(store.images) == len(store.pixels) == 38
    assert not {name, gone} & set(store.images.tolist())


def test_too_many_unreadable_images_stop_the_build_with_the_first_reasons(source: FolderSource, tmp_path: Path) -> None:
    for _, file in source.files[3:6]:
        file.write_bytes(b"")
    with pytest.raises(
        DataError, match=r"2 of 20 images cannot be read, the limit is 5% \(00000001_003.png: empty file"
    ):
        build_store(source, tmp_path / "store", 10, key=b"")
    assert not (tmp_path / "store").exists()
    build_store(source, tmp_path / "store", 10, key=b"", unreadable_limit=0.15)
    with pytest.raises(DataError, match="3 of 20 images cannot be read"):
        build_store(source, tmp_path / "store", 10, key=b"")


def test_a_source_without_a_readable_image_is_refused(source: FolderSource, tmp_path: Path) -> None:
    for _, file in source.files:
        file.write_bytes(b"")
    with pytest.raises(DataError, match="none of the images can be read"):
        build_store(source, tmp_path / "store", 10, key=b"", unreadable_limit=1)


def test_what_lies_at_the_path_already_is_never_overwritten(source: FolderSource, tmp_path: Path) -> None:
    build_store(source, tmp_path / "store", 10, key=b"")
    before = content(tmp_path / "store")
    with pytest.raises(DataError, match="holds a store of other data or settings"):
        build_store(source, tmp_path / "store", 12, key=b"")
    assert content(tmp_path / "store") == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="no store here"):
        build_store(source, tmp_path / "mine", 10, key=b"")
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.fixture
def hospital(nih_folder: FolderMaker) -> FolderSource:
    """The same 20 images with a table of one column per label and named patients."""
    folder = nih_folder()
    (folder / "Data_Entry_2017_v2020.csv").unlink()
    rows = [
        f"{file.name},Jane Doe {int(file.name[:8])},{row % 2}" for row, file in enumerate(sorted(folder.rglob("*.png")))
    ]
    (folder / "labels.csv").write_text("\n".join(["image,patient,Mass", *rows]))
    return FolderSource.open(folder)


def test_no_patients_identity_gets_into_a_store(hospital: FolderSource, tmp_path: Path) -> None:
    build_store(hospital, tmp_path / "store", 10, key=SECRETS[0])
    for name, data in content(tmp_path / "store").items():
        assert b"Jane" not in data, name
        assert SECRETS[0] not in data, name
        assert SECRETS[0].hex().encode() not in data, name


def test_a_table_that_is_not_public_needs_a_secret(hospital: FolderSource, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="secret for patient keys has 0 bytes"):
        build_store(hospital, tmp_path / "store", 10, key=b"")


def test_another_secret_gives_other_keys_but_the_same_fingerprint(hospital: FolderSource, tmp_path: Path) -> None:
    one, two = (build_store(hospital, tmp_path / key.decode(), 10, key=key) for key in SECRETS)
    assert not set(one.patients.tolist()) & set(two.patients.tolist())
    assert one.fingerprint == two.fingerprint
    assert len({store_key(hospital, 10, key) for key in SECRETS} | {store_key(hospital, 12, SECRETS[0])}) == 3


def test_a_public_source_ignores_the_secret(source: FolderSource, tmp_path: Path) -> None:
    build_store(source, tmp_path / "one", 10, key=SECRETS[0])
    build_store(source, tmp_path / "two", 10, key=b"")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    assert store_key(source, 10, SECRETS[0]) == store_key(source, 10, b"")


class InMemory(FolderSource):
    """A source that hands out bytes, as an archive would."""

    def items(self) -> Iterator[tuple[str, bytes]]:  # type: ignore[override]
        return ((name, file.read_bytes()) for name, file in self.files)


def test_a_source_may_give_bytes_instead_of_files(source: FolderSource, tmp_path: Path) -> None:
    fields = {field.name: getattr(source, field.name) for field in dataclasses.fields(source)}
    files = build_store(source, tmp_path / "files", 10, key=b"")
    held = build_store(InMemory(**fields), tmp_path / "bytes", 10, key=b"")
    assert held.fingerprint == files.fingerprint


@pytest.mark.parametrize("size", [0, 7, 5000])
def test_a_size_beyond_reason_is_refused(source: FolderSource, tmp_path: Path, size: int) -> None:
    with pytest.raises(DataError, match=rf"image size must lie in \[8, 4096\] pixels; got {size}"):
        build_store(source, tmp_path / "store", size, key=b"")


def test_a_folder_that_cannot_be_written_is_a_data_error(source: FolderSource, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="the store cannot be written"):
        build_store(source, tmp_path / "file" / "below" / "store", 10, key=b"")


def test_importing_the_room_brings_in_neither_torch_nor_the_workflow(tmp_path: Path) -> None:
    code = (
        "import json, sys, data_prep.store.from_source, data_prep.sources.folder, data_prep.noise.registry\n"
        "import data_prep.labels.splits\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"torch", "prefect", "mlflow", "pandas", "sklearn", "models", "tasks"} & set(json.loads(out))


def test_the_real_images_of_64_pixels_make_a_store(shared_data: Path, tmp_path: Path) -> None:
    nih = shared_data / "nih"
    source = FolderSource.open(nih / "images_64", nih / "Data_Entry_2017_v2020.csv.gz", allow_missing=True)
    store = build_store(source, tmp_path / "store", 64, key=b"")
    assert store.pixels.shape == (970, 64, 64)
    assert len(set(store.patients.tolist())) == 260
    assert (source.images_without_row, source.rows_without_image) == (0, 112_120 - 970)
    assert store.quarantine == ()


DECODER_THAT_CRASHES = """
import os, signal
import kornia_rs

decode = kornia_rs.io.decode_image_png_u8

def decode_image_png_u8(data, shape, mode):
    if b"CRASH" in data:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(data, shape, mode)

kornia_rs.io.decode_image_png_u8 = decode_image_png_u8
"""


def crashing(png: bytes) -> bytes:
    """The same picture with a mark at which that decoder crashes."""
    chunk = b"tIMECRASH\0\0"
    return png[:33] + struct.pack(">I", 7) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


@pytest.mark.parametrize("pool_pays", [0, 1e9])
def test_a_crash_of_the_decoder_costs_one_image(
    pool_pays: float, nih_folder: FolderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderSource.open(nih_folder(patients=25))
    bad = [source.files[20], source.files[80]]
    for _, file in bad:
        file.write_bytes(crashing(file.read_bytes()))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DECODER_THAT_CRASHES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr(decode_items, "_POOL_PAYS", pool_pays)
    sandbox._sandbox.cache_clear()
    try:
        store = build_store(source, tmp_path / "store", 10, key=b"", workers=2)
    finally:
        sandbox._sandbox.cache_clear()
    crashed = "the decoder crashed (SIGSEGV)"
    assert [tuple(entry) for entry in store.quarantine] == [(name, crashed) for name, _ in bad]
    assert len(store.images) == 98
