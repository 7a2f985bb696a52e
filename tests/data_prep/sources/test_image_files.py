"""Images among named files and in folders: each once, by the names that the user gave; nothing is left out unsaid."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.sources.image_files import find_images
from tests.data_prep.dicom_files import dicom_file

DICOM = dicom_file(np.arange(64, dtype=np.uint8).reshape(8, 8))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three images, one of them DICOM without a suffix, and two other files; the working folder is above."""
    inside = tmp_path / "scans" / "of monday"
    inside.mkdir(parents=True)
    for name in ("b.png", "a.JPG", "labels.csv", ".hidden.png"):
        (inside / name).write_bytes(b"anything")
    (inside / "1.2.840.113").write_bytes(DICOM)
    (tmp_path / "scans" / "notes").write_bytes(b"short")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scans"


@pytest.mark.parametrize("given_name", ["scans", "scans/", "./scans"])
def test_a_folder_is_searched_and_its_images_are_named_below_it_as_it_was_named(folder: Path, given_name: str) -> None:
    found = find_images([given_name])
    start = given_name.rstrip("/")
    names = ["1.2.840.113", "a.JPG", "b.png"]
    assert [name for name, _ in found.files] == [f"{start}/of monday/{name}" for name in names]
    assert [path for _, path in found.files] == [Path(start, "of monday", name) for name in names]
    assert (found.others, found.unreadable) == (2, 0)


def test_a_file_that_is_named_is_taken_whatever_its_name_and_whether_it_is_there(folder: Path) -> None:
    long = "x" * 5000
    found = find_images(["scans/notes", "nowhere.png", long])
    assert [name for name, _ in found.files] == ["scans/notes", "nowhere.png", long]
    assert found.others == 0


def test_each_name_stands_once_and_the_order_is_that_of_the_user(folder: Path) -> None:
    found = find_images(["scans/of monday/b.png", "scans", "scans/of monday/b.png"])
    assert [Path(name).name for name, _ in found.files] == ["b.png", "1.2.840.113", "a.JPG"]


def test_where_no_image_is_the_user_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(DataError, match=r"no image found among 1 files .*\.png, .*DICOM under any name"):
        find_images([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_folders_that_cannot_be_read_are_counted(folder: Path) -> None:
    (folder / "closed").mkdir(mode=0)
    assert find_images(["scans"]).unreadable == 1


@given(st.lists(st.sampled_from(["a.png", "b", "c.dcm", "d/e.jpg", "a.png"]), min_size=1))
def test_named_files_that_are_not_there_are_all_kept_once(names: list[str]) -> None:
    assert [name for name, _ in find_images(names).files] == list(dict.fromkeys(names))
