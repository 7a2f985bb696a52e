"""Folder source: a folder of PNG, JPEG or DICOM images with a label table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import DataError
from data_prep.labels.csv_table import read_header
from data_prep.labels.safe_names import is_harmless, printable, row_name
from data_prep.labels.table import TABLE_SUFFIXES, LabelTable, missing_columns, read_labels, table_layout
from data_prep.sources.image_files import is_image
from data_prep.sources.image_names import IMAGE_SUFFIXES
from data_prep.sources.left_out import MAX_NAMED, LeftOut
from data_prep.sources.listing import Listing, list_files, require_readable
from data_prep.sources.matching import TWO_SUFFIXES, AmbiguousError, Match, match_names
from data_prep.sources.source import Source, content_hash, population_of


@dataclass(frozen=True, kw_only=True)
class FolderSource(Source):
    """The images of a folder that have a row in its label table, sorted by name.

    Attributes:
        files: (image name as in the table, file) of each image.
    """

    files: tuple[tuple[str, Path], ...]

    @classmethod
    def open(
        cls,
        folder: Path,
        labels: Path | None = None,
        population: str | None = None,
        *,
        columns: Sequence[str] = (),
        allow_missing: bool = False,
    ) -> "FolderSource":
        """Find the images (PNG, JPEG, DICOM) and the label table of a folder, and match them by name.

        The folder is searched with its subfolders, behind links too; what has an image's name and is no regular file
        counts as an image that cannot be read.

        Args:
            folder: of the images.
            labels: the label table; needed if the folder contains none or several.
            population: the patients' group; without it ChestX-ray14 if images and patients are numbered as there,
                otherwise "local".
            columns: exactly these columns of the table are labels; without, see `choose_labels`.
            allow_missing: go on without images that have no row, rows that have no image, and unreadable folders,
                however many.

        Raises:
            DataError: the folder has no images, no label table or several; a row matches several images, or several
                rows match one image; no image has a row; or more is missing than is allowed.
        """
        listing = list_files(folder)
        if not allow_missing:
            require_readable(listing, "allow reading, or go on without them with --allow-missing")
        images, tables = _images_and_tables(listing)
        if not images:
            raise DataError(f"{folder}: no image found (looked for {', '.join(IMAGE_SUFFIXES)}, in subfolders too)")
        table = read_labels(labels or _find_label_table(folder, tables, columns), columns)
        aliases = _aliases(listing, images)
        matches = _match(folder, images, aliases, table)
        left = _left_out(["" if file in aliases else image for file, image in enumerate(images)], table, matches)
        if not allow_missing:
            left.check(folder, len(images) - len(aliases), len(table.images))
        usual_population, public = population_of(table)
        files = sorted((str(table.images[match.row]), folder / images[match.file]) for match in matches)
        return cls(
            table=table,
            population=population or usual_population,
            public=public,
            files=tuple(files),
            images_without_row=left.images,
            rows_without_image=len(table.images) - len(files),
            unmatched_images=left.image_names,
            unmatched_rows=left.row_names,
            remarks=_remarks(listing, matches),
            identity=content_hash([table.sha256, *([name, *_size_and_time(file)] for name, file in files)]),
        )

    def items(self) -> Iterator[tuple[str, Path]]:
        """Iterate over (image name, file)."""
        return iter(self.files)


def _left_out(images: list[str], table: LabelTable, matches: list[Match]) -> LeftOut:
    """Find what is in no match; an image's name is "" if it is another one's second name."""
    with_row, with_image = {match.file for match in matches}, {match.row for match in matches}
    unmatched = [image for file, image in enumerate(images) if image and file not in with_row]
    rows = [row for row in range(len(table.images)) if row not in with_image]
    return LeftOut(
        len(unmatched),
        tuple(printable(image) for image in unmatched if is_harmless(image))[:MAX_NAMED],
        len(rows),
        tuple(row_name(row + 1, str(table.images[row])) for row in rows[:MAX_NAMED]),
    )


def _images_and_tables(listing: Listing) -> tuple[list[str], list[str]]:
    """Return the paths of the images and of the CSV files."""
    tables = [file for file in listing.files if file.lower().endswith(TABLE_SUFFIXES)]
    others = (file for file in listing.files if not file.lower().endswith(TABLE_SUFFIXES))
    return [file for file in others if is_image(listing.folder, file)], tables


def _find_label_table(folder: Path, tables: list[str], columns: Sequence[str]) -> Path:
    """Return the only CSV file with the columns of a label table; other CSV files are ignored."""
    candidates, problems = [], []
    for table in tables:
        try:
            header = read_header(folder / table)
        except DataError as error:
            problems.append(str(error))
            continue
        if table_layout(header, columns):
            candidates.append(table)
        else:
            problems.append(f"{folder / table}: {missing_columns(header)}")
    if len(candidates) == 1:
        return folder / candidates[0]
    if candidates:
        raise DataError(f"{folder}: several label tables ({', '.join(candidates[:5])}); name one with --labels FILE")
    if not problems:
        raise DataError(f"{folder}: no label table (*.csv, *.csv.gz) in it; name one with --labels FILE")
    more = f" (and {len(problems) - 2} more tables)" if len(problems) > 2 else ""
    raise DataError(f"{'; '.join(problems[:2])}{more}; correct the table, or name another one with --labels FILE")


def _match(folder: Path, images: list[str], aliases: dict[int, int], table: LabelTable) -> list[Match]:
    names = table.images.tolist()

    def shown(file: int) -> str:
        return repr(printable(images[file])) if is_harmless(images[file]) else "a DICOM file"

    try:
        matches = match_names(names, images, aliases)
    except AmbiguousError as error:
        rows = " and ".join(row_name(row + 1, names[row]) for row in error.rows)
        files = " and ".join(map(shown, error.files))
        if len(error.rows) > 1:
            raise DataError(f"{folder}: both {rows} match {files}; delete one row") from None
        raise DataError(f"{folder}: {rows} matches {files}; give the path in the table") from None
    if not matches:
        raise DataError(
            f"{folder}: none of its {len(images)} images has a row in the label table: the first image is {shown(0)}, "
            f"the first row is {row_name(1, names[0])}; check that it is the right table"
        )
    return matches


def _remarks(listing: Listing, matches: list[Match]) -> tuple[str, ...]:
    other_suffix = sum(match.rank == TWO_SUFFIXES for match in matches)
    remarks = {
        f"images with another suffix than in the label table: {other_suffix}": other_suffix,
        f"folders that could not be read, with what is in them: {len(listing.unreadable)}": listing.unreadable,
    }
    return tuple(remark for remark, holds in remarks.items() if holds)


def _size_and_time(file: Path) -> tuple[int, int]:
    """Return what stands for the content of a file, as hashing 42 GB would take minutes; zeros if it cannot be told."""
    try:
        state = file.stat()
    except OSError:  # a link that leads nowhere
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _aliases(listing: Listing, images: list[str]) -> dict[int, int]:
    """Return which images are links to others: index of the link -> index of the other."""
    first: dict[tuple[int, int], int] = {}
    aliases: dict[int, int] = {}
    if listing.linked.isdisjoint(images):
        return aliases
    for file, image in sorted(enumerate(images), key=lambda each: each[1] in listing.linked):
        try:
            state = (listing.folder / image).stat()
        except OSError:  # it leads nowhere
            continue
        other = first.setdefault((state.st_dev, state.st_ino), file)
        if other != file and image in listing.linked:
            aliases[file] = other
    return aliases
