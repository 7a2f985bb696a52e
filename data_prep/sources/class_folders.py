"""Images in a folder for each class, on disk or in a tar archive: which class and which part each image is of.

Either ``CLASS/...``, or ``train/CLASS/...`` and ``test/CLASS/...``; folders around all of it do not matter. A folder
``val`` beside ``train`` and ``test`` counts as training images: validation is drawn from these. Without a folder
``test``, the data give no test part.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_prep.errors import DataError
from data_prep.labels.safe_names import RASTER_SUFFIXES, escaped, printable
from data_prep.labels.table import LabelTable
from data_prep.sources.archives import Member, ReadProgress, open_archive
from data_prep.sources.cifar import MAX_BATCH_BYTES
from data_prep.sources.class_source import ClassSource, class_table
from data_prep.sources.listing import Listing, require_readable
from data_prep.sources.source import LOCAL_POPULATION, content_hash

_PART_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_SUFFIXES = ", ".join(RASTER_SUFFIXES)


class _Sorted(NamedTuple):
    """The table of the images, and what the user should know of how it was read."""

    table: LabelTable
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class FolderClasses(ClassSource):
    """Images in a folder for each class, sorted by path.

    Attributes:
        files: (image name, file) of each image.
    """

    files: tuple[tuple[str, Path], ...]

    @classmethod
    def open(cls, listing: Listing, channels: int) -> "FolderClasses":
        """Sort the images of a folder by class; links are followed.

        Raises:
            DataError: there is no image, one is in no class's folder, a class has none, there are fewer than two
                classes, or a folder cannot be read.
        """
        require_readable(listing)
        paths = tuple(filter(is_picture, listing.files))
        found = _sort(listing.folder, paths, listing.folders)
        names = found.table.images.tolist()
        marks = []
        for name, path in zip(names, paths, strict=True):
            try:
                state = (listing.folder / path).stat()
                marks.append([name, state.st_size, state.st_mtime_ns])
            except OSError:  # a link that leads nowhere
                marks.append([name, 0, 0])
        return cls(
            table=found.table,
            population=LOCAL_POPULATION,
            public=True,
            identity=content_hash([found.table.sha256, marks]),
            picture_channels=channels,
            remarks=found.remarks,
            files=tuple((name, listing.folder / path) for name, path in zip(names, paths, strict=True)),
        )

    def items(self) -> Iterator[tuple[str, Path]]:
        """Iterate over (image name, file)."""
        return iter(self.files)


@dataclass(frozen=True, kw_only=True)
class ArchiveClasses(ClassSource):
    """Images of a tar archive with a folder for each class, in the archive's order.

    Attributes:
        path: of the archive.
    """

    path: Path

    @classmethod
    def of(cls, path: Path, contents: "ArchiveContents", channels: int) -> "ArchiveClasses":
        """Sort the images of an archive that was read once by class; its MD5 sum is its identity.

        Raises:
            DataError: as `FolderClasses.open` does.
        """
        found = _sort(path, tuple(contents.pictures), contents.folders)
        return cls(
            table=found.table,
            population=LOCAL_POPULATION,
            public=True,
            identity=content_hash([found.table.sha256, contents.md5]),
            picture_channels=channels,
            remarks=(*found.remarks, *contents.remarks),
            path=path,
        )

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield (image name, file) in the order of the archive, which is read as a stream."""
        seen: set[str] = set()
        names = iter(self.table.images.tolist())
        with open_tar(self.path, ReadProgress()) as members:
            for member in members:
                path = plain_path(member.path)
                if member.data is not None and is_picture(path) and path not in seen:
                    seen.add(path)
                    yield next(names), member.data


class ArchiveContents:
    """What an archive holds, beside the content of its images: found in one pass.

    Attributes:
        pictures: paths of the images, each once, in the order of the archive.
        folders: paths of the folders.
        remarks: what was set aside, in sentences.
        md5: sum of the archive, after its last member.
    """

    def __init__(self) -> None:
        self.pictures: dict[str, None] = {}
        self.folders: list[str] = []
        self.md5 = ""
        self._aside: list[str] = []

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was set aside."""
        if not self._aside:
            return ()
        return (f"members of the archive that were set aside: {len(self._aside)}, such as {self._aside[0]}",)

    def add(self, member: Member) -> None:
        """Take note of a member."""
        path = plain_path(member.path)
        if member.reason:
            self._aside.append(f"{printable(member.path)!r}: {member.reason}")
        elif member.data is None:
            self.folders.append(path)
        elif is_picture(path):
            if path in self.pictures:
                self._aside.append(f"{printable(path)!r}: it comes a second time")
            self.pictures[path] = None


def open_tar(path: Path, progress: ReadProgress, md5: bool = False) -> AbstractContextManager[Iterator[Member]]:
    """Open a tar archive of images in folders, or of batches; see `open_archive`."""
    return open_archive(path, progress, md5, most_bytes=MAX_BATCH_BYTES, remedy="fetch it again")


def plain_path(path: str) -> str:
    """Return the path of a member without what means nothing: ``./`` and a slash at its end."""
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def is_picture(path: str) -> bool:
    """Tell whether a path is that of a PNG or JPEG file that is not hidden."""
    return path.lower().endswith(RASTER_SUFFIXES) and not any(part.startswith(".") for part in path.split("/"))


def _sort(place: Path, paths: Sequence[str], folders: Sequence[str]) -> _Sorted:
    """Sort images, given by their paths, by class and part; `folders` are all folders, those without images too."""
    if not paths:
        raise DataError(f"{place}: no image found (looked for {_SUFFIXES}, in subfolders too); name another place")
    images = [path.split("/") for path in paths]
    others = [folder.split("/") for folder in folders if not any(part.startswith(".") for part in folder.split("/"))]
    depth = _depth_of_outer(images, others)
    tops = {parts[depth] for parts in (*images, *others) if len(parts) > depth}
    given = _has_parts(place, tops)
    level = depth + given  # of the classes' folders
    outside = next((path for path, parts in zip(paths, images, strict=True) if len(parts) < level + 2), None)
    if outside is not None:
        raise DataError(f"{place}: image {printable(outside)!r} is in no class's folder; move it to one, or remove it")
    for each in range(depth, level + 1):
        _check_folders(place, images, others, each)
    classes = sorted({parts[level] for parts in images})
    index = {name: number for number, name in enumerate(classes)}
    names = [escaped(path) for path in paths]
    if len(set(names)) < len(names):
        raise DataError(f"{place}: two images have the same name once unprintable characters are escaped; rename one")
    of_test = np.array([given and _PART_OF[parts[depth].lower()] == "test" for parts in images])
    targets = np.array([index[parts[level]] for parts in images])
    table = class_table(place, names, targets, classes, np.where(of_test, "test", "train") if given else None)
    val = sum(given and _PART_OF[parts[depth].lower()] == "val" for parts in images)
    remark = f"images of a folder for validation that count as training images: {val}"
    return _Sorted(table, (remark,) if val else ())


def _depth_of_outer(images: Sequence[list[str]], folders: Sequence[list[str]]) -> int:
    """Return how many folders stand around all others: each holds one folder, and no image but below two more."""
    depth = 0
    while True:
        tops = {parts[depth] for parts in (*images, *folders) if len(parts) > depth}
        if len(tops) > 1 or min(map(len, images)) < depth + 3:
            return depth
        depth += 1


def _has_parts(place: Path, tops: set[str]) -> bool:
    """Tell whether the outermost folders are the parts of the data, not classes."""
    parts = {_PART_OF[top.lower()] for top in tops if top.lower() in _PART_OF}
    others = sorted(top for top in tops if top.lower() not in _PART_OF)
    if not {"train", "test"} <= parts:
        if not others and len(tops) > 1:
            raise DataError(
                f"{place}: folders {' and '.join(map(repr, sorted(tops)))}; call the part to be tested on 'test', and "
                "the other 'train' (validation is drawn from it)"
            )
        return False
    if others:
        raise DataError(f"{place}: beside the folders train and test there is {printable(others[0])!r}; move it away")
    return True


def _check_folders(place: Path, images: Sequence[list[str]], folders: Sequence[list[str]], level: int) -> None:
    """Check that each folder within `level` others holds an image."""
    used = {tuple(parts[: level + 1]) for parts in images}
    empty = sorted({tuple(parts) for parts in folders if len(parts) == level + 1} - used)
    if empty:
        name = printable("/".join(empty[0]))
        raise DataError(f"{place}: folder {name!r} holds no image ({_SUFFIXES}); add some, or remove the folder")
