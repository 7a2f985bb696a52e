"""CIFAR's batches: read to the bit, and refused in one line where they are broken."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.sources.class_source import ClassSource
from data_prep.sources.classes import open_classes
from tests.data_prep.class_files import CLASSES, python2_batch, random_batch, write_cifar10, write_tar


def check_is(source: ClassSource, batches: dict[str, dict[Any, Any]]) -> None:
    """The source gives every image and class of the batches, in their order."""
    parts = [name for name, batch in batches.items() for _ in batch[b"labels"]]
    assert source.table.classes == CLASSES
    assert source.table.labels == ("class",)
    assert source.table.targets.dtype == np.int16
    assert source.table.targets[:, 0].tolist() == [row for batch in batches.values() for row in batch[b"labels"]]
    assert source.table.parts is not None
    assert source.table.parts.tolist() == ["test" if name == "test_batch" else "train" for name in parts]
    rows = np.concatenate([batch[b"data"] for batch in batches.values()])
    items = list(source.items())
    assert [name for name, _ in items] == source.table.images.tolist()
    assert len({name for name, _ in items}) == len(rows) == len(source)
    for row, (_, file) in zip(rows, items, strict=True):
        assert isinstance(file, bytes)
        red_first = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        assert np.array_equal(red_first.transpose(2, 0, 1).ravel(), row)
    assert (source.picture_channels, source.public) == (3, True)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_folder_of_batches_gives_every_image_with_its_class_and_part(tmp_path: Path, protocol: int) -> None:
    batches = write_cifar10(tmp_path / "set", protocol=protocol)
    check_is(open_classes(str(tmp_path / "set")), batches)


def test_batches_of_python_2_are_read_like_those_of_python_3(tmp_path: Path) -> None:
    batches = write_cifar10(tmp_path / "set")
    source = open_classes(str(tmp_path / "set"))
    for name, batch in batches.items():
        (tmp_path / "set" / name).write_bytes(python2_batch(batch))
    again = open_classes(str(tmp_path / "set"))
    check_is(again, batches)
    assert again.identity == source.identity


@pytest.mark.parametrize("name", ["set.tar.gz", "set.tar"])
def test_an_archive_of_batches_is_read_without_unpacking_it(tmp_path: Path, name: str) -> None:
    batches = write_cifar10(tmp_path / "cifar-10-batches-py")
    files = {
        f"cifar-10-batches-py/{file.name}": file.read_bytes() for file in (tmp_path / "cifar-10-batches-py").iterdir()
    }
    files["cifar-10-batches-py/readme.html"] = b"<html>"
    archive = write_tar(tmp_path / name, files)
    source = open_classes(str(archive))
    check_is(source, batches)
    assert source.identity == open_classes(str(tmp_path / "cifar-10-batches-py")).identity


def test_cifar100_has_fine_classes(tmp_path: Path) -> None:
    names = [f"class {number:03d}" for number in range(100)]
    for name in ("train", "test"):
        batch = random_batch(200, 100)
        content = {b"data": batch[b"data"], b"fine_labels": batch[b"labels"], b"coarse_labels": [0] * 200}
        (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = {b"fine_label_names": [name.encode() for name in names], b"coarse_label_names": [b"all"]}
    (tmp_path / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    source = open_classes("cifar100", tmp_path)
    assert source.table.classes == tuple(names)
    assert len(source) == 400
    assert np.array_equal(source.table.targets[:200, 0], np.arange(200) % 100)


def test_the_identity_is_of_the_content(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "set")
    first = open_classes(str(tmp_path / "set")).identity
    batch = pickle.loads((tmp_path / "set" / "data_batch_3").read_bytes())
    batch[b"data"][2, 7] ^= 1
    (tmp_path / "set" / "data_batch_3").write_bytes(pickle.dumps(batch))
    assert open_classes(str(tmp_path / "set")).identity != first


def batch_with(**changes: Any) -> Callable[[dict[Any, Any]], dict[Any, Any]]:
    return lambda batch: batch | {key.encode(): value for key, value in changes.items()}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (batch_with(labels=[0] * 5), r"6 images and 5 labels; fetch it again"),
        (batch_with(labels=[0, 1, 2, 0, 1, 3]), r"an image of the train part is of class 3, and there are 3"),
        (batch_with(labels=[0, 1, 2, 0, 1, -1]), r"an image of the train part is of class -1, and there are 3"),
        (batch_with(labels=[0, 1, 2, 0, 1, 2**40]), r"broken one \(no list of whole numbers 'labels'\)"),
        (batch_with(labels=[0, 1, 2, 0, 1, True]), r"broken one \(no list of whole numbers 'labels'\)"),
        (batch_with(labels="ab"), r"broken one \(no list of whole numbers 'labels'\)"),
        (batch_with(data=np.zeros((6, 3071), np.uint8)), r"images of 3071 bytes; they have 3072"),
        (batch_with(data=np.zeros((6, 3072), np.int8)), r"another type than unsigned bytes"),
        (batch_with(data=np.zeros((6, 3, 32, 32), np.uint8)), r"another shape than images by bytes"),
        (batch_with(data=[[0] * 3072] * 6), r"no array where there must be one"),
        (lambda batch: {b"labels": batch[b"labels"]}, r"no array where there must be one"),
        (lambda batch: [batch], r"it holds no dict"),
        (lambda batch: {print: batch}, r"it names '__builtin__\.print', which an array does not need"),
    ],
)
def test_a_broken_batch_is_one_line_that_names_it(
    tmp_path: Path, change: Callable[[dict[Any, Any]], Any], reason: str
) -> None:
    write_cifar10(tmp_path / "set")
    file = tmp_path / "set" / "data_batch_3"
    file.write_bytes(pickle.dumps(change(pickle.loads(file.read_bytes())), protocol=2))
    with pytest.raises(DataError, match=reason) as caught:
        open_classes(str(tmp_path / "set"))
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "set") in str(caught.value)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("birds", r"no list 'label_names' of 1 to 10000 names"),
        (["bird", 7, "dog"], r"no list 'label_names' of 1 to 10000 names of at most 200 characters"),
        (["bird", "x" * 201, "dog"], r"no list 'label_names'"),
        (["bird", "dog", "dog"], r"two classes are called 'dog'; rename one"),
        (["bird", "cat", "dog", "elk", "fox"], r"class 'elk' \(and 1 more\) has no image"),
        (["bird"], r"an image of the train part is of class 1, and there are 1"),
    ],
)
def test_wrong_names_of_classes_are_one_line(tmp_path: Path, names: Any, reason: str) -> None:
    write_cifar10(tmp_path / "set")
    (tmp_path / "set" / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    with pytest.raises(DataError, match=reason) as caught:
        open_classes(str(tmp_path / "set"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_4", "test_batch", "batches.meta"])
def test_a_missing_file_of_the_set_is_named(tmp_path: Path, name: str, archived: bool) -> None:
    write_cifar10(tmp_path / "set")
    (tmp_path / "set" / name).unlink()
    place = tmp_path / "set"
    if archived:
        place = write_tar(tmp_path / "set.tar.gz", {f"x/{file.name}": file.read_bytes() for file in place.iterdir()})
    with pytest.raises(
        DataError, match=rf"{name}.*not (there|in it); the set has the files data_batch_1, .*batches.meta"
    ):
        open_classes(str(place))


def test_every_batch_cut_anywhere_is_one_line(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "set", rows=3)
    file = tmp_path / "set" / "data_batch_2"
    data = file.read_bytes()
    for end in (0, 1, 2, 10, 100, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:end])
        with pytest.raises(DataError, match=rf"{file}: not a CIFAR batch, or a broken one") as caught:
            open_classes(str(tmp_path / "set"))
        assert "\n" not in str(caught.value)


def test_a_batch_that_is_too_large_or_no_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path / "set")
    monkeypatch.setattr("data_prep.sources.cifar.MAX_BATCH_BYTES", 1000)
    with pytest.raises(DataError, match=r"data_batch_1: cannot be read .larger than 1000 bytes, the limit"):
        open_classes(str(tmp_path / "set"))
    (tmp_path / "set" / "data_batch_1").unlink()
    (tmp_path / "set" / "data_batch_1").mkdir()
    (tmp_path / "set" / "data_batch_1" / "x").write_text("")
    with pytest.raises(DataError, match=r"data_batch_1: cannot be read .it is a folder"):
        open_classes(str(tmp_path / "set"))
