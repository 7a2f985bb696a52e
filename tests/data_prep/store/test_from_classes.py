"""From classes to a store: the same builder, the same accidents."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.decoding.picture import decode_picture
from data_prep.errors import DataError
from data_prep.labels.class_split import ClassSplitSettings, split_classes
from data_prep.sources.classes import open_classes
from data_prep.store import decode_items
from data_prep.store.checks import Expected, check_store, require
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.store.recipe import store_key
from data_prep.store.store import Store
from tests.data_prep.class_files import CLASSES, image_files, png, write_cifar10, write_files, write_mnist, write_tar


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*")}


def build(place: Path, path: Path, size: int = 10, **options: int) -> Store:
    return build_store(open_classes(str(place)), path, size, key=b"", **options)


@pytest.mark.parametrize("archived", [False, True])
def test_the_store_holds_each_image_in_colour_with_its_class_and_part(tmp_path: Path, archived: bool) -> None:
    files = image_files() if archived else dict(sorted(image_files().items()))
    place = write_tar(tmp_path / "set.tar.gz", files) if archived else write_files(tmp_path / "set", files)
    store = build(place, tmp_path / "store")
    assert store.images.tolist() == list(files)
    assert (store.pixels.shape, store.channels, store.classes) == ((24, 3, 10, 10), 3, CLASSES)
    for row, (name, data) in enumerate(files.items()):
        part, of_class, _ = name.split("/")
        assert np.array_equal(store.pixels[row], decode_picture(data, 10, 3))
        assert (store.classes[store.targets[row, 0]], store.parts[row]) == (of_class, part)  # type: ignore[index]
    split = split_classes(ClassSplitSettings(), store.images, store.targets, store.parts, store.same_pixels)
    require(check_store(store, Expected(images=24, split=split)))
    assert store.manifest["schema"] == "medmtl/store/2"


def test_batches_and_digits_are_stored_to_the_bit(tmp_path: Path) -> None:
    batches = write_cifar10(tmp_path / "cifar")
    store = build(tmp_path / "cifar", tmp_path / "store", 32)
    rows = np.concatenate([batch[b"data"] for batch in batches.values()])
    assert np.array_equal(store.pixels[:].reshape(len(rows), -1), rows)
    digits = write_mnist(tmp_path / "mnist", ("t10k",))
    store = build(tmp_path / "mnist", tmp_path / "digits", 28)
    assert np.array_equal(store.pixels[:], digits["t10k"])
    assert (store.channels, store.parts) == (1, None)


def test_the_store_is_the_same_byte_for_byte_whatever_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_files(tmp_path / "set", image_files(each=10) | {"train/cat/03.png": b"no image"})
    build(place, tmp_path / "one", pool=PixelPool(shard_images=17))
    monkeypatch.setattr(decode_items, "_POOL_PAYS", 0)
    build(place, tmp_path / "two", workers=2, pool=PixelPool(shard_images=17))
    assert content(tmp_path / "one") == content(tmp_path / "two")


KILLED_BUILD = """
import os, signal, sys
from pathlib import Path
from data_prep.store.from_source import build_store
from data_prep.store.pool import PixelPool
from data_prep.sources.classes import open_classes

def kill(done, total):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)

build_store(open_classes(sys.argv[1]), Path(sys.argv[2]), 10, key=b"", pool=PixelPool(shard_images=5), progress=kill)
"""


@pytest.mark.parametrize("form", ["folder", "archive", "batches"])
def test_a_killed_build_goes_on_after_its_last_finished_shard(tmp_path: Path, form: str) -> None:
    place = tmp_path / "set"
    if form == "batches":
        write_cifar10(place)
    elif form == "archive":
        place = write_tar(tmp_path / "set.tar", image_files())
    else:
        write_files(place, image_files())
    killed = subprocess.run([sys.executable, "-c", KILLED_BUILD, place, tmp_path / "store"], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "store").exists()
    calls: list[int] = []
    source = open_classes(str(place))
    progress = lambda done, total: calls.append(done)  # noqa: E731
    pool = PixelPool(shard_images=5)
    build_store(source, tmp_path / "store", 10, key=b"", pool=pool, progress=progress)
    assert calls == list(range(len(source) + 1))
    assert (pool.reused, pool.decoded) == (10, len(source) - 10)
    build(place, tmp_path / "whole", pool=PixelPool(shard_images=5))
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_finished_shards_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_files(tmp_path / "set", image_files())
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) > 8:
            raise OSError(28, os.strerror(28))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match=r"No space left on device.; free some space and run again"):
            build(place, tmp_path / "store", pool=PixelPool(shard_images=5))
    assert len(list((tmp_path / "store.partial").rglob("*.npy"))) >= 1
    build(place, tmp_path / "store", pool=PixelPool(shard_images=5))
    build(place, tmp_path / "whole", pool=PixelPool(shard_images=5))
    assert content(tmp_path / "store") == content(tmp_path / "whole")


def test_a_store_of_other_images_classes_or_size_is_not_taken_for_it(tmp_path: Path) -> None:
    files = image_files()
    place = write_files(tmp_path / "set", files)
    store = build(place, tmp_path / "store")
    assert build(place, tmp_path / "store") is store
    renamed = write_files(tmp_path / "renamed", {name.replace("cat", "emu"): data for name, data in files.items()})
    for other, size in ((place, 11), (renamed, 10)):
        with pytest.raises(DataError, match="holds a store of other data or settings"):
            build(other, tmp_path / "store", size)
    sources = [open_classes(str(each)) for each in (place, renamed)]
    assert len({store_key(source, size, b"") for source in sources for size in (10, 11)}) == 4
    file = tmp_path / "store" / "pixels-00000.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(DataError, match=r"pixels-00000\.npy is not what was written"):
        build(place, tmp_path / "store")


def test_unreadable_images_are_set_aside_up_to_the_limit(tmp_path: Path) -> None:
    files = image_files(each=10) | {"train/cat/03.png": b"no image", "test/dog/01.png": png(3)[:-20]}
    place = write_files(tmp_path / "set", files)
    store = build(place, tmp_path / "store")
    assert [entry.image for entry in store.quarantine] == ["test/dog/01.png", "train/cat/03.png"]
    assert store.quarantine[1].reason == "neither a PNG nor a JPEG file"
    assert store.parts is not None
    assert store.parts.tolist() == [name.split("/")[0] for name in store.images.tolist()]
    assert [store.classes[row] for row in store.targets[:, 0]] == [name.split("/")[1] for name in store.images.tolist()]
    require(check_store(store, Expected(images=60)))
    with pytest.raises(DataError, match=r"1 of 60 images cannot be read, the limit is 1% .*raise the limit"):
        build_store(open_classes(str(place)), tmp_path / "strict", 10, key=b"", unreadable_limit=0.01)


def test_images_with_the_same_pixels_are_named_and_stand_in_one_part_of_a_drawn_split(tmp_path: Path) -> None:
    files = image_files(("",), each=8)
    twice = [f"cat/{number:02d}.png" for number in range(4)]
    files |= {name: png(1000 + number) for number, name in enumerate(twice)}
    files |= {name.replace("cat", "dog"): files[name] for name in twice}
    store = build(write_files(tmp_path / "set", files), tmp_path / "store")
    assert sorted(store.same_pixels) == [(name, name.replace("cat", "dog")) for name in twice]
    for seed in range(5):
        settings = ClassSplitSettings(seed=seed)
        split = split_classes(settings, store.images, store.targets, store.parts, store.same_pixels)
        part_of = {name: part for part in ("train", "val", "test") for name in store.images[getattr(split, part)]}
        assert all(part_of[one] == part_of[other] for one, other in store.same_pixels)


@pytest.mark.slow
def test_the_public_jpegs_of_cifar10_make_a_store(shared_data: Path, tmp_path: Path) -> None:
    source = open_classes("cifar10", shared_data / "vision")
    store = build_store(source, tmp_path / "store", 32, key=b"", workers=2)
    assert (store.pixels.shape, store.channels, store.quarantine) == ((60_000, 3, 32, 32), 3, ())
    split = split_classes(ClassSplitSettings(), store.images, store.targets, store.parts, store.same_pixels)
    assert [len(split.train), len(split.val), len(split.test)] == [45_000, 5_000, 10_000]
    require(check_store(store, Expected(images=60_000, split=split)))


def test_the_public_test_digits_make_a_store(shared_data: Path, tmp_path: Path) -> None:
    store = build_store(open_classes("mnist", shared_data / "vision"), tmp_path / "store", 28, key=b"", workers=2)
    assert (store.pixels.shape, store.channels, store.quarantine) == ((10_000, 28, 28), 1, ())
    split = split_classes(ClassSplitSettings(), store.images, store.targets, store.parts, store.same_pixels)
    assert (split.name, len(split.train) + len(split.val) + len(split.test)) == ("random", 10_000)
    require(check_store(store, Expected(images=10_000, split=split)))
