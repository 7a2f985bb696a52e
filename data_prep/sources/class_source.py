"""Images of one class each, whatever form they come in: n images, K classes."""

import hashlib
import json
from abc import ABC
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from data_prep.errors import DataError
from data_prep.labels.safe_names import printable
from data_prep.labels.table import LabelTable
from data_prep.sources.source import LOCAL_POPULATION, Source, content_hash

MAX_CLASSES = 10_000


@dataclass(frozen=True, kw_only=True)
class ClassSource(Source, ABC):
    """n images of K classes; the table names the classes, and the part of each image where the data give one."""


@dataclass(frozen=True, kw_only=True)
class ArraySource(ClassSource):
    """Images that the data hold as one array.

    Attributes:
        pixels: (n, h, w) or (n, h, w, 3) uint8: grey, or red, green, blue.
    """

    pixels: np.ndarray

    @classmethod
    def of(cls, place: Path, parts: dict[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str]) -> Self:
        """Describe images and their classes, by part: "train" and "test"; a single part is none that the data give.

        Args:
            place: of the data, for messages.
            parts: name -> (images as in `pixels`, (n,) integers).
            classes: names of the classes.

        Raises:
            DataError: the numbers of images and classes differ, or an image is of none of the classes.
        """
        for part, (images, targets) in parts.items():
            if len(images) != len(targets):
                raise DataError(
                    f"{place}: {len(images)} images of the {part} part and classes of {len(targets)}; "
                    "fetch the files again"
                )
            wrong = targets[(targets < 0) | (targets >= len(classes))]
            if len(wrong):
                raise DataError(
                    f"{place}: an image of the {part} part is of class {wrong[0]}, and there are {len(classes)}; "
                    "fetch the files again"
                )
        pixels = np.concatenate([images for images, _ in parts.values()])
        names = [f"{part}_{row:06d}.png" for part, (images, _) in parts.items() for row in range(len(images))]
        given = np.repeat(list(parts), [len(images) for images, _ in parts.values()]) if len(parts) > 1 else None
        table = class_table(place, names, np.concatenate([targets for _, targets in parts.values()]), classes, given)
        return cls(
            table=table,
            population=LOCAL_POPULATION,
            public=True,
            identity=content_hash([table.sha256, pixels.shape, hashlib.sha256(pixels.data).hexdigest()]),
            picture_channels=3 if pixels.ndim == 4 else 1,
            pixels=pixels,
        )

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Yield (image name, PNG file): a store is built from files, and encoding such small images costs little."""
        stored = [cv2.IMWRITE_PNG_COMPRESSION, 0]
        for name, pixels in zip(self.table.images.tolist(), self.pixels, strict=True):
            blue_first = np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels
            yield name, cv2.imencode(".png", blue_first, stored)[1].tobytes()


def class_table(
    place: Path, images: Sequence[str], targets: np.ndarray, classes: Sequence[str], parts: np.ndarray | None
) -> LabelTable:
    """Return the table of n images of classes, each of its own patient.

    Args:
        place: of the data, for messages.
        images: n names.
        targets: (n,) indices of the classes.
        classes: names of the classes.
        parts: (n,) str, "train" or "test" as the data give it, or None.

    Raises:
        DataError: there are fewer than two classes or too many, two of one name, one without an image, or one of
            which the data give test images but no training images.
    """
    names = tuple(map(printable, classes))
    _check_names(place, names)
    of_part = {"any": targets} if parts is None else {part: targets[parts == part] for part in ("train", "test")}
    counts = {part: np.bincount(found, minlength=len(names)) for part, found in of_part.items()}
    empty = np.flatnonzero(sum(counts.values()) == 0).tolist()
    if empty:
        raise DataError(f"{place}: {_first(names, empty)} has no image; add images of it, or remove the class")
    if parts is not None and (only_test := np.flatnonzero(counts["train"] == 0).tolist()):
        raise DataError(
            f"{place}: {_first(names, only_test)} has {counts['test'][only_test[0]]} test images and no training "
            "image; add training images of it, or remove the class"
        )
    rows = np.array(images, dtype=np.str_)
    content = [list(images), list(names), targets.tolist(), None if parts is None else parts.tolist()]
    return LabelTable(
        images=rows,
        patients=rows,
        labels=("class",),
        targets=targets.astype(np.int16)[:, np.newaxis],
        views=np.full(len(rows), "", dtype="<U7"),
        layout="classes",
        sha256=hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        classes=names,
        parts=parts,
    )


def _check_names(place: Path, names: Sequence[str]) -> None:
    if not 2 <= len(names) <= MAX_CLASSES:
        found = f"one class ({names[0]!r})" if len(names) == 1 else f"{len(names)} classes"
        raise DataError(f"{place}: {found}; a classification needs 2 to {MAX_CLASSES}: add a folder for each class")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{place}: two classes are called {twice!r}; rename one")


def _first(names: Sequence[str], found: Sequence[int]) -> str:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"class {names[found[0]]!r}{more}"
