"""Which patients a model was trained on, and the refusal to score it on them.

Two splits of ChestX-ray14 are in wide use, and most test images of one are training images of the other. So a
model carries a hash of every patient it has seen; what it may be scored on is decided by them, whatever the
split is called. A patient is a key within a population, so another hospital's patient 17 is another person.
"""

import hashlib
from collections.abc import Collection, Iterable

from models.errors import SettingError


def hashed_patients(population: str, patients: Iterable[str]) -> tuple[str, ...]:
    """Hashes of the distinct patients, 16 hexadecimal digits each, sorted.

    Args:
        population: name of the group of people within which the keys are unique, as the store has it.
        patients: opaque patient keys, repeated or not.
    """
    group = hashlib.blake2b(population.encode(), digest_size=32).digest()
    keys = {str(patient) for patient in patients}
    return tuple(sorted(hashlib.blake2b(key.encode(), digest_size=8, key=group).hexdigest() for key in keys))


def check_disjoint(trained_on: Collection[str], scored_on: Collection[str]) -> None:
    """Refuses to score a model on patients that it was trained on.

    Args:
        trained_on, scored_on: hashes by `hashed_patients`.

    Raises:
        SettingError: the two share a patient.
    """
    shared = set(trained_on) & set(scored_on)
    if shared:
        raise SettingError(
            f"{len(shared)} of {len(set(scored_on))} patients to be scored are among the patients the model was "
            "trained on: score it on the test set of the split it was trained with, or on another population"
        )
