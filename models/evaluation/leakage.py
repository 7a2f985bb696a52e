"""Patient leakage: hashes of a model's training patients, and the check that it is not scored on them.

Two splits of ChestX-ray14 are in wide use, and most test images of one are training images of the other. Therefore a
model stores a hash of every patient it was trained on, and these hashes, not the name of the split, decide which
patients it may be scored on. A patient key is unique within a population: patient 17 of another hospital is another
person.
"""

import hashlib
from collections.abc import Collection, Iterable

from models.errors import SettingError


def hashed_patients(population: str, patients: Iterable[str]) -> tuple[str, ...]:
    """Hash patient keys.

    Args:
        population: name of the group of people within which the keys are unique, as recorded in the store.
        patients: opaque patient keys; repetitions are ignored.

    Returns:
        Sorted hashes of the distinct patients, 16 hexadecimal digits each.
    """
    group = hashlib.blake2b(population.encode(), digest_size=32).digest()
    keys = {str(patient) for patient in patients}
    return tuple(sorted(hashlib.blake2b(key.encode(), digest_size=8, key=group).hexdigest() for key in keys))


def check_disjoint(trained_on: Collection[str], scored_on: Collection[str]) -> None:
    """Check that a model is not scored on patients that it was trained on; both are hashes by `hashed_patients`.

    Raises:
        SettingError: the two have a patient in common.
    """
    shared = set(trained_on) & set(scored_on)
    if shared:
        raise SettingError(
            f"{len(shared)} of {len(set(scored_on))} patients to be scored are among the patients the model was "
            "trained on: score it on the test set of the split it was trained with, or on another population"
        )
