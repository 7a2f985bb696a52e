"""ChestX-ray14 as published: the archives with their MD5 sums, the label table, and the official split lists.

112,120 frontal radiographs of 30,805 patients, 1024 x 1024 pixels. Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM.
ChestX-ray8: Hospital-Scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and Localization of
Common Thorax Diseases. IEEE CVPR 2017. Its use is unrestricted; the licence asks for a link to the download site
(https://nihcc.app.box.com/v/ChestXray-NIHCC), an acknowledgement of the NIH Clinical Center as the provider, and a
citation of that paper.
"""

import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.labels.csv_table import read_csv, shown
from data_prep.labels.table import read_labels
from data_prep.regular_file import open_regular, read_regular
from data_prep.sources.listing import list_files, require_readable

IMAGE_COUNT = 112_120

MAX_URL_LENGTH = 2000  # characters
MAX_LIST_BYTES = 2**24  # the longer list of image names has 1.5 MB

_FILE_NAME = re.compile(r"[\w\- ][\w\-. ()]{0,199}(?:\.tar\.gz|\.csv|\.csv\.gz|\.txt)")
_ARCHIVE = re.compile(r"(.*?)_?0*([0-9]{1,18})\.tar\.gz")
_IMAGE = re.compile(r"\d{8}_\d{3}\.png")
_SHARED_FILES_URL = "https://nihcc.box.com/shared/static/"
_FOLDER_FILES_URL = (
    "https://nihcc.app.box.com/index.php?rm=box_download_shared_file&vanity_name=ChestXray-NIHCC&file_id=f_"
)


@dataclass(frozen=True)
class Manifest:
    """The files of a data set.

    Attributes:
        archives: tar.gz files of images.
        table: the label table, or None.
        lists: text files of image names, one a line.
    """

    archives: tuple[RemoteFile, ...]
    table: RemoteFile | None
    lists: tuple[RemoteFile, ...] = ()

    def parts(self, numbers: Collection[int]) -> tuple[RemoteFile, ...]:
        """Return the archives with these numbers, in the manifest's order; all archives if there are no numbers.

        Raises:
            DataError: there is no archive with one of the numbers.
        """
        known = {archive_key(archive.name)[1]: archive for archive in self.archives}
        for number in numbers:
            if number not in known:
                raise DataError(f"there is no part {number}; the parts are {', '.join(map(str, sorted(known)))}")
        return tuple(archive for number, archive in known.items() if not numbers or number in numbers)


def _archive(number: int, address: str, size: int, md5: str) -> RemoteFile:
    return RemoteFile(f"images_{number:03d}.tar.gz", f"{_SHARED_FILES_URL}{address}.gz", size, md5)


CHESTXRAY14 = Manifest(
    archives=(
        _archive(1, "vfk49d74nhbxq3nqjg0900w5nvkorp5c", 2008470987, "fe8ed0a6961412fddcbb3603c11b3698"),
        _archive(2, "i28rlmbvmfjbl8p2n3ril0pptcmcu9d1", 3952623504, "ab07a2d7cbe6f65ddd97b4ed7bde10bf"),
        _archive(3, "f1t00wrtdk94satdfb9olcolqx20z2jp", 3929234850, "2301d03bde4c246388bad3876965d574"),
        _archive(4, "0aowwzs5lhjrceb3qp67ahp0rd1l1etg", 3838903983, "9f1b7f5aae01b13f4bc8e2c44a4b8ef6"),
        _archive(5, "v5e3goj22zr6h8tzualxfsqlqaygfbsn", 3935496531, "1861f3cd0ef7734df8104f2b0309023b"),
        _archive(6, "asi7ikud9jwnkrnkj99jnpfkjdes7l6l", 3986301172, "456b53a8b351afd92a35bc41444c58c8"),
        _archive(7, "jn1b4mw4n6lnh74ovmcjb8y48h8xj07n", 4016328426, "1075121ea20a137b87f290d6a4a5965e"),
        _archive(8, "tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j", 4018347353, "b61f34cec3aa69f295fbb593cbd9d443"),
        _archive(9, "upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj", 4111327929, "442a3caa61ae9b64e61c561294d1e183"),
        _archive(10, "l6nilvfa9cg3s28tqv1qc1olm3gnz54p", 4181556296, "09ec81c4c31e32858ad8cf965c494b74"),
        _archive(11, "hhq8fkdgvcari67vfhs7ppg2w6ni4jze", 4187084020, "499aefc67207a5a97692424cf5dbeed5"),
        _archive(12, "ioqwiy20ihqwyr8pf4c24eazhh281pbu", 2914187733, "dc9fda1757c2de0032b63347a7d2895c"),
    ),
    table=RemoteFile("Data_Entry_2017_v2020.csv", f"{_FOLDER_FILES_URL}219760887468", 9003496),
    lists=(
        RemoteFile("train_val_list.txt", f"{_FOLDER_FILES_URL}256056636701"),
        RemoteFile("test_list.txt", f"{_FOLDER_FILES_URL}256055473534"),
    ),
)
LIST_LENGTHS = {"train_val_list.txt": 86_524, "test_list.txt": 25_596}


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a data set with the same layout as ChestX-ray14.

    A manifest is a CSV table with columns name, url, bytes and md5; bytes and md5 may be empty. Names ending in
    .tar.gz are archives, with a number at the end; a name ending in .csv (or .csv.gz) is the label table; names
    ending in .txt are lists.

    Raises:
        DataError: the manifest cannot be read, or a row is invalid; the message names the row and the value.
    """
    table = read_csv(path)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    files = [_manifest_row(path, number, row) for number, row in enumerate(rows, start=1)]
    archives = [file for file in files if file.name.endswith(".tar.gz")]
    tables = [file for file in files if file.name.endswith((".csv", ".csv.gz"))]
    keys = [archive_key(archive.name)[1] for archive in archives]
    if not archives or len(tables) > 1 or len(set(keys)) < len(keys):
        raise DataError(
            f"{path}: a manifest names archives (NAME_1.tar.gz, each number once) and one label table (.csv); "
            f"found {len(archives)} archives and {len(tables)} tables"
        )
    lists = tuple(file for file in files if file.name.endswith(".txt"))
    return Manifest(tuple(archives), tables[0] if tables else None, lists)


def _manifest_row(path: Path, number: int, row: dict[str, str]) -> RemoteFile:
    name, url, size, md5 = (row.get(column, "") for column in ("name", "url", "bytes", "md5"))
    md5 = md5.lower()
    if not _FILE_NAME.fullmatch(name):
        raise DataError(
            f"{path}: row {number}: {shown(name)} is not the name of an archive (.tar.gz), a table (.csv) or a list "
            "(.txt)"
        )
    if name.endswith(".tar.gz") and not _ARCHIVE.fullmatch(name):
        raise DataError(f"{path}: row {number}: archive {name!r} has no number; call it NAME_1.tar.gz")
    if not re.fullmatch(r"[0-9]{0,18}", size) or not re.fullmatch(r"([0-9a-f]{32})?", md5):
        raise DataError(f"{path}: row {number}: {shown(size)} bytes or MD5 sum {shown(md5)} cannot be right")
    if len(url) > MAX_URL_LENGTH or not url.isprintable():
        raise DataError(f"{path}: row {number}: the url has {len(url)} characters; the limit is {MAX_URL_LENGTH}")
    return RemoteFile(name, url, int(size) if size else None, md5 or None)


def archive_key(name: str) -> tuple[str, int]:
    """Return (stem, number) of an archive's name: the same for images_01.tar.gz and images_001.tar.gz.

    Raises:
        DataError: the name has no number.
    """
    match = _ARCHIVE.fullmatch(name)
    if match is None:
        raise DataError(f"archive {name!r} has no number; call it NAME_1.tar.gz")
    return match[1], int(match[2])


def find_files(folder: Path, files: Iterable[RemoteFile]) -> dict[str, Path]:
    """Find files of a manifest in a folder and its subfolders; an archive matches whatever zeros its number has.

    Returns:
        The path of each file that was found, by its name in the manifest.

    Raises:
        DataError: a file has another length than published, two files match one name, or there is no such folder.
    """
    present = list_files(folder)
    by_key: dict[str | tuple[str, int], list[Path]] = defaultdict(list)
    for path in map(folder.joinpath, present.files):
        by_key[_file_key(path.name)].append(path)
    found: dict[str, Path] = {}
    for file in files:
        candidates = [*by_key[_file_key(file.name)], *by_key[_file_key(file.name + ".gz")]]
        # the content of a table is checked later, and a compressed copy is accepted
        wanted = None if file.name.endswith(".csv") else file.bytes
        matches = [path for path in candidates if wanted in (None, _size(path))]
        if len(matches) > 1:
            raise DataError(f"{folder}: {matches[0].name} and {matches[1].name} could both be {file.name}; remove one")
        if candidates and not matches:
            size = _size(candidates[0])
            raise DataError(f"{candidates[0]}: {size} bytes, the published file has {file.bytes}; fetch it again")
        if matches:
            found[file.name] = matches[0]
    if len(found) < len({file.name for file in files}):
        require_readable(present)
    return found


def _file_key(name: str) -> str | tuple[str, int]:
    """Return what all names of a file have in common: of an archive, that is its stem and number."""
    return archive_key(name) if _ARCHIVE.fullmatch(name) else name


def _size(path: Path) -> int:
    try:
        with open_regular(path) as file:
            return os.fstat(file.fileno()).st_size
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error


def check_table(path: Path) -> None:
    """Check that a file is the label table of ChestX-ray14, and not, say, a web page; raise DataError if not."""
    if (rows := len(read_labels(path).images)) != IMAGE_COUNT:
        raise DataError(f"{path}: {rows} rows, the label table of ChestX-ray14 has {IMAGE_COUNT}")


def check_list(path: Path, length: int) -> None:
    """Check that a file is a list of `length` image names, one a line; raise DataError if not."""
    try:
        lines = read_regular(path, MAX_LIST_BYTES).decode(errors="replace").split()
    except OSError as error:
        raise DataError(f"{path}: the list cannot be read ({error.strerror})") from error
    invalid = next((line for line in lines if not _IMAGE.fullmatch(line)), None)
    if invalid is not None:
        raise DataError(f"{path}: {invalid[:40]!r} is not an image of ChestX-ray14")
    if len(set(lines)) != length:
        raise DataError(f"{path}: {len(set(lines))} image names, the official list has {length}")
