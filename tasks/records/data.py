"""Records of the data of a study: its store, its split, and what was left out."""

from collections import defaultdict
from typing import Any, Self

from pydantic import Field

from data_prep.labels.splits import Split, count_in_several_parts
from data_prep.store.store import Store
from tasks.records.base import Count, Record

_LEFT_OUT = ("rows_without_image", "images_without_row", "unmatched_rows", "unmatched_images", "remarks")


class SplitRecord(Record):
    """The split into train, validation and test."""

    name: str
    fingerprint: str
    same_pixels: Count = Field(0, description="pictures that stand under several patients, in several parts")

    @classmethod
    def of(cls, split: Split, store: Store) -> Self:
        """Make the record of a store's split."""
        shared = count_in_several_parts(split, store.images, store.same_pixels)
        return cls(name=split.name, fingerprint=split.fingerprint, same_pixels=shared)


class QuarantinedImage(Record):
    """An image file that was set aside."""

    image: str
    reason: str


class CheckRecord(Record):
    """A rule for the data, what was found, and the result: 'ok' or 'BROKEN'."""

    rule: str
    found: str
    result: str


class StoreRecord(Record):
    """A store, and the files and table rows left out of it."""

    name: str
    population: str = Field("", description="the group of patients; within it, one patient has one key")
    fingerprint: str = Field(description="'sha256:...' of the store")
    labels: tuple[str, ...]
    size: Count | None = Field(None, description="side of the stored images in pixels")
    quarantined: tuple[QuarantinedImage, ...] = Field((), description="files set aside, each with its reason")
    ignored_columns: dict[str, str] = Field({}, description="column of the label table that is not used -> why")
    rows_without_image: Count = 0
    images_without_row: Count = 0
    unmatched_rows: tuple[str, ...] = Field((), description="the first rows without an image; they name no patient")
    unmatched_images: tuple[str, ...] = Field((), description="the first images without a row; they name no patient")
    remarks: tuple[str, ...] = Field((), description="what else is to know of the images and their table")
    same_pixels: tuple[tuple[str, ...], ...] = Field(
        (), description="groups of images that have the same pixels but belong to several patients"
    )
    checks: tuple[CheckRecord, ...] = ()

    @classmethod
    def of(cls, name: str, store: Store, checks: tuple[CheckRecord, ...], **more: Any) -> Self:
        """Make the record of a store; `more` holds the fields that a subclass adds."""
        same = {name: getattr(store, name) for name in ("population", "fingerprint", "labels", "size", "same_pixels")}
        same |= {name: store.manifest[name] for name in _LEFT_OUT}
        same["ignored_columns"] = store.manifest["label_table"]["ignored_columns"]
        quarantined = tuple(QuarantinedImage(image=image, reason=reason) for image, reason in store.quarantine)
        return cls(name=name, quarantined=quarantined, checks=checks, **same, **more)

    @property
    def by_reason(self) -> dict[str, list[str]]:
        """Reason -> files set aside for it, the most frequent reason first."""
        images: dict[str, list[str]] = defaultdict(list)
        for entry in self.quarantined:
            images[entry.reason].append(entry.image)
        return dict(sorted(images.items(), key=lambda item: -len(item[1])))


class TaskRecord(Record):
    """One task on texts, with the texts that it has as a single task."""

    name: str
    fingerprint: str = Field(description="'sha256:...' of its texts, labels and parts")
    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    n: dict[str, Count] = Field(description="texts in train, val and test")
    skipped: Count = Field(0, description="lines without a text")
    notes: tuple[str, ...] = ()


class DataRecord(StoreRecord):
    """The data of a study."""

    split: SplitRecord
    tasks: tuple[TaskRecord, ...] = Field((), description="in a study on texts; `labels` are their names")
    n: dict[str, Count] = Field(description="images, or texts of all tasks, in train, val and test")
    patients: dict[str, Count] = Field({}, description="patients in train, val and test")
    positives: dict[str, dict[str, Count]] = Field(description="part of the split -> label -> positive images")
