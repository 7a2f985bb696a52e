"""What is registered of ChestX-ray14, manifests of the same shape, and files found by number."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.sources.chestxray14 import (
    CHESTXRAY14,
    LIST_LENGTHS,
    check_list,
    check_table,
    find_files,
    read_manifest,
)


def test_the_registered_facts_are_those_of_the_published_manifest(shared_data: Path) -> None:
    path = shared_data / "nih" / "archive_manifest.csv"
    assert read_manifest(path) == CHESTXRAY14
    assert sum(archive.bytes or 0 for archive in CHESTXRAY14.archives) > 42e9


def test_the_official_table_and_lists_pass_their_checks(shared_data: Path) -> None:
    nih = shared_data / "nih"
    check_table(nih / "Data_Entry_2017_v2020.csv.gz")
    for name, length in LIST_LENGTHS.items():
        check_list(nih / "split_official" / name, length)


def test_a_web_page_or_half_a_file_does_not_pass(shared_data: Path, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("<!DOCTYPE html><html><body>Sign in</body></html>")
    half = tmp_path / "half"
    half.write_text((shared_data / "nih" / "split_official" / "test_list.txt").read_text()[: 27 * 17])
    with pytest.raises(DataError):
        check_table(page)
    with pytest.raises(DataError, match="is not an image of ChestX-ray14"):
        check_list(page, 10)
    with pytest.raises(DataError, match="the official list has 25596"):
        check_list(half, 25_596)


def test_parts_are_chosen_by_number() -> None:
    assert [archive.name for archive in CHESTXRAY14.parts((12, 1))] == ["images_001.tar.gz", "images_012.tar.gz"]
    assert CHESTXRAY14.parts(()) == CHESTXRAY14.archives
    with pytest.raises(DataError, match="there is no part 13; the parts are 1, 2, 3"):
        CHESTXRAY14.parts((13,))


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([["../a_1.tar.gz", "", "", ""]], "row 1: '../a_1.tar.gz' is not the name"),
        ([["a.tar.gz", "", "", ""]], "archive 'a.tar.gz' has no number"),
        ([["a_1.tar.gz", "", "12 MB", ""]], "'12 MB' bytes"),
        ([["a_1.tar.gz", "", "9" * 5000, ""]], "bytes or MD5 sum '' cannot be right"),
        ([["a_1.tar.gz", "", "²", ""]], "'²' bytes"),
        ([["a_1.tar.gz", "x" * 2001, "", ""]], "the url has 2001 characters; the limit is 2000"),
        ([["a_" + "1" * 5000 + ".tar.gz", "", "", ""]], "is not the name of an archive"),
        ([["a\x1b_1.tar.gz", "", "", ""]], r"'a\\x1b_1.tar.gz' is not the name"),
        ([["a_1.tar.gz", "", "", "abc"]], "MD5 sum 'abc' cannot be right"),
        ([["a_1.tar.gz", "", "", ""], ["a_01.tar.gz", "", "", ""]], "each number once"),
        ([["t.csv", "", "", ""]], "found 0 archives and 1 tables"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(tmp_path: Path, rows: list[list[str]], reason: str) -> None:
    path = tmp_path / "manifest.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["name", "url", "bytes", "md5"], *rows])
    with pytest.raises(DataError, match=reason):
        read_manifest(path)


@pytest.mark.parametrize("style", ["images_{:d}.tar.gz", "images_{:02d}.tar.gz", "images_{:03d}.tar.gz"])
def test_archives_are_found_whatever_the_style_of_their_numbers(tmp_path: Path, style: str) -> None:
    (tmp_path / "images").mkdir()
    for archive, number in zip(CHESTXRAY14.archives, range(1, 13), strict=True):
        with (tmp_path / "images" / style.format(number)).open("wb") as stream:
            stream.truncate(archive.bytes or 0)  # sparse: no byte is written
    (tmp_path / "Data_Entry_2017_v2020.csv.gz").touch()
    found = find_files(tmp_path, [*CHESTXRAY14.archives, *([CHESTXRAY14.table] if CHESTXRAY14.table else [])])
    assert [found[archive.name].name for archive in CHESTXRAY14.archives] == [style.format(n) for n in range(1, 13)]
    assert found["Data_Entry_2017_v2020.csv"].name == "Data_Entry_2017_v2020.csv.gz"


def test_an_archive_of_another_length_and_two_of_one_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images_1.tar.gz").write_bytes(np.random.default_rng(0).bytes(10))
    with pytest.raises(DataError, match="10 bytes, the published file has 2008470987; fetch it again"):
        find_files(tmp_path, CHESTXRAY14.archives)
    (tmp_path / "images_1.tar.gz").unlink()
    for name in ("images_01.tar.gz", "images_001.tar.gz"):
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(2008470987)
    with pytest.raises(DataError, match=r"images_001.tar.gz and images_01.tar.gz could both be images_001.tar.gz"):
        find_files(tmp_path, CHESTXRAY14.archives)


def test_a_pipe_is_no_archive_list_or_manifest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("data/images_001.tar.gz", "list.txt", "manifest.csv"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"images_001.tar.gz: cannot be read \(it is a pipe"):
        find_files(tmp_path / "data", CHESTXRAY14.archives)
    with pytest.raises(DataError, match=r"the list cannot be read .it is a pipe"):
        check_list(tmp_path / "list.txt", 1)
    with pytest.raises(DataError, match=r"the table cannot be read .it is a pipe"):
        read_manifest(tmp_path / "manifest.csv")


def test_files_are_found_behind_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a_01.tar.gz").write_bytes(b"1")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert find_files(tmp_path / "in", [RemoteFile("a_1.tar.gz", "", 1, None)]) == {
        "a_1.tar.gz": tmp_path / "in" / "linked" / "a_01.tar.gz"
    }
