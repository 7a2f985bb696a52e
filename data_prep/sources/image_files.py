"""Images without a label table: the files and folders that a user names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.decoding.radiograph import DICOM_HEAD_BYTES, holds_dicom
from data_prep.errors import DataError
from data_prep.regular_file import open_regular
from data_prep.sources.image_names import IMAGE_SUFFIXES
from data_prep.sources.listing import list_files


@dataclass(frozen=True)
class ImageFiles:
    """Files to decode.

    Attributes:
        files: name and path of each, each name once. The name is what the user gave: a file as it was named, a file in
            a folder by the folder as it was named and the path below it. What is no regular file counts too.
        others: number of files in the folders that are no images, by their names and first bytes.
        unreadable: number of folders that could not be read; what is in them is not known.
    """

    files: tuple[tuple[str, Path], ...]
    others: int = 0
    unreadable: int = 0


def find_images(given: Sequence[str]) -> ImageFiles:
    """Find the images among files and in folders, in the order in which they were given; a folder's sorted by path.

    A file that was named is taken whatever its name, and also if it is not there.

    Raises:
        DataError: there is none.
    """
    found: dict[str, Path] = {}
    others = unreadable = 0
    for name in given:
        path = Path(name)
        if not _is_folder(path):
            found[name] = path
            continue
        listing = list_files(path)
        images = [file for file in listing.files if is_image(path, file)]
        found.update((f"{name.rstrip('/')}/{image}", path / image) for image in images)
        others += len(listing.files) - len(images)
        unreadable += len(listing.unreadable)
    if not found:
        looked = f"looked for {', '.join(IMAGE_SUFFIXES)}, and for DICOM under any name, in subfolders too"
        raise DataError(f"no image found among {others} files ({looked}): name files or folders of images")
    return ImageFiles(tuple(found.items()), others, unreadable)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, or in a folder that is closed to us: decoding gives the reason
        return False


def is_image(folder: Path, file: str) -> bool:
    """Tell whether a file below a folder is an image, by its name, or by its first bytes.

    Hospitals export DICOM files without a suffix, or named by a UID with dots.
    """
    if file.lower().endswith(IMAGE_SUFFIXES):
        return True
    try:
        with open_regular(folder / file) as stream:
            return holds_dicom(stream.read(DICOM_HEAD_BYTES))
    except OSError:
        return False
