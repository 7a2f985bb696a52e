"""Whether a file's patient is one of those that a model was trained on, where the file tells its patient.

A DICOM file tells its patient by Patient ID. The names of ChestX-ray14's images tell theirs: 00000013_008.png is of
patient 13.
"""

import re

import numpy as np

from data_prep.labels.patients import PUBLIC_KEY, key_fingerprint, patient_keys
from models.evaluation.leakage import hashed_patients
from tasks.images.model_facts import ModelFacts

_NUMBERED = re.compile(r"([0-9]{8})_[0-9]{3}\b")  # at the beginning of a name of ChestX-ray14


class TrainingPatients:
    """The patients of a model's training.

    Attributes:
        known: whether files can be compared with them; not if the model does not say whose patients they are, or
            another secret than this machine's made their keys.
    """

    def __init__(self, facts: ModelFacts, secret: bytes) -> None:
        """Take a model's facts, and the secret with which this machine makes the keys of patients."""
        self._trained_on = frozenset(facts.trained_on)
        self._population = facts.population or ""
        self._is_public = facts.patient_key == key_fingerprint(PUBLIC_KEY)
        self._key = PUBLIC_KEY if self._is_public else secret
        self.known = facts.population is not None and facts.patient_key == key_fingerprint(self._key)

    def includes(self, name: str, patient_id: str) -> bool:
        """Tell whether the patient of a file is one of them.

        Args:
            name: of the file, without its folders.
            patient_id: in the file; "" if it names none.
        """
        told = [patient_id] if patient_id else []
        if self._is_public:
            numbers = [found[1] for found in [_NUMBERED.match(name)] if found]
            told = [str(int(each)) for each in [*told, *numbers] if re.fullmatch("[0-9]{1,8}", each)]
        if not self.known or not told:
            return False
        keys = patient_keys(np.array(told), self._population, self._key)
        return not self._trained_on.isdisjoint(hashed_patients(self._population, keys.tolist()))
