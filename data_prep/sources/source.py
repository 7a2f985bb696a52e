"""What a store is built from: images with a label table, of the patients of one population."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.labels.patients import CHESTXRAY14, has_public_numbers
from data_prep.labels.table import LabelTable

LOCAL_POPULATION = "local"  # the population of every table that is not numbered like NIH's

Item = tuple[str, Path | bytes]
"""An image's name, and its file or the content of its file."""


@dataclass(frozen=True, kw_only=True)
class LabelledSource:
    """Images with a label table.

    Attributes:
        table: all rows of the label table; every item has a row in it.
        population: the group of patients; the same identifier in two populations means two people.
        public: the identifiers are NIH's public numbers (or the phantom's), which need no secret.
        identity: "sha256:...", which differs whenever the items or the table may differ.
        chest: the user vouches that a DICOM file shows a chest radiograph where it does not say what it shows.
        picture_channels: channels of the images, 1 or 3, where they are pictures of any kind; None: radiographs.
    """

    table: LabelTable
    population: str
    public: bool
    identity: str
    chest: bool = False
    picture_channels: int | None = None


@dataclass(frozen=True, kw_only=True)
class Source(LabelledSource, ABC):
    """n named images in a fixed order, each with a row in the table.

    Attributes:
        images_without_row: number of images that were left out, because the table has no row for them.
        rows_without_image: number of rows that were left out, because there is no image of that name.
        unmatched_images: the first of these images, in words that name no patient.
        unmatched_rows: the first of these rows, likewise.
        remarks: what else the user should know of the source, in sentences that name no patient.
    """

    images_without_row: int = 0
    rows_without_image: int = 0
    unmatched_images: tuple[str, ...] = ()
    unmatched_rows: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table.images) - self.rows_without_image

    @abstractmethod
    def items(self) -> Iterator[Item]:
        """Yield the n (image name, file or its content), in the same order every time."""


def population_of(table: LabelTable) -> tuple[str, bool]:
    """Return the population of a table's patients, and whether their identifiers are public, as NIH's are."""
    public = table.layout == "nih" and has_public_numbers(table.images, table.patients)
    return CHESTXRAY14 if public else LOCAL_POPULATION, public


def content_hash(content: object) -> str:
    """Return "sha256:..." of a JSON value."""
    return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()
