"""Open images of classes in any of the forms in which they are published: batches, IDX files, folders, tar archives.

CIFAR-10 and CIFAR-100 as batches for Python or as images in folders, MNIST as IDX files, and any images in a folder
for each class.
"""

from pathlib import Path

from data_prep.errors import DataError, did_you_mean
from data_prep.sources.archives import ReadProgress
from data_prep.sources.cifar import FORMS, find_form, open_cifar, read_folder
from data_prep.sources.class_folders import (
    ArchiveClasses,
    ArchiveContents,
    FolderClasses,
    open_tar,
    plain_path,
)
from data_prep.sources.class_source import ClassSource
from data_prep.sources.listing import list_files
from data_prep.sources.mnist import find_parts, open_mnist

NAMED_SETS = {"cifar10": 10, "cifar100": 100, "mnist": 10}
"""The sets that are known by name, with their number of classes."""

TAR_SUFFIXES = (".tar.gz", ".tgz", ".tar")
COLOUR = 3  # channels of images in folders: most are in colour, and to know it of all would be to decode them twice

_BATCH_FILES = frozenset(name for form in FORMS for name in form.files)
_USUAL_PLACES = {
    "cifar10": ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar10_jpeg.tar.gz", "cifar10.tar.gz"),
    "cifar100": ("cifar-100-python", "cifar-100-python.tar.gz", "cifar100.tar.gz"),
    "mnist": ("MNIST/raw",),
}


def open_classes(source: str, folder: Path | None = None) -> ClassSource:
    """Open images of one class each.

    Args:
        source: "cifar10", "cifar100" or "mnist"; or the path of a folder or tar archive.
        folder: of a named set: the folder with its files, in it or below under their usual name, or its archive.

    Raises:
        DataError: there are no such data, they are broken, or they are not of two classes or more.
    """
    if source not in NAMED_SETS:
        if not Path(source).exists():
            hint = did_you_mean(source, NAMED_SETS) if "/" not in source else ""
            raise DataError(f"{source}: no such folder or archive, and no set of that name{hint}")
        return _open_place(Path(source))
    if folder is None:
        raise DataError(f"{source} is not downloaded; name the folder of its files with --from")
    found = _open_place(_place_of(source, folder))
    if len(found.table.classes) != NAMED_SETS[source]:
        raise DataError(
            f"{folder}: {len(found.table.classes)} classes, and {source} has {NAMED_SETS[source]}; name another "
            "folder, or give this one as --data"
        )
    return found


def _place_of(source: str, folder: Path) -> Path:
    """Return the folder or archive of a named set, which may lie in `folder` under its usual name."""
    places = [folder / name for name in _USUAL_PLACES[source]]
    return next((place for place in places if place.exists()), folder)


def _open_place(place: Path) -> ClassSource:
    if place.is_dir():
        return _open_folder(place)
    if not place.name.lower().endswith(TAR_SUFFIXES):
        raise DataError(f"{place}: neither a folder nor an archive ({', '.join(TAR_SUFFIXES)}); unpack it to a folder")
    return _open_tar(place)


def _open_folder(folder: Path) -> ClassSource:
    listing = list_files(folder)
    if form := find_form(listing.files):
        return open_cifar(folder, form, read_folder(folder, form))
    if parts := find_parts(listing.files):
        return open_mnist(folder, parts)
    return FolderClasses.open(listing, COLOUR)


def _open_tar(path: Path) -> ClassSource:
    """Read an archive once: of batches the content, of images the names."""
    progress, contents = ReadProgress(), ArchiveContents()
    batches: dict[str, bytes] = {}
    with open_tar(path, progress, md5=True) as members:
        for member in members:
            contents.add(member)
            name = plain_path(member.path).rpartition("/")[2]
            if member.data is not None and name in _BATCH_FILES:
                batches[name] = member.data
    if form := find_form(batches):
        return open_cifar(path, form, batches)
    contents.md5 = progress.md5
    return ArchiveClasses.of(path, contents, COLOUR)
