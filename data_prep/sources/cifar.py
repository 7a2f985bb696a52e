"""CIFAR-10 and CIFAR-100 as published for Python: batches of 32 x 32 pixels in colour, each a pickled dict.

Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. "data" is (n, 3072) unsigned bytes, red before
green before blue, each row by row; "labels" (CIFAR-100: "fine_labels") a list of n classes. The batches are untrusted,
and pickles: see `data_prep.sources.inert_pickle`.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data_prep.errors import DataError
from data_prep.regular_file import read_regular
from data_prep.sources.class_source import MAX_CLASSES, ArraySource
from data_prep.sources.inert_pickle import MAX_TEXT, array_of, read_pickle, text_of

SIDE, CHANNELS = 32, 3
MAX_BATCH_BYTES = 2**28  # that of CIFAR-100, of 50,000 images, has 155 MB


class Form(NamedTuple):
    """How the files of a set are called, and the keys in them."""

    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the set."""
        return (*self.train, self.test, self.meta)


CIFAR10 = Form(tuple(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta", "labels", "label_names")
CIFAR100 = Form(("train",), "test", "meta", "fine_labels", "fine_label_names")
FORMS = (CIFAR10, CIFAR100)


def find_form(files: Collection[str]) -> Form | None:
    """Return the set that two files or more of these names are of; None if they are no batches."""
    return next((form for form in FORMS if len(set(form.files) & set(files)) > 1), None)


def read_folder(folder: Path, form: Form) -> dict[str, bytes]:
    """Return the content of each file of a set.

    Raises:
        DataError: one is missing or cannot be read.
    """
    found = {}
    for name in form.files:
        try:
            found[name] = read_regular(folder / name, MAX_BATCH_BYTES)
        except OSError as error:
            what = "not there" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            raise DataError(f"{folder / name}: {what}; the set has the files {', '.join(form.files)}") from error
    return found


def open_cifar(place: Path, form: Form, files: Mapping[str, bytes]) -> ArraySource:
    """Open a set, given the content of its files.

    Args:
        place: of the set, for messages.
        form: CIFAR10 or CIFAR100.
        files: the content of each file by its name.

    Raises:
        DataError: a file is missing or broken, images and classes differ in number, or a class has no image.
    """
    for name in form.files:
        if name not in files:
            raise DataError(f"{place}: {name} is not in it; the set has the files {', '.join(form.files)}")
    classes = _class_names(place / form.meta, files[form.meta], form.names)
    batches = [_read_batch(place / name, files[name], form.labels) for name in form.train]
    images, targets = map(np.concatenate, zip(*batches, strict=True))
    parts = {"train": (images, targets), "test": _read_batch(place / form.test, files[form.test], form.labels)}
    return ArraySource.of(place, parts, classes)


def _read_batch(path: Path, data: bytes, labels: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images of a batch, (n, 32, 32, 3), and their classes, (n,)."""
    content = _read_dict(path, data)
    try:
        rows = array_of(content.get("data"))
    except ValueError as error:
        raise _broken(path, str(error)) from error
    if rows.shape[1] != CHANNELS * SIDE**2:
        raise _broken(path, f"images of {rows.shape[1]} bytes; they have {CHANNELS * SIDE**2}")
    targets = content.get(labels)
    if not isinstance(targets, list) or not all(type(each) is int and abs(each) < 2**31 for each in targets):
        raise _broken(path, f"no list of whole numbers {labels!r}")
    if len(targets) != len(rows):
        raise DataError(f"{path}: {len(rows)} images and {len(targets)} {labels}; fetch it again")
    images = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.array(targets, dtype=np.int64)


def _class_names(path: Path, data: bytes, key: str) -> list[str]:
    names = _read_dict(path, data).get(key)
    texts = [text_of(name) for name in names[: MAX_CLASSES + 1]] if isinstance(names, list) else []
    found = [text for text in texts if text is not None]
    if not 0 < len(found) == len(texts) <= MAX_CLASSES:
        raise _broken(path, f"no list {key!r} of 1 to {MAX_CLASSES} names of at most {MAX_TEXT} characters")
    return found


def _read_dict(path: Path, data: bytes) -> dict[str, Any]:
    try:
        content = read_pickle(data)
    except ValueError as error:
        raise _broken(path, str(error)) from error
    if not isinstance(content, dict):
        raise _broken(path, "it holds no dict")
    return content


def _broken(path: Path, what: str) -> DataError:
    return DataError(f"{path}: not a CIFAR batch, or a broken one ({what}); fetch it again")
