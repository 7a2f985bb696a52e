"""Splits into train, validation and test, always by patient.

n images, p patients; row indices are int64 and ascending.

`official` is NIH's own split (Wang et al. 2017) with the validation part that published work carves out of its
training list; `chexnet` is the 70/10/20 split of the public CheXNet reproductions. Of the official test images
17,920 are in chexnet's training set, so a model of one must never be scored on the other's test. Both are by
patient and cover all 30,805 patients of ChestX-ray14, so they are kept as one digit per patient in
``known_splits.npz``: (30805,) uint8 each, 0 train, 1 validation, 2 test, patient 1 first.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from data_prep.errors import DataError
from data_prep.labels.patients import (
    CHESTXRAY14,
    CHESTXRAY14_PATIENTS,
    PUBLIC_KEY,
    in_order_of_appearance,
    patient_keys,
)
from data_prep.settings import Settings

PARTS = ("train", "val", "test")
_KNOWN_SPLITS = Path(__file__).with_name("known_splits.npz")


class SplitSettings(Settings):
    """Which images train, which select, which are scored at the end."""

    name: Literal["official", "chexnet", "random"] = Field(
        "random", description="NIH's own split, the 70/10/20 CheXNet split, or a seeded one by patient"
    )
    shares: tuple[float, float, float] = Field(
        (0.7, 0.1, 0.2), description="shares of the patients in train, validation and test; `random` only"
    )
    seed: int = Field(0, ge=0, description="draws the patients of `random`; other splits ignore it")

    @field_validator("shares")
    @classmethod
    def _shares_make_a_whole(cls, shares: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"the shares of train, validation and test must be positive and sum to 1; got {shares}")
        return shares


@dataclass(frozen=True)
class Split:
    """Row indices of each part, (·,) int64 ascending, and "sha256:..." of which image names are in which part."""

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fingerprint: str


def make_split(settings: SplitSettings, images: np.ndarray, patients: np.ndarray) -> Split:
    """Split n images by patient.

    images: (n,) str names. patients: (n,) str opaque keys, as a store has them. A `random` split depends on the
    names, on which images share a patient, and on the settings, but not on the keys themselves.

    Raises DataError for a known split of other patients than ChestX-ray14's, for an empty part, and for a
    patient in two parts.
    """
    if settings.name == "random":
        part_of_row = _random_parts(settings, images, patients)
    else:
        part_of_row = _known_parts(settings.name, patients)
    rows = {part: np.flatnonzero(part_of_row == number) for number, part in enumerate(PARTS)}
    for part in PARTS:
        if not len(rows[part]):
            remedy = "raise its share" if settings.name == "random" else "use --split random"
            raise DataError(f"split {settings.name!r} leaves {part} none of the {len(images)} images; {remedy}")
    check_disjoint(rows, images, patients)
    return Split(settings.name, **rows, fingerprint=_fingerprint(rows, images))


def check_disjoint(rows: Mapping[str, np.ndarray], images: np.ndarray, patients: np.ndarray) -> None:
    """Raise DataError naming a patient who has images in two parts, and one image in each."""
    seen: dict[str, tuple[str, str]] = {}
    for part, indices in rows.items():
        for image, patient in zip(images[indices].tolist(), patients[indices].tolist(), strict=True):
            other, other_image = seen.setdefault(patient, (part, image))
            if other != part:
                raise DataError(
                    f"patient {patient} is in {other} (image {other_image}) and in {part} (image {image}); "
                    "a split is by patient: move all images of a patient to one part"
                )


def _random_parts(settings: SplitSettings, images: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Return (n,) part numbers, for patients numbered by first appearance among the images sorted by name."""
    by_name = np.argsort(images, kind="stable")
    patient_of_row = np.empty(len(images), dtype=np.int64)
    patient_of_row[by_name] = in_order_of_appearance(patients[by_name])
    p = int(patient_of_row.max(initial=-1)) + 1
    if p < len(PARTS):
        raise DataError(f"{p} patients cannot be split into {', '.join(PARTS)}; each needs one at least")
    val, test = (max(1, round(p * share)) for share in settings.shares[1:])
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=tuple(b"split")))
    part_of_patient = np.zeros(p, dtype=np.int64)
    drawn = rng.permutation(p)
    part_of_patient[drawn[:test]] = PARTS.index("test")
    part_of_patient[drawn[test : test + val]] = PARTS.index("val")
    return part_of_patient[patient_of_row]


def _known_parts(name: str, patients: np.ndarray) -> np.ndarray:
    """Return (n,) part numbers, found by the public keys of ChestX-ray14's patient numbers."""
    with np.load(_KNOWN_SPLITS, allow_pickle=False) as known:
        parts = known[name].tolist()
    numbers = np.arange(1, CHESTXRAY14_PATIENTS + 1).astype(np.str_)
    part_of_key = dict(zip(patient_keys(numbers, CHESTXRAY14, PUBLIC_KEY).tolist(), parts, strict=True))
    strangers = set(patients.tolist()) - part_of_key.keys()
    if strangers:
        raise DataError(
            f"split {name!r} is of ChestX-ray14's patients, and {len(strangers)} of the patients here are not "
            f"among them (key {min(strangers)}); use --split random"
        )
    return np.array([part_of_key[patient] for patient in patients.tolist()])


def _fingerprint(rows: Mapping[str, np.ndarray], images: np.ndarray) -> str:
    names = [sorted(images[rows[part]].tolist()) for part in PARTS]
    return "sha256:" + hashlib.sha256(json.dumps(names).encode()).hexdigest()
