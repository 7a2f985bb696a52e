"""Train/validation/test splits of images by class: every part holds its share of each class.

n images; row indices are int64 and ascending.

Where the data give a test part, it is the test part, and validation is carved from the rest. The draws of a class
depend on the seed, the class's index, the names of its images and which of them show the same, not on the order of
the rows.
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from data_prep.errors import DataError
from data_prep.labels.patients import number_patients
from data_prep.labels.safe_names import printable
from data_prep.labels.splits import PARTS, Split, join_patients, parts_fingerprint
from data_prep.settings import Seed, Settings

Part = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=2**31)]

_REMEDIES = {
    "train": "lower the share of validation, or raise the number of training images",
    "val": "raise the share of validation, or give the class more images",
    "test": "raise the share of the test part or its number of images, or give the class more images",
}


class ClassSplitSettings(Settings):
    """How images of classes are split into training, validation and test parts."""

    val: Part = Field(0.1, description="share of the training part that becomes validation, drawn within each class")
    test: Part = Field(
        0.2, description="share that becomes the test part, drawn within each class, where the data give no test part"
    )
    train_images: Count | None = Field(
        None, description="train on this many images at most, drawn within each class after validation; none: all"
    )
    test_images: Count | None = Field(None, description="test on this many images at most, likewise; none: all")
    seed: Seed = Field(0, description="seed of the draws")


def split_classes(
    settings: ClassSplitSettings,
    images: np.ndarray,
    targets: np.ndarray,
    parts: np.ndarray | None,
    same_pixels: Sequence[Sequence[str]] = (),
    classes: Sequence[str] = (),
) -> Split:
    """Split n images within each class.

    Images with the same pixels stand in one part, and count to the class of the first of them, by name. A test part
    that the data give is taken as it is, whatever it shares with the rest. The images of a smaller `train_images` or
    `test_images` are among those of a larger one, and the validation part is the same for all.

    Args:
        settings: shares, numbers of images, seed.
        images: (n,) str names.
        targets: (n,) or (n, 1) indices of the classes.
        parts: (n,) str, "train" or "test" as the data give it; None where they give no test part.
        same_pixels: groups of images whose pixels are the same, as in a store.
        classes: names of the classes, for messages.

    Returns:
        The row indices of each part, which need not cover all images; the name is "given" with `parts`, else "random".

    Raises:
        DataError: a part would have no image of a class.
    """
    draw = _Draw(settings.seed, images, targets.reshape(-1), join_patients(images, images, same_pixels))
    rows = np.arange(len(images))
    if parts is None:
        test = draw.share("test", rows, settings.test)
        train = np.setdiff1d(rows, test)
    else:
        test, train = (np.flatnonzero(parts == part) for part in ("test", "train"))
    val = draw.share("val", train, settings.val)
    train = draw.most("train", np.setdiff1d(train, val), settings.train_images)
    test = draw.most("test", test, settings.test_images)
    found = dict(zip(PARTS, (train, val, test), strict=True))
    _check_classes(found, draw.classes, classes)
    return Split("random" if parts is None else "given", **found, fingerprint=parts_fingerprint(found, images))


class _Draw:
    """Draws of rows within each class, of groups of images that show the same."""

    def __init__(self, seed: int, images: np.ndarray, classes: np.ndarray, groups: np.ndarray) -> None:
        """Sort n images by name; a group, (n,) keys, has the number and the class of its first image."""
        by_name = np.argsort(images, kind="stable")
        self._seed, self.classes = seed, classes
        self._group = np.empty(len(images), dtype=np.int64)
        self._group[by_name] = number_patients(groups[by_name])
        _, first = np.unique(self._group[by_name], return_index=True)
        self._class_of_group = classes[by_name][first]

    def share(self, purpose: str, rows: np.ndarray, share: float) -> np.ndarray:
        """Draw a share, in (0, 1), of `rows` within each class: whole groups; of two or more, neither none nor all."""
        chosen = [np.empty(0, dtype=np.int64)]
        for _, drawn in self._orders(purpose, rows):
            sizes = np.cumsum([len(group) for group in drawn])
            wanted = round(share * sizes[-1])
            count = max(1, int(np.searchsorted(sizes, wanted, side="right")))
            chosen += drawn[: min(count, len(drawn) - 1)]
        return np.sort(np.concatenate(chosen))

    def most(self, purpose: str, rows: np.ndarray, most: int | None) -> np.ndarray:
        """Draw `most` of `rows`, each class in proportion to its images (Webster's method; one of each first)."""
        if most is None or most >= len(rows):
            return rows
        ranked: list[tuple[float, int, int]] = []
        for number, drawn in self._orders(f"{purpose} images", rows):
            of_class = np.concatenate(drawn).tolist()
            ranked += [((at - 0.5) / len(of_class) if at else 0.0, number, row) for at, row in enumerate(of_class)]
        return np.sort(np.array([row for _, _, row in sorted(ranked)[:most]], dtype=np.int64))

    def _orders(self, purpose: str, rows: np.ndarray) -> list[tuple[int, list[np.ndarray]]]:
        """Return the rows of each class as groups in random order."""
        ordered = rows[np.argsort(self._group[rows], kind="stable")]
        numbers, starts = np.unique(self._group[ordered], return_index=True)
        groups = np.split(ordered, starts[1:])
        found = []
        for number in np.unique(self._class_of_group[numbers]).tolist():
            of_class = np.flatnonzero(self._class_of_group[numbers] == number)
            key = tuple(f"class split/{purpose}/{number}".encode())
            order = np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key)).permutation(of_class)
            found.append((number, [groups[index] for index in order]))
        return found


def _check_classes(rows: dict[str, np.ndarray], targets: np.ndarray, classes: Sequence[str]) -> None:
    """Check that every part has an image of every class."""
    everywhere = np.unique(targets).tolist()
    for part, indices in rows.items():
        missing = sorted(set(everywhere) - set(targets[indices].tolist()))
        if not missing:
            continue
        name = repr(printable(classes[missing[0]])) if classes else f"number {missing[0]}"
        more = f" (nor of {len(missing) - 1} more)" if len(missing) > 1 else ""
        images = int((targets == missing[0]).sum())
        raise DataError(
            f"the {part} part of {len(indices)} images has none of class {name}{more}, which has {images} "
            f"{'image' if images == 1 else 'images'}; {_REMEDIES[part]}"
        )
