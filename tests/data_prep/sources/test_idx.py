"""IDX files: read as they were written, and refused in one line where they are damaged or would fill the memory."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from data_prep.errors import DataError
from data_prep.sources.idx import MAX_VALUES, read_idx


def idx_bytes(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape) + values


@given(array=arrays(np.uint8, array_shapes(min_dims=1, max_dims=3, max_side=6)), gzipped=st.booleans())
def test_an_array_is_read_as_it_was_written(
    array: np.ndarray, gzipped: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = idx_bytes(array.shape, array.tobytes())
    path = tmp_path_factory.mktemp("idx") / "any-name"
    path.write_bytes(gzip.compress(content) if gzipped else content)
    found = read_idx(path)
    assert found.dtype == np.uint8
    assert np.array_equal(found, array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG\r\n", "begins with 89 50 4e 47, not with 00 00"),
        (idx_bytes((2,), b"\0" * 16, kind=0x0D), "values of type 0x0d; only unsigned bytes"),
        (idx_bytes((), b"a"), "0 dimensions; there must be 1 to 3"),
        (idx_bytes((1, 1, 1, 1), b"a"), "4 dimensions; there must be 1 to 3"),
        (idx_bytes((2, 3), b"")[:-2], "it ends in its header"),
        (idx_bytes((0, 28, 28), b""), "declares 0 x 28 x 28 values; there must be 1 to"),
        (idx_bytes((2**32 - 1,) * 3, b"ab"), f"there must be 1 to {MAX_VALUES}"),
        (idx_bytes((5,), b"abc"), "3 values, not the 5 of its header"),
        (idx_bytes((2,), b"abc"), "more values than the 2 of its header"),
    ],
)
def test_what_is_no_such_file_or_damaged_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    for name, stored in (("plain", content), ("gzipped", gzip.compress(content))):
        assert message in refusal(tmp_path / name, stored)


@pytest.mark.parametrize("end", [b"", b"\0" * 8])
def test_a_gzip_file_that_is_cut_off_or_changed_is_refused(tmp_path: Path, end: bytes) -> None:
    stored = gzip.compress(idx_bytes((4,), b"abcd"))[:-8] + end
    assert "the IDX file cannot be read" in refusal(tmp_path / "images", stored)


def refusal(path: Path, content: bytes) -> str:
    """Return the one line with which a file of this content is refused."""
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path)
    line = str(error.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


@pytest.mark.parametrize("shape", [(MAX_VALUES,), (100,)])
def test_a_gzip_bomb_is_refused_without_taking_memory(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "bomb"
    with gzip.open(path, "wb") as file:
        file.write(idx_bytes(shape, b""))
        for _ in range(300):
            file.write(bytes(2**20))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"far more than the file holds|more values than the 100"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (("pipe", "a pipe"), ("missing", "No such file"), (".", "a folder")):
        with pytest.raises(DataError, match=rf"the IDX file cannot be read \(.*{reason}.*name another one"):
            read_idx(tmp_path / name)


def test_mnist_is_read_whole(shared_data: Path) -> None:
    folder = shared_data / "vision"
    images, labels = (read_idx(folder / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    assert (images.shape, labels.shape) == ((10_000, 28, 28), (10_000,))
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
