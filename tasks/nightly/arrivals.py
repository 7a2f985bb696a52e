"""Arrivals: the night on which each image of a series was first seen.

The table lies in MEDMTL_HOME. It grows only: an image that is removed and comes back has not arrived again.
"""

import csv
import hashlib
import io
from collections.abc import Iterable
from datetime import date
from pathlib import Path

from data_prep.errors import DataError
from tasks.runtime.atomic_files import write_atomically
from tasks.runtime.home import home

_COLUMNS = ["image", "first_seen"]


def arrivals_file(series: str) -> Path:
    """Return the table of a series, which is named after its model."""
    identity = hashlib.sha256(series.encode()).hexdigest()[:16]
    return home().nights / identity / "arrivals.csv"


def read_arrivals(file: Path) -> dict[str, date]:
    """Read the night on which each image was first seen, by the image's name in the store.

    Raises:
        DataError: the file is damaged.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(_damaged(file)) from error
    header, *rows = list(csv.reader(io.StringIO(text))) or [[]]
    try:
        if header != _COLUMNS:
            raise ValueError("other columns")
        return {image: date.fromisoformat(night) for image, night in rows}
    except ValueError as error:
        raise DataError(_damaged(file)) from error


def add_arrivals(file: Path, images: Iterable[str], night: date) -> dict[str, date]:
    """Note the images that were never seen before as arrivals of a night; said again, it changes nothing.

    Args:
        file: of the series.
        images: names of all images that are there, set aside or not.
        night: that is running.

    Returns:
        The night of each image that was ever seen.

    Raises:
        DataError: the file is damaged, or a later night has run already.
    """
    known = read_arrivals(file)
    if known and (last := max(known.values())) > night:
        raise DataError(f"night {night} lies before {last}, the last one of this series: give {last} or a later date")
    every = dict.fromkeys(images, night) | known
    if len(every) > len(known):
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *([i, n.isoformat()] for i, n in every.items())])
        write_atomically(file, text.getvalue().encode())
    return every


def _damaged(file: Path) -> str:
    return f"{file} is damaged: restore it, or delete it: then all images count as new"
