import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import SettingError
from models.evaluation.leakage import check_disjoint, hashed_patients


def test_a_model_is_not_scored_on_a_patient_it_was_trained_on():
    with pytest.raises(SettingError, match="1 of 2 patients to be scored are among the patients"):
        check_disjoint(hashed_patients("nih", ["1", "2"]), hashed_patients("nih", ["2", "3"]))


def test_the_same_number_in_another_hospital_is_another_patient():
    check_disjoint(hashed_patients("nih", ["1", "2"]), hashed_patients("elsewhere", ["1", "2"]))


@settings(deadline=None)
@given(st.lists(st.text()), st.text())
def test_hashes_are_16_hexadecimal_digits_one_for_each_patient_in_any_order(patients, population):
    hashes = hashed_patients(population, patients)
    assert len(hashes) == len(set(patients))
    assert all(len(h) == 16 and int(h, 16) >= 0 for h in hashes)
    assert hashes == hashed_patients(population, reversed(patients * 2))
