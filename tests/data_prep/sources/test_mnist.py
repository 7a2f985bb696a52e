"""MNIST's files: every digit with its class; a single part is no test part that the data give."""

import gzip
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.sources.classes import open_classes
from tests.data_prep.class_files import idx, write_mnist


def test_both_parts_give_every_image_with_its_class_and_part(tmp_path: Path) -> None:
    images = write_mnist(tmp_path)
    source = open_classes(str(tmp_path))
    assert source.table.classes == ("0", "1", "2")
    assert source.table.targets[:, 0].tolist() == [row % 3 for row in range(12)] * 2
    assert source.table.parts is not None
    assert source.table.parts.tolist() == ["train"] * 12 + ["test"] * 12
    assert source.picture_channels == 1
    found = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED) for _, file in source.items()]
    assert np.array_equal(np.stack(found), np.concatenate([images["train"], images["t10k"]]))


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_part_alone_is_none_that_the_data_give(tmp_path: Path, part: str) -> None:
    write_mnist(tmp_path, (part,))
    source = open_classes(str(tmp_path))
    assert source.table.parts is None
    assert len(source) == 12


def test_files_need_not_be_gzipped(tmp_path: Path) -> None:
    write_mnist(tmp_path / "zipped")
    (tmp_path / "plain").mkdir()
    for file in (tmp_path / "zipped").iterdir():
        (tmp_path / "plain" / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    assert open_classes(str(tmp_path / "plain")).identity == open_classes(str(tmp_path / "zipped")).identity


def test_files_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(np.zeros(11, np.uint8)))
    with pytest.raises(DataError, match="12 images of the test part and classes of 11; fetch the files again"):
        open_classes(str(tmp_path))
    labels.write_bytes(idx(np.zeros((12, 2), np.uint8)))
    with pytest.raises(DataError, match="labels 1: fetch them again"):
        open_classes(str(tmp_path))
    labels.write_bytes(b"")
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz: not an IDX file"):
        open_classes(str(tmp_path))
    labels.unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte: .*cannot be read"):
        open_classes(str(tmp_path))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(idx(np.zeros((12, 20, 20), np.uint8)))
    labels.write_bytes(idx(np.zeros(12, np.uint8)))
    with pytest.raises(DataError, match=r"images of \(20, 20\) and of \(28, 28\) pixels"):
        open_classes(str(tmp_path))


def test_a_class_without_an_image_and_a_class_that_only_the_test_part_has_are_one_line(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(np.array([3] * 12, np.uint8)))
    with pytest.raises(DataError, match="class '3' has 12 test images and no training image; add training images"):
        open_classes(str(tmp_path))
    labels.write_bytes(idx(np.array([5] * 12, np.uint8)))
    with pytest.raises(DataError, match=r"class '3' \(and 1 more\) has no image|class '3' has no image"):
        open_classes(str(tmp_path))


def test_the_public_test_digits_are_read(shared_data: Path) -> None:
    source = open_classes("mnist", shared_data / "vision")
    assert (len(source), source.table.classes, source.table.parts) == (10_000, tuple("0123456789"), None)
    assert np.bincount(source.table.targets[:, 0]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
