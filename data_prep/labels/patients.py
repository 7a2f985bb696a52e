"""Opaque keys of patients and DICOM images: all of a patient's identity that a store, a log or a report holds.

A key is BLAKE2b (RFC 7693, 16 bytes) of the population and the table's own identifier. For ChestX-ray14 and the
phantom, whose numbers identify nobody, the hash has no secret: everybody computes the same keys, so that the two
published splits and the patients a model has seen can be compared between machines. Every other table's keys are
made with a secret (64 bytes at most), without which the identifiers cannot be found by trying them all.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

from data_prep.errors import DataError

PUBLIC_KEY = b""
CHESTXRAY14 = "chestxray14"  # the population of NIH's own images
CHESTXRAY14_PATIENTS = 30_805  # numbered from 1
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 16, 64


def patient_keys(patients: np.ndarray, population: str, key: bytes) -> np.ndarray:
    """Return the opaque keys of `patients`: (n,) str -> (n,) str of 32 hexadecimal digits.

    One patient of one population has one key; the same identifier in another population has another.
    """
    hashed = {
        patient: hashlib.blake2b(f"{population}\0{patient}".encode(), digest_size=16, key=key).hexdigest()
        for patient in set(patients.tolist())
    }
    return np.array([hashed[patient] for patient in patients.tolist()], dtype="<U32")


def opaque_name(image: str, population: str, key: bytes) -> str:
    """Return the name of a DICOM image in a store: its file's own name may be the patient's, or a UID.

    Whoever has the key finds the file behind a name by naming the files of the folder again.
    """
    return hashlib.blake2b(f"{population}\0image\0{image}".encode(), digest_size=16, key=key).hexdigest() + ".dcm"


def patients_in_both(in_files: Sequence[str], in_table: np.ndarray) -> tuple[int, int]:
    """Return how many images name their patient, and how many patients of the table those names join.

    in_files: n keys, "" where the file names nobody. in_table: (n,) str. Two patients of the table whose files name
    one person would let a split put that person on both sides. A name that all files share is a placeholder.
    """
    named = {key for key in in_files if key}
    rows: dict[str, set[str]] = {key: set() for key in named if len(named) > 1}
    for key, patient in zip(in_files, in_table.tolist(), strict=True):
        if key in rows:
            rows[key].add(patient)
    joined = set().union(*(patients for patients in rows.values() if len(patients) > 1))
    return sum(map(bool, in_files)), len(joined)


def check_secret(key: bytes) -> bytes:
    """Return `key` if it can keep identifiers secret; DataError if it is too short or too long."""
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise DataError(
            f"the secret for patient keys has {len(key)} bytes; it needs {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
        )
    return key


def key_name(key: bytes) -> str:
    """Return a short name that tells two secrets apart without giving either away; "public" for none."""
    return hashlib.blake2b(b"name of the key", digest_size=8, key=key).hexdigest() if key else "public"


def in_order_of_appearance(patients: np.ndarray) -> np.ndarray:
    """Number the patients 0, 1, ... by first appearance: (n,) str -> (n,) int64. The keys themselves drop out."""
    _, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def has_public_numbers(images: np.ndarray, patients: np.ndarray) -> bool:
    """Tell whether the rows are numbered as ChestX-ray14's: 00000013_008.png is an image of patient 13."""
    return all(
        patient.isdigit() and 1 <= int(patient) <= CHESTXRAY14_PATIENTS and image.startswith(f"{int(patient):08d}_")
        for image, patient in zip(images.tolist(), patients.tolist(), strict=True)
    )
