"""Opaque keys (pseudonyms) of patients and DICOM images: the only patient identity in stores, logs and reports.

A key is a BLAKE2b hash (RFC 7693, 16 bytes) of the population and the identifier in the label table. For ChestX-ray14
and the phantom, whose numbers identify nobody, the hash uses no secret: every machine computes the same keys, so the
two published splits, and the patients that a model was trained on, can be compared between machines. Keys of every
other table use a secret (at most 64 bytes), without which the identifiers cannot be found by trying all of them.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from data_prep.errors import DataError

PUBLIC_KEY = b""
CHESTXRAY14 = "chestxray14"  # the population of NIH's own images
CHESTXRAY14_PATIENTS = 30_805  # numbered from 1
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 16, 64
_NUMBER = re.compile(r"[0-9]{1,8}")


def patient_keys(patients: np.ndarray, population: str, key: bytes) -> np.ndarray:
    """Return the opaque keys of patients, identified as in the label table: (n,) str -> (n,) str of 32 hex digits.

    The same identifier in another population has another key. Identifiers that are public take `PUBLIC_KEY`.
    """
    hashed = {patient: _keyed_hash(f"{population}\0{patient}", key) for patient in set(patients.tolist())}
    return np.array([hashed[patient] for patient in patients.tolist()], dtype="<U32")


def opaque_name(image: str, population: str, key: bytes) -> str:
    """Return the opaque name of a DICOM image in a store, because its file name may be the patient's name or a UID.

    It is 32 hexadecimal digits and ``.dcm``. With the secret `key` (see `patient_keys`), its file can be found by
    computing the names of all files in the folder again.
    """
    return _keyed_hash(f"{population}\0image\0{image}", key) + ".dcm"


def opaque_path(path: str, population: str, key: bytes) -> str:
    """Return the opaque key of a file by its path, 32 hexadecimal digits; a path may name a patient.

    The key of a public population is hashed with `PUBLIC_KEY`, as its patients are.
    """
    return _keyed_hash(f"{population}\0path\0{path}", key)


def _keyed_hash(text: str, key: bytes) -> str:
    """Hash any text, one that is no valid Unicode too: files of strangers name patients with half a character."""
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16, key=key).hexdigest()


def compare_patient_ids(in_files: Sequence[str], in_table: np.ndarray) -> tuple[int, int]:
    """Compare the patients that DICOM files name with those of the label table.

    If the files of two patients of the table name the same person, a split by the table's patients could put that
    person into two parts. A patient identifier that all files share is a placeholder and is ignored.

    Args:
        in_files: n opaque keys of the patients in the files; "" if a file names none.
        in_table: (n,) str, the patients in the table.

    Returns:
        The number of images whose file names a patient, and the number of the table's patients that share a person
        with another patient of the table.
    """
    named = {key for key in in_files if key}
    first: dict[str, str] = {}
    joined: set[str] = set()
    if len(named) > 1:
        for key, patient in zip(in_files, in_table.tolist(), strict=True):
            if key and (other := first.setdefault(key, patient)) != patient:
                joined |= {other, patient}
    return sum(map(bool, in_files)), len(joined)


def check_secret(key: bytes) -> bytes:
    """Return the secret `key` if its length is allowed; raise DataError if it is too short or too long."""
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise DataError(
            f"the secret for patient keys has {len(key)} bytes; it needs {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}"
        )
    return key


def key_fingerprint(key: bytes) -> str:
    """Return a short fingerprint that distinguishes secrets without revealing them; "public" for no secret."""
    return hashlib.blake2b(b"name of the key", digest_size=8, key=key).hexdigest() if key else "public"


def number_patients(patients: np.ndarray) -> np.ndarray:
    """Return the patients as numbers 0, 1, ... by first appearance, whatever their keys: (n,) str -> (n,) int64."""
    _, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def has_public_numbers(images: np.ndarray, patients: np.ndarray) -> bool:
    """Check whether all rows are numbered as in ChestX-ray14: 00000013_008.png is an image of patient 13."""
    return all(
        _NUMBER.fullmatch(patient)
        and 1 <= int(patient) <= CHESTXRAY14_PATIENTS
        and image.startswith(f"{int(patient):08d}_")
        for image, patient in zip(images.tolist(), patients.tolist(), strict=True)
    )
