"""ChestMNIST's files, as a source of a store."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels.table import FINDINGS
from data_prep.sources.medmnist import MedMnistSource
from data_prep.store.from_source import build_store

COUNTS = {"train": 7, "val": 2, "test": 3}


def write_npz(path: Path, size: int = 28, **changes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.integers(0, 256, (n, size, size), dtype=np.uint8) for part, n in COUNTS.items()}
    arrays |= {f"{part}_labels": rng.integers(0, 2, (n, 14), dtype=np.uint8) for part, n in COUNTS.items()}
    arrays |= changes
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return arrays


@pytest.mark.parametrize(("size", "name"), [(28, "chestmnist.npz"), (64, "chestmnist_64.npz")])
def test_the_store_holds_the_files_pixels_and_labels(tmp_path: Path, size: int, name: str) -> None:
    arrays = write_npz(tmp_path / name, size)
    store = build_store(MedMnistSource.open(tmp_path, size), tmp_path / "store", size, key=b"")
    assert np.array_equal(store.pixels[:], np.concatenate([arrays[f"{part}_images"] for part in COUNTS]))
    assert np.array_equal(store.targets, np.concatenate([arrays[f"{part}_labels"] for part in COUNTS]))
    assert store.labels == FINDINGS
    assert (store.images[0], store.images[-1], store.population) == (
        "train_000000.png",
        "test_000002.png",
        "chestmnist",
    )
    assert len(set(store.patients.tolist())) == 12


def test_a_size_that_does_not_exist_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images of 100 pixels; choose --size 28, 64, 128, 224"):
        MedMnistSource.open(tmp_path, 100)
    with pytest.raises(DataError, match=r"chestmnist_64.npz: not there; install the extra 'medmnist'"):
        MedMnistSource.open(tmp_path, 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"train_images": np.array([{"a": 1}], dtype=object)},
        {"val_images": np.zeros((2, 64, 64), dtype=np.uint8)},
        {"test_images": np.zeros((3, 28, 28), dtype=np.float32)},
        {"train_labels": np.array([{"a": 1}], dtype=object)},
        {"train_labels": np.full((7, 14), 2, dtype=np.uint8)},
    ],
)
def test_arrays_of_another_kind_are_refused_and_pickles_never_opened(
    tmp_path: Path, changes: dict[str, np.ndarray]
) -> None:
    write_npz(tmp_path / "chestmnist.npz", **changes)
    with pytest.raises(DataError, match=r"chestmnist.npz: (not a complete MedMNIST file|labels other than 0 and 1)"):
        build_store(MedMnistSource.open(tmp_path, 28), tmp_path / "store", 28, key=b"")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "chestmnist.npz"
    write_npz(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match="not a complete MedMNIST file"):
        MedMnistSource.open(tmp_path, 28)


@given(
    st.sampled_from([f"{part}_{what}" for part in COUNTS for what in ("labels", "images")]),
    st.one_of(
        st.tuples(st.sampled_from([0, 1, 10**12, 2**63, -1]), st.just("|u1")),
        st.tuples(st.integers(0, 10**7), st.sampled_from(["<f8", "|O", "<i8", "|b1", "<U99999", "|V1000000000"])),
    ),
    st.sampled_from([(14,), (28, 28), (), (10**9, 10**9)]),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]),
    st.integers(0, 200),
)
def test_a_header_that_declares_anything_is_refused_before_memory_is_taken(
    tmp_path_factory: pytest.TempPathFactory, name: str, rows: tuple[int, str], shape: tuple[int, ...], method: int,
    length: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("npz")
    path = folder / "chestmnist.npz"
    arrays = write_npz(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": rows[1], "fortran_order": False, "shape": (rows[0], *shape)})
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            data = header.getvalue() + bytes(length) if key == name else content.getvalue()
            archive.writestr(f"{key}.npy", data, method if key == name else zipfile.ZIP_STORED)
    with pytest.raises(DataError, match="not a complete MedMNIST file") as caught:
        list(MedMnistSource.open(folder, 28).items())
    assert len(str(caught.value)) < 400


def test_a_part_of_more_images_than_there_are_is_refused_by_its_header(tmp_path: Path) -> None:
    write_npz(tmp_path / "chestmnist.npz", train_labels=np.zeros((1_000_001, 14), dtype=np.uint8))
    with pytest.raises(DataError, match="holds 1000001 rows, ChestMNIST fewer than 1000000"):
        MedMnistSource.open(tmp_path, 28)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "chestmnist.npz")
    with pytest.raises(DataError, match="it is a pipe, not a regular file"):
        MedMnistSource.open(tmp_path, 28)
