"""Opaque patient keys."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.labels.patients import (
    PUBLIC_KEY,
    check_secret,
    compare_patient_ids,
    has_public_numbers,
    key_fingerprint,
    number_patients,
    opaque_name,
    patient_keys,
)

SECRET = b"0123456789abcdef"


@given(st.lists(st.text(st.characters() | st.sampled_from("\ud800\udfff"), max_size=5), max_size=30))
def test_keys_group_rows_as_the_identifiers_do(patients: list[str]) -> None:
    keys = patient_keys(np.array(patients, dtype=np.str_), "here", SECRET)
    numbers = number_patients(keys).tolist()
    naive: dict[str, int] = {}
    # numpy's str arrays drop trailing NULs, so compare with what the array holds
    held = np.array(patients, dtype=np.str_).tolist()
    assert numbers == [naive.setdefault(patient, len(naive)) for patient in held]


def test_a_key_depends_on_the_secret_and_the_population_and_tells_neither() -> None:
    patients = np.array(["Jane Doe"])
    keys = {
        patient_keys(patients, population, key)[0]
        for population in ("here", "there")
        for key in (PUBLIC_KEY, SECRET, SECRET[::-1])
    }
    assert len(keys) == 6
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)


def test_the_public_key_of_a_patient_is_the_same_everywhere() -> None:
    assert patient_keys(np.array(["1"]), "chestxray14", PUBLIC_KEY)[0] == "222f911eca39bfbffcd268ca8bd1188a"


@pytest.mark.parametrize("secret", [b"", b"short", b"x" * 65])
def test_a_secret_that_is_too_short_or_too_long_is_refused(secret: bytes) -> None:
    with pytest.raises(DataError, match=f"has {len(secret)} bytes; it needs 16 to 64"):
        check_secret(secret)


def test_secrets_have_different_names_and_no_secret_is_public() -> None:
    assert key_fingerprint(PUBLIC_KEY) == "public"
    assert len({key_fingerprint(SECRET), key_fingerprint(SECRET[::-1]), "public"}) == 3


@pytest.mark.parametrize(
    ("image", "patient", "public"),
    [
        ("00000013_008.png", "13", True),
        ("00000013_008.png", "14", False),
        ("00030806_000.png", "30806", False),
        ("chest.png", "13", False),
        ("00000013_008.png", "Doe", False),
        ("00000013_008.png", "²", False),
        ("00000013_008.png", "9" * 1000, False),
    ],
)
def test_only_nihs_own_numbering_needs_no_secret(image: str, patient: str, public: bool) -> None:
    assert has_public_numbers(np.array([image]), np.array([patient])) is public


@given(st.text(st.sampled_from("aé\ud800\udfff"), min_size=1))
def test_any_text_of_a_file_has_a_key_half_a_character_too(text: str) -> None:
    assert len(opaque_name(text, "here", SECRET)) == 36


def test_an_images_opaque_name_depends_on_name_population_and_secret() -> None:
    names = {opaque_name(*given) for given in [("a", "here", SECRET), ("b", "here", SECRET), ("a", "there", SECRET)]}
    names.add(opaque_name("a", "here", SECRET[::-1]))
    names.add(str(patient_keys(np.array(["a"]), "here", SECRET)[0]) + ".dcm")
    assert len(names) == 5
    assert opaque_name("a", "here", SECRET) in names
    assert all(len(name) == 36 and name.endswith(".dcm") for name in names)


@pytest.mark.parametrize(
    ("in_files", "in_table", "found"),
    [
        (["x", "x", "y"], ["a", "a", "b"], (3, 0)),
        (["x", "x", "y"], ["a", "b", "c"], (3, 2)),
        (["x", "x", "y", "y", ""], ["a", "b", "b", "c", "d"], (4, 3)),
        (["x", "x", "x"], ["a", "b", "c"], (3, 0)),
        (["", ""], ["a", "b"], (0, 0)),
    ],
)
def test_patients_that_files_join_are_counted_unless_all_files_say_the_same(
    in_files: list[str], in_table: list[str], found: tuple[int, int]
) -> None:
    assert compare_patient_ids(in_files, np.array(in_table)) == found
