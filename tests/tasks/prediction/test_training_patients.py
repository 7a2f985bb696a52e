"""A file's patient is recognised as one of the training where the file tells it, and never where it cannot be told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.labels.patients import CHESTXRAY14, PUBLIC_KEY, key_fingerprint, patient_keys
from models.evaluation.leakage import hashed_patients
from tasks.images.model_facts import ModelFacts
from tasks.prediction.training_patients import TrainingPatients

SECRET, ANOTHER = b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210"
IDENTIFIERS = st.text(min_size=1, max_size=12)


def facts(patients: list[str], population: str, key: bytes) -> ModelFacts:
    keys = patient_keys(np.array(patients), population, key).tolist()
    return ModelFacts(
        labels=("Mass",),
        size=8,
        trained_on=hashed_patients(population, keys),
        population=population,
        patient_key=key_fingerprint(key),
    )


@given(st.lists(IDENTIFIERS, min_size=1), IDENTIFIERS)
def test_a_dicom_files_patient_is_found_just_where_it_is_one_of_the_training(patients: list[str], other: str) -> None:
    known = TrainingPatients(facts(patients, "local", SECRET), SECRET)
    assert known.known
    assert all(known.includes("any.dcm", patient) for patient in patients)
    assert known.includes("any.dcm", other) == (other in patients)
    assert not known.includes("any.png", "")


@given(st.lists(st.integers(1, 30_805), min_size=1, max_size=5), st.integers(1, 30_805))
def test_the_name_of_an_nih_image_tells_its_patient_and_so_does_its_number_in_dicom(
    patients: list[int], other: int
) -> None:
    known = TrainingPatients(facts([str(each) for each in patients], CHESTXRAY14, PUBLIC_KEY), SECRET)
    for patient in [*patients, other]:
        assert known.includes(f"{patient:08d}_013.png", "") == (patient in patients)
        assert known.includes("any.dcm", str(patient)) == (patient in patients)
        assert known.includes("any.dcm", f"{patient:08d}") == (patient in patients)


@pytest.mark.parametrize("name", ["13.png", "x00000013_000.png", "00000013_0.png", "00000013_0001.png", "13"])
def test_other_names_tell_no_patient(name: str) -> None:
    assert not TrainingPatients(facts(["13"], CHESTXRAY14, PUBLIC_KEY), SECRET).includes(name, "Jane")


def test_the_names_of_images_tell_nothing_of_other_populations() -> None:
    assert not TrainingPatients(facts(["13"], "local", SECRET), SECRET).includes("00000013_000.png", "")


def test_with_another_secret_or_without_the_facts_of_the_patients_nothing_is_said() -> None:
    with_another = TrainingPatients(facts(["Jane"], "local", ANOTHER), SECRET)
    old = TrainingPatients(ModelFacts(labels=("Mass",), size=8, trained_on=("0" * 16,)), SECRET)
    for patients in (with_another, old):
        assert not patients.known
        assert not patients.includes("00000013_000.png", "Jane")
