"""A folder of images with a label table, as the source of a store."""

import contextlib
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.decoding.radiograph import DICOM_HEAD_BYTES, DICOM_SUFFIXES, is_dicom
from data_prep.errors import DataError
from data_prep.labels.patients import CHESTXRAY14, has_public_numbers
from data_prep.labels.table import TABLE_SUFFIXES, LabelTable, missing_columns, read_header, read_labels, table_layout

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)
LOCAL = "local"  # the population of every table that is not NIH's


@dataclass(frozen=True)
class FolderSource:
    """The images of a folder that have a row in its label table, sorted by name.

    table: all rows of the label table.
    population: whose patients these are; the same identifier in two populations is two people.
    public: the identifiers are NIH's public numbers (or the phantom's), which need no secret.
    files: (image name as in the table, file) of each image.
    images_without_row, rows_without_image: counts of what was left out.
    identity: "sha256:..." of the table's content and of every file's name, size and time of change.
    """

    table: LabelTable
    population: str
    public: bool
    files: tuple[tuple[str, Path], ...]
    images_without_row: int
    rows_without_image: int
    identity: str

    @classmethod
    def open(cls, folder: Path, labels: Path | None = None, population: str | None = None) -> "FolderSource":
        """Find the images (PNG, JPEG, DICOM; nested or not) and the label table of `folder`, and match them by name.

        `labels` names the table where the folder holds none or several. The population is ChestX-ray14 if the
        rows are numbered as there, otherwise "local", unless `population` says better.

        Raises DataError for a folder without images or without a table, several tables, a row that fits
        several images, or no match at all.
        """
        images, tables = _search(folder)
        if not images:
            raise DataError(f"{folder}: no image found (looked for {', '.join(IMAGE_SUFFIXES)}, in subfolders too)")
        table = read_labels(labels or _only_table(folder, tables))
        public = table.layout == "nih" and has_public_numbers(table.images, table.patients)
        files = _match(folder, images, table)
        return cls(
            table=table,
            population=population or (CHESTXRAY14 if public else LOCAL),
            public=public,
            files=files,
            images_without_row=len(images) - len(files),
            rows_without_image=len(table.images) - len(files),
            identity=_identity(table, files),
        )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.files)

    def items(self) -> Iterator[tuple[str, Path]]:
        """Yield (image name, file)."""
        return iter(self.files)


def _search(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images and the CSV files below `folder`, each sorted; hidden files and folders do not count."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: list[Path] = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found.extend(Path(place, name) for name in names if not name.startswith("."))
    found.sort()
    tables = [file for file in found if file.name.lower().endswith(TABLE_SUFFIXES)]
    others = [file for file in found if not file.name.lower().endswith(TABLE_SUFFIXES)]
    return [file for file in others if file.name.lower().endswith(IMAGE_SUFFIXES) or _starts_as_dicom(file)], tables


def _starts_as_dicom(file: Path) -> bool:
    """Hospitals export files without a suffix, or named by a UID, whose last number looks like one."""
    try:
        with file.open("rb") as stream:
            return is_dicom(stream.read(DICOM_HEAD_BYTES))
    except OSError:
        return False


def _only_table(folder: Path, tables: list[Path]) -> Path:
    """Return the one CSV file that has a label table's columns; others may lie beside it."""
    headers: dict[Path, list[str]] = {}
    for table in tables:
        with contextlib.suppress(DataError):  # not even a table
            headers[table] = read_header(table)
    candidates = [table for table, header in headers.items() if table_layout(header)]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        names = ", ".join(str(table.relative_to(folder)) for table in candidates)
        raise DataError(f"{folder}: several label tables ({names}); name one with --labels FILE")
    if not headers:
        raise DataError(f"{folder}: no label table (*.csv, *.csv.gz) in it; name one with --labels FILE")
    table, header = next(iter(headers.items()))
    raise DataError(f"{table}: {missing_columns(header)}; mend it, or name another table with --labels FILE")


def _match(folder: Path, images: list[Path], table: LabelTable) -> tuple[tuple[str, Path], ...]:
    """Pair rows and files where the path of one is the end of the other's: x.png and a/x.png, but not b/x.png.

    A row may leave a DICOM file's suffix out: it is often the SOP Instance UID, by which the file is named.
    """
    by_path = {file.relative_to(folder).as_posix(): file for file in images}
    for file in images:
        if file.name.lower().endswith(DICOM_SUFFIXES):
            by_path.setdefault(file.relative_to(folder).with_suffix("").as_posix(), file)
    by_name: dict[str, list[str]] = defaultdict(list)
    for path in by_path:
        by_name[PurePosixPath(path).name].append(path)
    rows: dict[Path, str] = {}
    for row in sorted(table.images.tolist()):
        found = _find(folder, row, by_path, by_name)
        if found is None:
            continue
        file = by_path[found]
        if file in rows:
            raise DataError(f"{file}: both rows {rows[file]!r} and {row!r} mean this image; drop one")
        rows[file] = row
    if not rows:
        raise DataError(
            f"{folder}: none of its {len(images)} images has a row in the label table: the first image is "
            f"{min(by_path)!r}, the first row {str(table.images[0])!r}; is it the right table?"
        )
    return tuple((row, file) for file, row in rows.items())


def _find(folder: Path, row: str, by_path: dict[str, Path], by_name: dict[str, list[str]]) -> str | None:
    parts = row.replace("\\", "/").split("/")
    for start in range(len(parts)):
        if (end := "/".join(parts[start:])) in by_path:
            return end
    below = [path for path in by_name.get(parts[-1], []) if path.endswith("/" + "/".join(parts))]
    if len(below) > 1:
        raise DataError(f"{folder}: row {row!r} fits {below[0]!r} and {below[1]!r}; give the path in the table")
    return below[0] if below else None


def _identity(table: LabelTable, files: tuple[tuple[str, Path], ...]) -> str:
    """Contents would be surer than times, but reading 42 GB to learn that nothing changed costs minutes."""
    facts: list[object] = [table.sha256]
    for name, file in files:
        state = file.stat()
        facts.append([name, state.st_size, state.st_mtime_ns])
    return "sha256:" + hashlib.sha256(json.dumps(facts).encode()).hexdigest()
