"""The folder of digits: MNIST's two files, found by their names and checked against each other."""

import struct
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from tasks.theory.digits import read_digits


def write(folder: Path, part: str, images: np.ndarray, labels: np.ndarray) -> None:
    for name, array in (("images-idx3", images), ("labels-idx1", labels)):
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (folder / f"{part}-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


def test_the_training_part_is_read_where_there_are_both(tmp_path: Path) -> None:
    write(tmp_path, "t10k", np.zeros((2, 3, 3)), np.array([1, 2]))
    test_part = read_digits(tmp_path)
    write(tmp_path, "train", np.full((4, 3, 3), 9), np.array([1, 2, 3, 9]))
    found = read_digits(tmp_path)
    assert found.files == ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    assert found.labels.tolist() == [1, 2, 3, 9]
    assert (found.images == 9).all()
    assert found.images.shape == (4, 3, 3)
    assert found.fingerprint != test_part.fingerprint


def test_the_fingerprint_is_of_what_the_files_hold(tmp_path: Path) -> None:
    fingerprints = []
    for folder, labels in (("a", [1, 2]), ("b", [1, 2]), ("c", [2, 1])):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, "t10k", np.zeros((2, 3, 3)), np.array(labels))
        fingerprints.append(read_digits(tmp_path / folder).fingerprint)
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 4)), np.zeros(2), "n square images and n labels"),
        (np.zeros((2, 3, 3)), np.zeros(3), "n square images and n labels"),
        (np.zeros((2, 9)), np.zeros(2), "n square images and n labels"),
        (np.zeros((2, 3, 3)), np.array([1, 10]), "a label is 10; digits are labelled 0 to 9"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, images: np.ndarray, labels: np.ndarray, message: str
) -> None:
    write(tmp_path, "t10k", images, labels)
    with pytest.raises(DataError, match=message):
        read_digits(tmp_path)


def test_a_folder_without_the_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "t10k", np.zeros((2, 3, 3)), np.zeros(2))
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="name the folder of MNIST's files"):
        read_digits(tmp_path)
