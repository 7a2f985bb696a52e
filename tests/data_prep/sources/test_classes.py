"""Sets of classes by name or by place."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.sources.classes import open_classes
from tests.data_prep.class_files import image_files, write_cifar10, write_files, write_mnist, write_tar


def test_a_named_set_needs_a_folder_and_its_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cifar10 is not downloaded; name the folder of its files with --from"):
        open_classes("cifar10")
    for write in (write_cifar10, lambda folder: write_files(folder, image_files()), write_mnist):
        write(tmp_path / write.__name__)
        name = "mnist" if write is write_mnist else "cifar10"
        with pytest.raises(DataError, match=rf"3 classes, and {name} has 10; name another folder, or give this one"):
            open_classes(name, tmp_path / write.__name__)


@pytest.mark.parametrize("source", ["cifar", "CIFAR10", "mnis"])
def test_a_name_that_is_nearly_a_set_gets_a_hint(source: str) -> None:
    with pytest.raises(
        DataError, match=r"no such folder or archive, and no set of that name; did you mean (cifar|mnist)"
    ):
        open_classes(source)


def test_a_place_that_is_not_there_or_no_archive_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder or archive, and no set of that name$"):
        open_classes(str(tmp_path / "nowhere"))
    (tmp_path / "set.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"neither a folder nor an archive \(\.tar\.gz, \.tgz, \.tar\); unpack it"):
        open_classes(str(tmp_path / "set.zip"))
    with pytest.raises(DataError, match=r"set.zip: neither a folder nor an archive"):
        open_classes("mnist", tmp_path / "set.zip")


@pytest.mark.parametrize("place", [".", "cifar-10-batches-py", "cifar-10-python.tar.gz", "itself.tar.gz"])
def test_a_named_set_is_found_under_its_usual_names(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.sources.classes.NAMED_SETS", {"cifar10": 3})
    write_cifar10(tmp_path / "files")
    wanted = open_classes(str(tmp_path / "files")).identity
    if place.endswith("gz"):
        files = {f"cifar-10-batches-py/{file.name}": file.read_bytes() for file in (tmp_path / "files").iterdir()}
        archive = write_tar(tmp_path / place, files)
        folder = archive if place == "itself.tar.gz" else tmp_path
    else:
        folder = tmp_path / "there"
        folder.mkdir(exist_ok=True)
        folder = folder if place != "." else tmp_path / "files"
        if place != ".":
            (tmp_path / "files").rename(folder / place)
    assert open_classes("cifar10", folder).identity == wanted


def test_the_public_jpegs_of_cifar10_are_found_and_sorted(shared_data: Path) -> None:
    source = open_classes("cifar10", shared_data / "vision")
    assert len(source) == 60_000
    assert source.table.classes == tuple(
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    )
    assert source.table.parts is not None
    for part, count in (("train", 5000), ("test", 1000)):
        assert np.bincount(source.table.targets[source.table.parts == part, 0]).tolist() == [count] * 10
    name, data = next(iter(source.items()))
    assert name.split("/")[1] == source.table.classes[source.table.targets[0, 0]]
    assert isinstance(data, bytes)
    assert data.startswith(b"\xff\xd8\xff")
