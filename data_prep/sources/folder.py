"""Folder source: a folder of PNG, JPEG or DICOM images with a label table."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data_prep.decoding.radiograph import DICOM_HEAD_BYTES, DICOM_SUFFIXES, is_dicom
from data_prep.errors import DataError
from data_prep.labels.table import TABLE_SUFFIXES, LabelTable, missing_columns, read_header, read_labels, table_layout
from data_prep.sources.source import Source, content_hash, population_of

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *DICOM_SUFFIXES)


@dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """The images of a folder that have a row in its label table, sorted by name.

    Attributes:
        files: (image name as in the table, file) of each image.
    """

    files: tuple[tuple[str, Path], ...]

    @classmethod
    def open(cls, folder: Path, labels: Path | None = None, population: str | None = None) -> "FolderSource":
        """Find the images (PNG, JPEG, DICOM) and the label table of a folder, and match them by name.

        The folder is searched with its subfolders. The path of the label table, `labels`, is needed if the folder
        contains none or several. Without `population`, it is ChestX-ray14 if images and patients are numbered as
        there, otherwise "local".

        Raises:
            DataError: the folder has no images, no label table or several; a row matches several images, or several
                rows match one image; or no image has a row.
        """
        images, tables = _find_images_and_tables(folder)
        if not images:
            raise DataError(f"{folder}: no image found (looked for {', '.join(IMAGE_SUFFIXES)}, in subfolders too)")
        table = read_labels(labels or _find_label_table(folder, tables))
        usual_population, public = population_of(table)
        files = _match(folder, images, table)
        # sizes and times stand for the content of the files: hashing 42 GB would take minutes
        states = ((name, file.stat()) for name, file in files)
        content = [table.sha256, *([name, state.st_size, state.st_mtime_ns] for name, state in states)]
        return cls(
            table=table,
            population=population or usual_population,
            public=public,
            files=files,
            images_without_row=len(images) - len(files),
            rows_without_image=len(table.images) - len(files),
            identity=content_hash(content),
        )

    def items(self) -> Iterator[tuple[str, Path]]:
        """Iterate over (image name, file)."""
        return iter(self.files)


def _find_images_and_tables(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images and the CSV files in `folder`, with subfolders, each sorted; hidden ones are ignored."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: list[Path] = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found.extend(Path(place, name) for name in names if not name.startswith("."))
    found.sort()
    tables = [file for file in found if file.name.lower().endswith(TABLE_SUFFIXES)]
    others = [file for file in found if not file.name.lower().endswith(TABLE_SUFFIXES)]
    return [file for file in others if file.name.lower().endswith(IMAGE_SUFFIXES) or _has_dicom_prefix(file)], tables


def _has_dicom_prefix(file: Path) -> bool:
    """Check a file's first bytes, as hospitals export files without a suffix, or named by a UID with dots."""
    try:
        with file.open("rb") as stream:
            return is_dicom(stream.read(DICOM_HEAD_BYTES))
    except OSError:
        return False


def _find_label_table(folder: Path, tables: list[Path]) -> Path:
    """Return the only CSV file with the columns of a label table; other CSV files are ignored."""
    headers: dict[Path, list[str]] = {}
    for table in tables:
        with contextlib.suppress(DataError):  # not a readable table
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
    raise DataError(f"{table}: {missing_columns(header)}; correct the table, or name another one with --labels FILE")


def _match(folder: Path, images: list[Path], table: LabelTable) -> tuple[tuple[str, Path], ...]:
    """Match rows and files if the path of one ends with the path of the other: x.png and a/x.png, but not b/x.png.

    A row may omit the suffix of a DICOM file: it is often the SOP Instance UID, after which the file is named.
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
        found = _match_row(folder, row, by_path, by_name)
        if found is None:
            continue
        file = by_path[found]
        if file in rows:
            raise DataError(f"{file}: both rows {rows[file]!r} and {row!r} match this image; delete one row")
        rows[file] = row
    if not rows:
        raise DataError(
            f"{folder}: none of its {len(images)} images has a row in the label table: the first image is "
            f"{min(by_path)!r}, the first row {str(table.images[0])!r}; check that it is the right table"
        )
    return tuple((row, file) for file, row in rows.items())


def _match_row(folder: Path, row: str, by_path: dict[str, Path], by_name: dict[str, list[str]]) -> str | None:
    parts = row.replace("\\", "/").split("/")
    for start in range(len(parts)):
        if (end := "/".join(parts[start:])) in by_path:
            return end
    matches = [path for path in by_name.get(parts[-1], []) if path.endswith("/" + "/".join(parts))]
    if len(matches) > 1:
        raise DataError(f"{folder}: row {row!r} matches {matches[0]!r} and {matches[1]!r}; give the path in the table")
    return matches[0] if matches else None
