"""Folders of files, links and what is neither: trees are drawn, and nothing in them is lost or read for ever."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.sources.folder import FolderSource
from data_prep.sources.listing import list_files, require_readable

NAMES = st.sampled_from(["a", "b", "c.png", "d.csv", "Ü"])
PLACES = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
KINDS = st.sampled_from(["file", "file", "pipe", "link in", "link out", "loop", "dangling"])


def make(root: Path, outside: Path, place: str, kind: str, target: str) -> None:
    """Put something at a place, unless something is there or a folder of its path is none."""
    path = root / place
    try:
        if path.is_symlink() or path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    if kind == "file":
        path.write_bytes(b"x")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        to = {"link in": root / target, "link out": outside, "loop": path, "dangling": root / "nowhere"}[kind]
        path.symlink_to(to)


@given(st.lists(st.tuples(PLACES, KINDS, PLACES), max_size=12))
def test_every_file_is_listed_once_and_links_in_a_circle_end(
    tmp_path_factory: pytest.TempPathFactory, things: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    root, outside = folder / "in", folder / "disk"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "e.png").write_bytes(b"x")
    (outside / "back").symlink_to(root)
    root.mkdir()
    for place, kind, target in things:
        make(root, outside, place, kind, target)
    listing = list_files(root)
    assert not listing.unreadable
    assert len(set(listing.files)) == len(listing.files)
    assert list(listing.files) == sorted(listing.files)
    real = {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() and not path.is_symlink()}
    found = {os.path.realpath(root / file) for file in listing.files}
    assert {os.path.realpath(root / file) for file in real} <= found
    assert {file for file in listing.files if "/" not in file} >= {file for file in real if "/" not in file}
    links_out = any(path.is_symlink() and os.path.realpath(path) == str(outside) for path in root.rglob("*"))
    assert (str(outside / "deep" / "e.png") in found) == links_out
    places = [os.path.realpath((root / file).parent) + "/" + Path(file).name for file in listing.files]
    assert len(set(places)) == len(places)  # no folder is read under two names


TABLE = "image,patient,Mass\n" + "".join(f"{i}.png,{i},{i % 2}\n" for i in range(6))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(6):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"x")
    (tmp_path / "in" / "labels.csv").write_text(TABLE)
    return tmp_path / "in"


def test_what_is_no_regular_file_is_an_image_that_cannot_be_read(folder: Path) -> None:
    for name in ("0.png", "1.png", "2.png", "3.png"):
        (folder / name).unlink()
    os.mkfifo(folder / "0.png")
    (folder / "1.png").symlink_to(folder / "1.png")
    (folder / "2.png").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "3.png"))
        (folder / "no suffix").symlink_to("/dev/zero")
        os.mkfifo(folder / "pipe")
        os.mkfifo(folder / "stray.csv")
        source = FolderSource.open(folder)
    assert [name for name, _ in source.items()] == [f"{i}.png" for i in range(6)]


def test_images_behind_links_are_found_and_counted_once(folder: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    for i in range(3):
        (folder / f"{i}.png").rename(disk / f"{i}.png")
    (folder / "linked").symlink_to(disk)
    (folder / "again").symlink_to(folder)
    (folder / "5.png").rename(folder / "raw5.png")
    (folder / "5.png").symlink_to("raw5.png")  # a farm of links with the table's names
    (folder / "flat").mkdir()
    (folder / "flat" / "3.png").symlink_to("../3.png")
    source = FolderSource.open(folder)
    assert (len(source), source.images_without_row, source.rows_without_image) == (6, 0, 0)


def test_folders_that_cannot_be_read_stop_the_run_unless_it_is_allowed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "Doe^Jane").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("Jane"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"1 folder in it cannot be read, .*--allow-missing") as caught:
        FolderSource.open(folder)
    assert "Doe" not in str(caught.value)
    source = FolderSource.open(folder, allow_missing=True)
    assert source.remarks == ("folders that could not be read, with what is in them: 1",)
    with pytest.raises(DataError, match=r"names them: allow reading$"):
        require_readable(list_files(folder))


def test_a_missing_image_below_the_limit_is_named_and_above_it_stops_the_run(tmp_path: Path) -> None:
    rows = "".join(f"{i}.png,{i},{i % 2}\n" for i in range(200))
    (tmp_path / "labels.csv").write_text("image,patient,Mass\n" + rows)
    for i in range(2, 200):
        (tmp_path / f"{i}.png").write_bytes(b"")
    (tmp_path / "stranger.png").write_bytes(b"")
    (tmp_path / "Doe^Jane.dcm").write_bytes(b"")
    source = FolderSource.open(tmp_path)
    assert (source.images_without_row, source.rows_without_image) == (2, 2)
    assert source.unmatched_images == ("stranger.png",)
    assert source.unmatched_rows == ("row 1 ('0.png')", "row 2 ('1.png')")
    (tmp_path / "Doe^John.dcm").write_bytes(b"")
    with pytest.raises(DataError, match="3 of 201 images have no row in the label table") as caught:
        FolderSource.open(tmp_path)
    assert "Doe" not in str(caught.value)


def test_names_of_dicom_files_and_their_rows_are_in_no_message(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "Doe^Jane.dcm").write_bytes(b"")
    tables = ["Doe^Jane,1,1\nother,2,0", "Doe^Jim,1,1\nDoe^John,2,0", "Doe^Jane,1,1\nDoe^Jane,1,1",
              "a/Doe^Jane,1,1\nx/a/Doe^Jane,2,0", "a/Doe^Jane,1,1\nDoe^Jim,2,0"]  # fmt: skip
    for table in tables:
        (tmp_path / "labels.csv").write_text(f"image,patient,Mass\n{table}\n")
        with pytest.raises(DataError, match=r"row 1|row 2") as caught:
            FolderSource.open(tmp_path)
        assert "Doe" not in str(caught.value)


def test_a_table_that_cannot_be_read_is_named_if_there_is_no_other(folder: Path) -> None:
    (folder / "stray.csv").write_bytes("Notiz;Größe\r".encode("latin-1"))
    assert len(FolderSource.open(folder)) == 6
    (folder / "labels.csv").write_bytes("image,patient,Größe\n0.png,1,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels.csv: not UTF-8 text .*; .*stray.csv: not UTF-8"):
        FolderSource.open(folder)
