"""Stores that share decoded pixels: nothing is decoded twice, and no store tells how it came about."""

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import filelock
import numpy as np
import pytest

from data_prep.decoding.radiograph import Radiograph
from data_prep.decoding.sandbox import DecodingStoppedError
from data_prep.errors import DataError
from data_prep.sources.classes import open_classes
from data_prep.sources.folder import FolderSource
from data_prep.store import decode_items, file_hashes
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool, remove_unused
from data_prep.store.store import Store
from tests.data_prep.class_files import image_files, write_files
from tests.data_prep.dicom_files import dicom_bytes, dicom_dataset

SECRET, SIZE = b"0123456789abcdef", 8
COLUMNS = ("images", "patients", "targets", "views", "sizes")


def picture(seed: int) -> bytes:
    """Return a picture of its own shape, in one of the three formats; every seventh cannot be read."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 4096, rng.integers(12, 30, 2), dtype=np.uint16)
    if seed % 7 == 6:
        return b"no image %d" % seed
    if seed % 3 == 2:
        dataset = dicom_dataset(pixels, BitsStored=12, PatientID=f"P{seed % 5}", ViewPosition=("AP", "PA")[seed % 2])
        return dicom_bytes(dataset)
    return cv2.imencode((".png", ".jpg")[seed % 3], (pixels >> 4).astype(np.uint8))[1].tobytes()


@dataclass
class Folder:
    """A hospital's folder from night to night: content and label of each file."""

    path: Path
    images: dict[str, tuple[int, int]] = field(default_factory=dict)

    def write(self) -> FolderSource:
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        rows = [f"{name},p{seed % 6},{label}" for name, (seed, label) in self.images.items()]
        (self.path / "labels.csv").write_text("\n".join(["image,patient,Mass", *rows, "last,p,0", "x,p,1"]) + "\n")
        for name, (seed, _) in self.images.items():
            (self.path / name).write_bytes(picture(seed))
        return FolderSource.open(self.path, allow_missing=True)

    def build(self, place: Path, pool: PixelPool | None = None) -> Store:
        return build_store(self.write(), place, SIZE, key=SECRET, unreadable_limit=0.5, pool=pool)


def assert_same_content(found: Store, wanted: Store) -> None:
    for column in COLUMNS:
        assert np.array_equal(getattr(found, column), getattr(wanted, column)), column
    assert np.array_equal(found.pixels[:], wanted.pixels[:])
    assert found.fingerprint == wanted.fingerprint
    for entry in ("quarantine", "same_pixels", "sources_sha256", "patients_in_files"):
        assert found.manifest[entry] == wanted.manifest[entry], entry


@pytest.mark.parametrize("seed", range(2))
def test_a_folder_that_changes_every_night_gives_the_stores_of_a_first_build_and_decodes_only_what_is_new(
    tmp_path: Path, seed: int
) -> None:
    rng, folder = random.Random(seed), Folder(tmp_path / "folder")
    names = [f"{number:03d}{suffix}" for number in range(60) for suffix in ("", ".png", ".dcm")]
    rng.shuffle(names)
    fresh, seen = iter(range(1000 * seed, 1000 * seed + 400)), set[bytes]()
    schemas = []
    for night in range(5):
        for name in names[night * 12 : night * 12 + 12]:
            folder.images[name] = (next(fresh), rng.randrange(2))
        known = sorted(folder.images)
        for name in rng.sample(known, 3) if night else []:  # another label
            folder.images[name] = (folder.images[name][0], 1 - folder.images[name][1])
        replaced, removed, renamed, doubled = rng.sample(known, 4)
        if night:
            folder.images[replaced] = (next(fresh), 0)
            folder.images[f"again {night}.png"] = folder.images[doubled]
            folder.images[f"renamed {night}"] = folder.images.pop(renamed)
            del folder.images[removed]
        pool = PixelPool(tmp_path / "pool", shard_images=7)
        store = folder.build(tmp_path / f"night {night}", pool)
        assert_same_content(store, folder.build(tmp_path / f"whole {night}"))
        contents = [file.read_bytes() for _, file in folder.write().files]
        assert pool.decoded == len({*contents} - seen) > 12 - 5
        assert pool.reused == len(contents) - pool.decoded
        seen |= {*contents}
        schemas.append(store.manifest["schema"])
    assert schemas == ["medmtl/store/1", *["medmtl/store/3"] * 4]
    for night in range(5):
        Store.open(tmp_path / f"night {night}")


def test_an_edited_label_another_table_and_a_folder_elsewhere_decode_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(12)})
    first = folder.build(tmp_path / "first", PixelPool(tmp_path / "pool"))
    folder.images["03.png"] = (9, 1)
    elsewhere = replace(folder, path=tmp_path / "elsewhere")
    for number, each in enumerate((folder, elsewhere)):
        pool = PixelPool(tmp_path / "pool")
        store = each.build(tmp_path / f"{number}", pool)
        assert (pool.decoded, pool.reused) == (0, 12)
        assert store.fingerprint != first.fingerprint
        assert store.manifest["schema"] == "medmtl/store/1"
        assert (store.path / "pixels-00000.npy").samefile(first.path / "pixels-00000.npy")


@pytest.mark.parametrize("change", ["size", "secret", "chest"])
def test_what_would_decode_otherwise_is_decoded(tmp_path: Path, change: str) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(5)})
    folder.build(tmp_path / "first", PixelPool(tmp_path / "pool"))
    pool = PixelPool(tmp_path / "pool")
    source = replace(folder.write(), chest=change == "chest")
    secret = SECRET[::-1] if change == "secret" else SECRET
    build_store(source, tmp_path / "second", SIZE + (change == "size"), key=secret, unreadable_limit=0.5, pool=pool)
    assert (pool.decoded, pool.reused) == (5, 0)


def test_classes_in_colour_share_pixels_too(tmp_path: Path) -> None:
    files = image_files(each=6)
    few = dict(list(files.items())[::2])
    grown = [write_files(tmp_path / f"set {number}", each) for number, each in enumerate((few, files))]
    for number, place in enumerate(grown):
        pool = PixelPool(tmp_path / "pool", shard_images=5)
        source = open_classes(str(place))
        store = build_store(source, tmp_path / f"{number}", 10, key=b"", pool=pool)
        whole = build_store(source, tmp_path / f"whole {number}", 10, key=b"")
        assert_same_content(store, whole)
        assert (store.channels, store.classes, pool.reused) == (3, whole.classes, len(few) * number)
        assert np.array_equal(store.parts, whole.parts)  # type: ignore[arg-type]


KILLED = """
import os, signal, sys
from pathlib import Path
from data_prep.sources.folder import FolderSource
from data_prep.store import pool, shards
from data_prep.store.from_source import build_store

left = int(sys.argv[3])

def or_die(function):
    def called(*arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments)
    return called

os.fsync, os.link = or_die(os.fsync), or_die(os.link)
shared = pool.PixelPool(Path(sys.argv[1]) / "pool", shard_images=4)
source = FolderSource.open(Path(sys.argv[1]) / "folder", allow_missing=True)
build_store(source, Path(sys.argv[1]) / sys.argv[2], 8, key=b"0123456789abcdef", unreadable_limit=0.5, pool=shared)
"""


@pytest.mark.parametrize("writes", [1, 7, 24, 37])
def test_a_build_killed_at_any_write_damages_nothing_and_is_done_by_the_next(tmp_path: Path, writes: int) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number + 1, 0) for number in range(10)})
    first = folder.build(tmp_path / "first", PixelPool(tmp_path / "pool", shard_images=4))
    folder.images |= {f"{number:02d}-new.png": (3 * number, 1) for number in range(20)}
    source = folder.write()
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path, "second", str(writes)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "second").exists()
    said: list[str] = []
    pool = PixelPool(tmp_path / "pool", shard_images=4, say=said.append)
    store = build_store(source, tmp_path / "second", SIZE, key=SECRET, unreadable_limit=0.5, pool=pool)
    assert_same_content(store, folder.build(tmp_path / "whole"))
    assert not said
    assert pool.decoded <= (0 if writes >= 34 else 12 if writes >= 24 else 20)
    assert not list(tmp_path.glob("*.partial"))
    assert sorted(file.name for file in store.path.iterdir()) == sorted([*store.manifest["files"], "manifest.json"])
    Store.open(first.path)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, Path.unlink])
@pytest.mark.parametrize("suffix", ["npy", "json"])
def test_a_damaged_or_missing_shard_is_said_and_its_images_alone_are_decoded_again(
    tmp_path: Path, damage: Callable[[Path], None], suffix: str
) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(12)})
    folder.build(tmp_path / "first", PixelPool(tmp_path / "pool", shard_images=4))
    shutil.rmtree(tmp_path / "first")
    damage(next(tmp_path.glob(f"pool/*/00001.{suffix}")))
    said: list[str] = []
    pool = PixelPool(tmp_path / "pool", shard_images=4, say=said.append)
    assert_same_content(folder.build(tmp_path / "first", pool), folder.build(tmp_path / "whole"))
    assert pool.decoded == 4
    if (damage, suffix) != (Path.unlink, "json"):
        assert len(said) == 1
        assert "shard 00001 of the pool of pixels is left out" in said[0]
    again = PixelPool(tmp_path / "pool", say=said.append)
    folder.images["00.png"] = (0, 1)
    folder.build(tmp_path / "second", again)
    assert (again.decoded, len(said)) == (0, len(said[:1]))


def test_builders_of_several_stores_take_turns_and_decode_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(12)})
    source, said = folder.write(), list[str]()
    pools = [PixelPool(tmp_path / "pool", say=said.append) for _ in range(3)]

    def build(number: int) -> None:
        options = {"unreadable_limit": 0.5, "pool": pools[number]}
        build_store(source, tmp_path / str(number), SIZE, key=SECRET, **options)  # type: ignore[arg-type]

    threads = [threading.Thread(target=build, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(pool.decoded for pool in pools) == [0, 0, 12]
    assert len({Store.open(tmp_path / str(number)).fingerprint for number in range(3)}) == 1
    assert set(said) <= {"waiting for another run that decodes images of this size"}


def test_a_shard_is_unused_when_no_store_has_it_and_can_be_removed_beside_a_build(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(8)})
    first = folder.build(tmp_path / "first", PixelPool(tmp_path / "pool", shard_images=4))
    folder.images = {name: image for name, image in folder.images.items() if name > "04"}
    second = folder.build(tmp_path / "second", PixelPool(tmp_path / "pool"))
    said: list[str] = []
    assert remove_unused(tmp_path / "pool", said.append) == []
    shutil.rmtree(first.path)
    lock = next(tmp_path.glob("pool/*/lock"))
    with filelock.FileLock(lock):
        assert remove_unused(tmp_path / "pool", said.append) == []
        assert len(said) == 1
    assert remove_unused(tmp_path / "pool", said.append) == [(lock.parent / "00000.npy", 128 + 3 * SIZE**2)]
    assert remove_unused(tmp_path / "pool", said.append) == []
    assert [file.name for file in lock.parent.glob("*.npy")] == ["00001.npy"]
    with filelock.FileLock(lock, timeout=0):
        pass
    pool = PixelPool(tmp_path / "pool", say=said.append)
    folder.images["00.png"] = (0, 0)
    folder.build(tmp_path / "third", pool)
    assert (pool.decoded, pool.reused, len(said)) == (1, 4, 1)
    shutil.rmtree(tmp_path / "pool")
    again = Store.open(second.path)
    assert len(again.pixels[:]) == 4


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(8)})
    store = folder.build(tmp_path / "first", PixelPool(tmp_path / "pool"))
    assert (store.path / "pixels-00000.npy").stat().st_nlink == 1
    remove_unused(tmp_path / "pool", lambda line: None)
    assert_same_content(Store.open(store.path), folder.build(tmp_path / "whole"))


def test_a_file_that_did_not_change_is_not_read_and_one_that_did_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    opened = file_hashes.open_regular
    monkeypatch.setattr(file_hashes, "open_regular", lambda file: read.append(file.name) or opened(file))
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(5)})
    folder.write()

    def build(place: str) -> list[str]:
        read.clear()
        labels = folder.path / "labels.csv"
        labels.write_text(labels.read_text() + f"{place}.png,p,1\n")
        source = FolderSource.open(folder.path, allow_missing=True)
        options = {"unreadable_limit": 0.5, "pool": PixelPool(tmp_path / "pool")}
        build_store(source, tmp_path / place, SIZE, key=SECRET, **options)  # type: ignore[arg-type]
        return sorted(read)

    assert len(build("just written")) == len(build("still young")) == 5
    monkeypatch.setattr(file_hashes, "_SETTLED_SECONDS", -1e9)
    assert len(build("old enough")) == 5
    assert build("remembered") == []
    changed = folder.path / "03.png"
    times = changed.stat().st_atime_ns, changed.stat().st_mtime_ns
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    os.utime(changed, ns=times)
    assert build("changed in secret") == ["03.png"]
    (folder.path / "04.png").rename(folder.path / "04-moved.png")
    (folder.path / "04.png").write_bytes(picture(99))
    assert build("replaced") == ["04.png"]
    memory = next(tmp_path.glob("pool/*/files.json"))
    flip(memory)
    assert len(build("forgotten")) == 5


def test_a_file_that_cannot_be_read_is_not_tried_again_unless_its_decoding_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(5)})
    folder.images["bad.png"] = (6, 0)
    decode, stopped = decode_items.safe_decode, [picture(3)]

    def stop(data: bytes, *arguments: int, **options: bool) -> Radiograph:
        if data in stopped:
            raise DecodingStoppedError("it takes too long")
        return decode(data, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decode_items, "safe_decode", stop)
    store = folder.build(tmp_path / "first", PixelPool(tmp_path / "pool"))
    assert [entry.image for entry in store.quarantine] == ["01.png", "02.png", "bad.png"]
    stopped.clear()
    folder.images["00.png"] = (0, 1)
    pool = PixelPool(tmp_path / "pool")
    store = folder.build(tmp_path / "second", pool)
    assert [entry.image for entry in store.quarantine] == ["02.png", "bad.png"]
    assert (pool.decoded, pool.reused) == (1, 5)


def test_a_file_that_changes_between_hashing_and_decoding_never_lends_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (3 * number, 0) for number in range(2)})
    monkeypatch.setattr(file_hashes.FileHashes, "of", lambda self, file: "0" * 64)
    store = folder.build(tmp_path / "first")
    assert store.images.tolist() == ["00.png"]
    assert store.quarantine[0] == ("01.png", "cannot be read (it changed meanwhile)")


def test_too_many_files_known_to_be_unreadable_stop_a_build(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder", {f"{number:02d}.png": (number + 5, 0) for number in range(10)})
    folder.build(tmp_path / "first", PixelPool(tmp_path / "pool"))
    folder.images["00.png"] = (5, 1)
    with pytest.raises(DataError, match="1 of 10 images cannot be read, the limit is 5%"):
        build_store(folder.write(), tmp_path / "second", SIZE, key=SECRET, pool=PixelPool(tmp_path / "pool"))


def test_the_real_radiographs_decode_once_while_their_folder_grows(shared_data: Path, tmp_path: Path) -> None:
    nih = shared_data / "nih"
    images = sorted((nih / "images_64").glob("*.png"))[:200]
    folder = tmp_path / "folder"
    folder.mkdir()
    for count, new in ((120, 120), (160, 40), (160, 0), (200, 40)):
        for image in images[::-1][:count]:
            shutil.copy(image, folder)
        source = FolderSource.open(folder, nih / "Data_Entry_2017_v2020.csv.gz", allow_missing=True)
        pool = PixelPool(tmp_path / "pool")
        store = build_store(source, tmp_path / f"store {count} {new}", 64, key=b"", pool=pool)
        assert (pool.decoded, pool.reused) == (new, count - new)
    assert_same_content(store, build_store(source, tmp_path / "whole", 64, key=b""))
