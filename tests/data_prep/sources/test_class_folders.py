"""Folders and archives of images by class: what is a class, what a part, and what is neither."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.sources.class_folders import _sort
from data_prep.sources.class_source import ClassSource
from data_prep.sources.classes import open_classes
from data_prep.sources.source import content_hash
from tests.data_prep import hostile_tar
from tests.data_prep.class_files import CLASSES, image_files, png, write_files, write_tar

Maker = Callable[[Path, dict[str, bytes]], Path]


def tar_gz(at: Path, files: dict[str, bytes]) -> Path:
    return write_tar(at.with_suffix(".tar.gz"), files)


def tar(at: Path, files: dict[str, bytes]) -> Path:
    return write_tar(at.with_suffix(".tar"), files, folders=True)


def dotted(at: Path, files: dict[str, bytes]) -> Path:
    return write_tar(at.with_suffix(".tgz"), {f"./{name}": content for name, content in files.items()}, folders=True)


EVERY_FORM = pytest.mark.parametrize("write", [write_files, tar_gz, tar, dotted])


def rows(source: ClassSource) -> dict[str, tuple[bytes, str, str]]:
    """Each image's file, class and part by its name."""
    table = source.table
    parts = table.parts if table.parts is not None else np.full(len(source), "")
    content = {name: item if isinstance(item, bytes) else item.read_bytes() for name, item in source.items()}
    assert list(content) == table.images.tolist()
    return {
        name: (content[name], table.classes[target], part)
        for name, target, part in zip(table.images.tolist(), table.targets[:, 0].tolist(), parts.tolist(), strict=True)
    }


@EVERY_FORM
@pytest.mark.parametrize("outer", ["", "set/", "a/b/"])
def test_folders_train_and_test_are_the_parts_and_those_in_them_the_classes(
    tmp_path: Path, write: Maker, outer: str
) -> None:
    files = image_files()
    place = write(tmp_path / "data", {outer + name: content for name, content in files.items()})
    source = open_classes(str(place))
    assert source.table.classes == CLASSES
    assert source.picture_channels == 3
    assert rows(source) == {
        outer + name: (content, name.split("/")[1], name.split("/")[0]) for name, content in files.items()
    }


@EVERY_FORM
def test_folders_of_classes_alone_give_no_test_part(tmp_path: Path, write: Maker) -> None:
    files = image_files(("",))
    source = open_classes(str(write(tmp_path / "data", files)))
    assert source.table.parts is None
    assert rows(source) == {name: (content, name.split("/")[0], "") for name, content in files.items()}


@EVERY_FORM
def test_a_validation_folder_counts_as_training_and_that_is_said(tmp_path: Path, write: Maker) -> None:
    source = open_classes(str(write(tmp_path / "data", image_files(("train", "valid", "test")))))
    assert source.table.parts is not None
    counts = dict(zip(*np.unique(source.table.parts, return_counts=True), strict=True))
    assert counts == {"train": 24, "test": 12}
    assert source.remarks == ("images of a folder for validation that count as training images: 12",)


@pytest.mark.parametrize("only", ["train", "test"])
def test_one_part_alone_gives_no_test_part(tmp_path: Path, only: str) -> None:
    source = open_classes(str(write_files(tmp_path / "data", image_files((only,)))))
    assert (source.table.parts, source.table.classes) == (None, CLASSES)


def test_a_class_may_be_called_train_and_have_folders_of_its_own(tmp_path: Path) -> None:
    files = {"train/1.png": png(1), "car/new/1.png": png(2), "car/old/1.jpeg": png(3), "car/README.txt": b"cars"}
    source = open_classes(str(write_files(tmp_path / "data", files)))
    assert (source.table.classes, source.table.parts) == (("car", "train"), None)
    assert source.table.targets[:, 0].tolist() == [0, 0, 1]


def test_a_folder_and_an_archive_give_the_same_table(tmp_path: Path) -> None:
    files = image_files()
    folder, archive = (open_classes(str(write(tmp_path / "data", files))) for write in (write_files, tar_gz))
    assert rows(folder) == rows(archive)


def test_hidden_files_and_what_is_no_image_are_left_out(tmp_path: Path) -> None:
    files = image_files() | {"train/cat/._00.png": b"", ".cache/x.png": b"", "train/notes.txt": b"", "labels.csv": b""}
    for write in (write_files, tar_gz):
        assert len(open_classes(str(write(tmp_path / "data", files)))) == 24


@EVERY_FORM
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"notes.txt": b""}, r"no image found \(looked for \.png, \.jpg, \.jpeg, in subfolders too\)"),
        ({"cat/1.png": b"", "dog/1.png": b"", "2.png": b""}, r"image '2\.png' is in no class's folder; move it"),
        ({"train/1.png": b"", "test/cat/1.png": b""}, r"image 'train/1\.png' is in no class's folder"),
        ({"cat/1.png": b""}, r"one class \('cat'\); a classification needs 2 to 10000: add a folder for each class"),
        ({"train/cat/1.png": b"", "test/cat/1.png": b""}, r"one class \('cat'\)"),
        (
            {"train/cat/1.png": b"", "train/dog/1.png": b"", "test/emu/1.png": b""},
            r"class 'emu' has 1 test images and no training image; add training images of it, or remove the class",
        ),
        (
            {"train/cat/1.png": b"", "val/cat/1.png": b"", "val/dog/1.png": b""},
            r"folders 'train' and 'val'; call the part to be tested on 'test'",
        ),
        (
            {"train/cat/1.png": b"", "test/cat/1.png": b"", "extra/cat/1.png": b""},
            r"beside the folders train and test there is 'extra'; move it away",
        ),
    ],
)  # fmt: skip
def test_what_is_no_set_of_classes_is_one_line(
    tmp_path: Path, write: Maker, files: dict[str, bytes], reason: str
) -> None:
    place = write(tmp_path / "data", files)
    with pytest.raises(DataError, match=reason) as caught:
        open_classes(str(place))
    assert str(caught.value).startswith(str(place))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("write", [write_files, tar])
@pytest.mark.parametrize("empty", ["train/emu", "test/cat"])
def test_a_class_without_an_image_is_one_line(tmp_path: Path, write: Maker, empty: str) -> None:
    files = {name: content for name, content in image_files().items() if not name.startswith(empty)}
    place = write(tmp_path / "data", files | {f"{empty}/notes.txt": b"nothing yet"})
    with pytest.raises(DataError, match=rf"folder '{empty}' holds no image \(.*\); add some, or remove the folder"):
        open_classes(str(place))


def test_a_folder_that_is_empty_is_a_class_without_an_image(tmp_path: Path) -> None:
    place = write_files(tmp_path / "data", image_files(("",)))
    (place / "emu").mkdir()
    with pytest.raises(DataError, match="folder 'emu' holds no image"):
        open_classes(str(place))
    (place / "emu").rmdir()
    (tmp_path / "parts").mkdir()
    place = write_files(tmp_path / "parts", image_files(("train",)))
    (place / "test").mkdir()
    with pytest.raises(DataError, match="folder 'test' holds no image"):
        open_classes(str(place))


def test_names_that_cannot_be_printed_are_escaped_and_still_told_apart(tmp_path: Path) -> None:
    files = {"cat\n/1\x1b.png": png(1), "cat\n/2.png": png(2), "dog\udcff/1.png": png(3)}
    table = open_classes(str(write_files(tmp_path / "data", files))).table
    assert table.classes == ("cat\\x0a", "dog\\xdcff")
    assert table.images.tolist() == ["cat\\x0a/1\\x1b.png", "cat\\x0a/2.png", "dog\\xdcff/1.png"]
    (tmp_path / "twice").mkdir()
    place = write_files(tmp_path / "twice", {"a/1\n.png": b"", "a/1\\x0a.png": b"", "b/1.png": b""})
    with pytest.raises(DataError, match="two images have the same name once unprintable characters are escaped"):
        open_classes(str(place))


def test_of_a_hostile_archive_only_plain_files_inside_it_are_read(tmp_path: Path) -> None:
    member = hostile_tar.member
    image = png(0)
    path = hostile_tar.write_tar(
        tmp_path / "set.tar.gz",
        [
            member("train/cat/1.png", image),
            member("../train/cat/2.png", image),
            member("/train/cat/3.png", image),
            member("train/cat/4.png", kind=tarfile.SYMTYPE, link="/etc/passwd"),
            member("train/cat/5.png", kind=tarfile.LNKTYPE, link="train/cat/1.png"),
            member("train/cat/6.png", kind=tarfile.CHRTYPE),
            member("train/cat/1.png", b"again"),
            member("train/dog/1.png", image),
            member("test/dog/1.png", image),
            member("test/cat/1.png", bytes(300 * 2**20)),
            member("test/cat/2.png", image),
        ],
    )
    source = open_classes(str(path))
    assert [name for name, _ in source.items()] == [
        "train/cat/1.png",
        "train/dog/1.png",
        "test/dog/1.png",
        "test/cat/2.png",
    ]
    assert all(item == image for _, item in source.items())
    assert source.remarks == (
        "members of the archive that were set aside: 7, such as '../train/cat/2.png': a path that leads outside its "
        "folder",
    )


@pytest.mark.parametrize("name", ["set.tar.gz", "set.tar"])
def test_a_damaged_archive_is_one_line(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / name, image_files())
    whole = path.read_bytes()
    for end in (3, 700, len(whole) // 2):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match=rf"{path}: damaged archive: .*; fetch it again$"):
            open_classes(str(path))


def test_identities_tell_archives_and_folders_apart_by_their_content(tmp_path: Path) -> None:
    files = image_files()
    changed = files | {"train/cat/00.png": png(99)}
    one, same, other = (
        open_classes(str(write_tar(tmp_path / f"{name}.tar", content))).identity
        for name, content in (("one", files), ("same", files), ("other", changed))
    )
    assert one == same != other
    folder = write_files(tmp_path / "folder", files)
    first = open_classes(str(folder)).identity
    (folder / "train" / "cat" / "00.png").write_bytes(png(99) + b" ")
    assert open_classes(str(folder)).identity != first


NAMES = st.text("abc", min_size=1, max_size=2)


@given(st.dictionaries(st.tuples(st.sampled_from(["train", "test"]), NAMES), st.sets(NAMES, min_size=1), min_size=1))
def test_every_set_of_paths_is_sorted_or_refused(tree: dict[tuple[str, str], set[str]]) -> None:
    paths = sorted(f"{part}/{name}/{image}.png" for (part, name), images in tree.items() for image in images)
    classes = {part: {name for each, name in tree if each == part} for part in ("train", "test")}
    both = bool(classes["train"]) and bool(classes["test"])
    everything = classes["train"] | classes["test"]
    sound = len(everything) > 1 and not (both and classes["test"] - classes["train"])
    if not sound:
        with pytest.raises(DataError):
            _sort(Path("set"), paths, [])
        return
    table = _sort(Path("set"), paths, []).table
    assert table.classes == tuple(sorted(everything))
    assert [table.classes[target] for target in table.targets[:, 0]] == [path.split("/")[1] for path in paths]
    assert (table.parts is not None) == both
    assert both is False or table.parts.tolist() == [path.split("/")[0] for path in paths]  # type: ignore[union-attr]
    assert content_hash(table.sha256) == content_hash(_sort(Path("set"), paths, []).table.sha256)
