"""Train/validation/test splits, always by patient.

n images, p patients; row indices are int64 and ascending.

`official` is NIH's own split (Wang et al. 2017), with the validation part that published work splits off its training
list. `chexnet` is the 70/10/20 split of the public CheXNet reproductions. 17,920 of the official test images are in the
training part of `chexnet`, so a model trained on one split must never be scored on the test part of the other. Both are
by patient and cover all 30,805 patients of ChestX-ray14, so ``known_splits.npz`` stores one number per patient:
(30805,) uint8 for each split; 0 train, 1 validation, 2 test; patient 1 first.

`random` permutes all patients, so that one newcomer moves many of them to another part. `hashed` is for data that grow:
a patient's part depends on nothing but the patient's key, the seed and the shares, so newcomers move nobody. Its parts
have the wanted shares only on average: of p patients, a part with share q gets p q, give or take sqrt(p q (1 - q)).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data_prep.errors import DataError
from data_prep.labels.patients import (
    CHESTXRAY14,
    CHESTXRAY14_PATIENTS,
    PUBLIC_KEY,
    number_patients,
    patient_keys,
)
from data_prep.settings import Seed, Settings

PARTS = ("train", "val", "test")
KNOWN = ("official", "chexnet")
"""The published splits."""

_KNOWN_SPLITS = Path(__file__).with_name("known_splits.npz")


Part = Annotated[float, Field(ge=0, le=1)]


class SplitSettings(Settings):
    """How the patients are split into training, validation and test parts."""

    name: Literal["official", "chexnet", "random", "hashed"] = Field(
        "random",
        description="NIH's own split, the 70/10/20 CheXNet split, a random split by patient with a seed, or one by a "
        "hash of each patient, which new patients do not change",
    )
    shares: tuple[Part, Part, Part] = Field(
        (0.7, 0.1, 0.2),
        description="shares of the patients in train, validation and test, only for `random` and `hashed`; sum 1",
    )
    seed: Seed = Field(0, description="seed of a `random` or `hashed` split; other splits ignore it")

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: tuple[float, float, float]) -> tuple[float, float, float]:
        if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise ValueError(f"the shares of train, validation and test must be positive and sum to 1; got {shares}")
        return shares


@dataclass(frozen=True, eq=False)
class Split:
    """A split of the images; equal to itself only, so that what was computed from it can be remembered.

    Attributes:
        name: "official", "chexnet", "random" or "hashed"; of images by class "given" or "random".
        train: row indices of the training part, int64 ascending.
        val: row indices of the validation part.
        test: row indices of the test part.
        fingerprint: "sha256:..." of the image names in each part.
    """

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    fingerprint: str


def make_split(
    settings: SplitSettings, images: np.ndarray, patients: np.ndarray, same_pixels: Sequence[Sequence[str]] = ()
) -> Split:
    """Split n images by patient.

    A `random` split depends on the image names, on which images share a patient, and on the settings, but not on the
    patient keys themselves. It keeps patients together who share a picture. A `hashed` split cannot, as a newcomer
    would move the patient with whom a picture is shared, and a published split is taken as it is:
    `count_in_several_parts` tells how many pictures stand in two parts.

    Args:
        settings: which split.
        images: (n,) str names.
        patients: (n,) str opaque keys, as in a store.
        same_pixels: groups of images of several patients whose pixels are the same, as in a store.

    Returns:
        The row indices of each part.

    Raises:
        DataError: `official` or `chexnet` is requested for patients who are not in ChestX-ray14, a part is empty, or
            a patient is in two parts.
    """
    if settings.name == "random":
        part_of_row = _random_parts(settings, images, join_patients(images, patients, same_pixels))
    elif settings.name == "hashed":
        part_of_row = _hashed_parts(settings, patients)
    else:
        part_of_row = _known_parts(settings.name, patients)
    rows = {part: np.flatnonzero(part_of_row == number) for number, part in enumerate(PARTS)}
    for part in PARTS:
        if not len(rows[part]):
            remedy = "use --split random" if settings.name in KNOWN else "raise its share, or add patients"
            raise DataError(f"split {settings.name!r} gives part {part} none of the {len(images)} images; {remedy}")
    check_disjoint(rows, images, patients)
    return Split(settings.name, **rows, fingerprint=parts_fingerprint(rows, images))


def check_disjoint(rows: Mapping[str, np.ndarray], images: np.ndarray, patients: np.ndarray) -> None:
    """Check that no patient has images in two parts.

    Args:
        rows: row indices of each part, by the part's name.
        images: (n,) str names.
        patients: (n,) str opaque keys.

    Raises:
        DataError: a patient is in two parts; the message names one image in each.
    """
    seen: dict[str, tuple[str, str]] = {}
    for part, indices in rows.items():
        for image, patient in zip(images[indices].tolist(), patients[indices].tolist(), strict=True):
            other, other_image = seen.setdefault(patient, (part, image))
            if other != part:
                raise DataError(
                    f"patient {patient} is in {other} (image {other_image}) and in {part} (image {image}); "
                    "a split is by patient: move all images of a patient to one part"
                )


def join_patients(images: np.ndarray, patients: np.ndarray, same_pixels: Sequence[Sequence[str]]) -> np.ndarray:
    """Give patients who share a picture, also by way of others, one and the same key.

    Args:
        images: (n,) str names.
        patients: (n,) str opaque keys.
        same_pixels: groups of images whose pixels are the same.

    Returns:
        (n,) str keys.
    """
    if not same_pixels:
        return patients
    numbers = number_patients(patients)
    row_of = {image: row for row, image in enumerate(images.tolist())}
    pairs = [[numbers[row_of[group[0]]], numbers[row_of[image]]] for group in same_pixels for image in group[1:]]
    ends = np.array(pairs).T
    count = int(numbers.max()) + 1
    graph = coo_array((np.ones(len(pairs)), (ends[0], ends[1])), shape=(count, count))
    return connected_components(graph, directed=False)[1][numbers].astype(np.str_)


def count_in_several_parts(split: Split, images: np.ndarray, same_pixels: Sequence[Sequence[str]]) -> int:
    """Count the groups of images with the same pixels that stand in several parts of a split of n `images`."""
    part_of = {image: part for part in PARTS for image in images[getattr(split, part)].tolist()}
    return sum(len({part_of[image] for image in group}) > 1 for group in same_pixels)


def _random_parts(settings: SplitSettings, images: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """Draw a random split, with patients numbered by first appearance in the sorted images; return (n,) parts."""
    by_name = np.argsort(images, kind="stable")
    patient_of_row = np.empty(len(images), dtype=np.int64)
    patient_of_row[by_name] = number_patients(patients[by_name])
    p = int(patient_of_row.max(initial=-1)) + 1
    if p < len(PARTS):
        raise DataError(f"{p} patients cannot be split into {', '.join(PARTS)}; each part needs at least one")
    val, test = (max(1, round(p * share)) for share in settings.shares[1:])
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=tuple(b"split")))
    part_of_patient = np.zeros(p, dtype=np.int64)
    drawn = rng.permutation(p)
    part_of_patient[drawn[:test]] = PARTS.index("test")
    part_of_patient[drawn[test : test + val]] = PARTS.index("val")
    return part_of_patient[patient_of_row]


def _hashed_parts(settings: SplitSettings, patients: np.ndarray) -> np.ndarray:
    """Give each patient a place in [0, 1) by a hash: first the share of test, then validation; return (n,) parts."""
    seed = settings.seed.to_bytes(8, "little")
    hashes = {patient: hashlib.blake2b(patient.encode(), digest_size=8, key=seed) for patient in set(patients.tolist())}
    place = {patient: int.from_bytes(found.digest(), "little") / 2**64 for patient, found in hashes.items()}
    _, val, test = settings.shares
    order = np.array([PARTS.index(part) for part in ("test", "val", "train")])
    return order[np.searchsorted([test, test + val], [place[key] for key in patients.tolist()], side="right")]


def _known_parts(name: str, patients: np.ndarray) -> np.ndarray:
    """Look up the patients of a published split by their public keys; return (n,) part numbers."""
    with np.load(_KNOWN_SPLITS, allow_pickle=False) as known:
        parts = known[name].tolist()
    numbers = np.arange(1, CHESTXRAY14_PATIENTS + 1).astype(np.str_)
    part_of_key = dict(zip(patient_keys(numbers, CHESTXRAY14, PUBLIC_KEY).tolist(), parts, strict=True))
    unknown = set(patients.tolist()) - part_of_key.keys()
    if unknown:
        raise DataError(
            f"split {name!r} contains only patients of ChestX-ray14, and {len(unknown)} of the patients here are "
            f"not among them (key {min(unknown)}); use --split random"
        )
    return np.array([part_of_key[patient] for patient in patients.tolist()])


def parts_fingerprint(rows: Mapping[str, np.ndarray], images: np.ndarray) -> str:
    """Return "sha256:..." of the image names in each part, given its row indices."""
    names = [sorted(images[rows[part]].tolist()) for part in PARTS]
    return "sha256:" + hashlib.sha256(json.dumps(names).encode()).hexdigest()
