"""Folders of images, with their label table, without, and with too many."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.errors import DataError
from data_prep.sources.folder import FolderSource

FolderMaker = Callable[..., Path]


def test_images_and_table_are_found_and_matched_by_name(nih_folder: FolderMaker) -> None:
    source = FolderSource.open(nih_folder(patients=2, images_each=2))
    names = [name for name, _ in source.items()]
    assert names == ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000002_001.png"]
    assert all(file.name == name for name, file in source.items())
    assert (source.population, source.public, len(source)) == ("chestxray14", True, 4)


def test_images_without_a_row_and_rows_without_an_image_are_counted(nih_folder: FolderMaker) -> None:
    folder = nih_folder(patients=2, images_each=3)
    images = folder / "images"
    (images / "00000001_000.png").rename(images / "stranger.png")
    (images / "00000001_001.png").unlink()
    with pytest.raises(
        DataError,
        match=r"1 of 5 images have no row in the label table \('images/stranger.png'\), and 2 of 6 rows have no image "
        r"\(row 1 \('00000001_000.png'\), row 2 .*; the limit is 1%: .* --allow-missing",
    ):
        FolderSource.open(folder)
    source = FolderSource.open(folder, allow_missing=True)
    assert (len(source), source.images_without_row, source.rows_without_image) == (4, 1, 2)
    assert source.unmatched_images == ("images/stranger.png",)
    assert source.unmatched_rows == ("row 1 ('00000001_000.png')", "row 2 ('00000001_001.png')")


def test_dicom_files_are_found_under_any_name_and_matched_without_their_suffix(tmp_path: Path) -> None:
    dicom = bytes(128) + b"DICM"
    names = ["1.2.840.1.dcm", "1.2.840.2", "IM0001", "scan.DICOM", "notes.txt", "IM0002"]
    for name in names:
        (tmp_path / name).write_bytes(b"text" if name in ("notes.txt", "IM0002") else dicom)
    rows = ["1.2.840.1", "1.2.840.2", "IM0001", "scan", "notes", "IM0002"]
    (tmp_path / "labels.csv").write_text("image,patient,Mass\n" + "".join(f"{row},a,1\n" for row in rows))
    with pytest.raises(DataError, match=r"2 of 6 rows have no image \(row 5, row 6\)"):
        FolderSource.open(tmp_path)
    source = FolderSource.open(tmp_path, allow_missing=True)
    assert {row: file.name for row, file in source.items()} == dict(zip(rows[:4], names[:4], strict=True))
    assert (source.images_without_row, source.rows_without_image) == (0, 2)


def test_hidden_files_are_not_images(nih_folder: FolderMaker) -> None:
    folder = nih_folder(patients=1)
    shutil.copy(folder / "images" / "00000001_000.png", folder / "images" / "._00000001_000.png")
    shutil.copytree(folder / "images", folder / ".thumbnails")
    assert FolderSource.open(folder).images_without_row == 0


def test_paths_in_the_table_tell_apart_images_of_one_name(tmp_path: Path) -> None:
    for patient in ("a", "b"):
        (tmp_path / patient).mkdir()
        (tmp_path / patient / "view1.PNG").write_bytes(b"")
    table = tmp_path / "labels.csv"
    table.write_text("path,patient,Mass\ndata\\a\\view1.PNG,a,1\ndata/b/view1.PNG,b,0\n")
    source = FolderSource.open(tmp_path)
    assert {name: file.parent.name for name, file in source.items()} == {
        "data\\a\\view1.PNG": "a",
        "data/b/view1.PNG": "b",
    }
    assert (source.population, source.public) == ("local", False)
    table.write_text("path,patient,Mass\nview1.PNG,a,1\n")
    with pytest.raises(DataError, match=r"row 1 \('view1.PNG'\) matches 'a/view1.PNG' and 'b/view1.PNG'"):
        FolderSource.open(tmp_path)
    table.write_text("path,patient,Mass\na/view1.PNG,a,1\nx/a/view1.PNG,b,0\n")
    with pytest.raises(DataError, match=r"both row 1 \('a/view1.PNG'\) and row 2 \('x/a/view1.PNG'\) match"):
        FolderSource.open(tmp_path)


def test_a_hospitals_own_numbers_in_nihs_layout_are_not_public(nih_folder: FolderMaker) -> None:
    folder = nih_folder(patients=1, images_each=1)
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("0,1,50", "0,MRN4711,50"))
    source = FolderSource.open(folder)
    assert (source.population, source.public) == ("local", False)


def test_a_population_can_be_named(nih_folder: FolderMaker) -> None:
    source = FolderSource.open(nih_folder(), population="phantom")
    assert (source.population, source.public) == ("phantom", True)


def test_the_identity_follows_the_files_and_the_table(nih_folder: FolderMaker) -> None:
    folder = nih_folder()
    before = FolderSource.open(folder).identity
    assert FolderSource.open(folder).identity == before
    image = folder / "images" / "00000001_000.png"
    os.utime(image, (1, 1))
    touched = FolderSource.open(folder).identity
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Mass|Hernia", "Mass"))
    assert len({before, touched, FolderSource.open(folder).identity}) == 3


def test_a_table_elsewhere_is_taken_when_named(nih_folder: FolderMaker, tmp_path: Path) -> None:
    folder = nih_folder()
    table = (folder / "Data_Entry_2017_v2020.csv").rename(tmp_path / "elsewhere.csv")
    with pytest.raises(DataError, match=r"no label table .* name one with --labels FILE"):
        FolderSource.open(folder)
    assert len(FolderSource.open(folder, table)) == 20


def test_files_that_are_no_label_tables_do_not_stand_in_the_way(nih_folder: FolderMaker) -> None:
    folder = nih_folder()
    (folder / "boxes.csv").write_text("Image Index,Finding Label,x,y\na,b,1,2\n")
    (folder / "binary.csv").write_bytes(b"\xff\xfe")
    assert len(FolderSource.open(folder)) == 20


def test_several_label_tables_are_named(nih_folder: FolderMaker) -> None:
    folder = nih_folder()
    shutil.copy(folder / "Data_Entry_2017_v2020.csv", folder / "images" / "copy.csv")
    with pytest.raises(DataError, match=r"several label tables \(Data_Entry_2017_v2020.csv, images/copy.csv\)"):
        FolderSource.open(folder)


def test_a_table_without_a_needed_column_is_named_with_the_column(nih_folder: FolderMaker) -> None:
    folder = nih_folder()
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("Patient ID", "Person"))
    with pytest.raises(DataError, match=r"Data_Entry_2017_v2020.csv: .*no column 'Patient ID'; columns found: 'Image"):
        FolderSource.open(folder)


def test_a_folder_that_is_missing_empty_or_of_other_images_is_refused(nih_folder: FolderMaker, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        FolderSource.open(tmp_path / "none")
    with pytest.raises(DataError, match="no image found"):
        FolderSource.open(tmp_path)
    folder = nih_folder()
    table = folder / "Data_Entry_2017_v2020.csv"
    table.write_text(table.read_text().replace("_0", "-0").replace(".png", ".dcm"))
    with pytest.raises(
        DataError, match=r"none of its 20 images has a row .* is 'images/00000001_000.png', the first row is row 1;"
    ):
        FolderSource.open(folder)
