"""Splits by patient."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.errors import DataError
from data_prep.labels.patients import CHESTXRAY14, PUBLIC_KEY, patient_keys
from data_prep.labels.splits import (
    PARTS,
    Split,
    SplitSettings,
    check_disjoint,
    count_in_several_parts,
    join_patients,
    make_split,
)
from data_prep.labels.table import read_labels

SECRETS = b"0123456789abcdef", b"fedcba9876543210"


def rows_of(patients: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """One image a row, named so that the names' order is not the rows'."""
    images = np.array([f"{hash((row, 7)) % 10**9:09d}_{row}.png" for row in range(len(patients))])
    return images, np.array([str(patient) for patient in patients])


@given(st.lists(st.integers(0, 20), min_size=3).filter(lambda drawn: len(set(drawn)) >= 3), st.integers(0, 99))
def test_a_random_split_covers_every_row_once_and_no_patient_twice(patients: list[int], seed: int) -> None:
    images, numbers = rows_of(patients)
    split = make_split(SplitSettings(seed=seed), images, numbers)
    parts = [split.train, split.val, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(patients)))
    assert all(np.array_equal(part, np.sort(part)) and part.dtype == np.int64 for part in parts)
    who = [set(numbers[part].tolist()) for part in parts]
    assert not who[0] & who[1]
    assert not who[0] & who[2]
    assert not who[1] & who[2]


def test_the_shares_are_of_patients() -> None:
    images, patients = rows_of([row // 3 for row in range(300)])
    split = make_split(SplitSettings(shares=(0.5, 0.2, 0.3)), images, patients)
    assert [len(set(patients[getattr(split, part)])) for part in PARTS] == [50, 20, 30]


@given(st.integers(0, 5), st.randoms(use_true_random=False))
def test_neither_the_secret_nor_the_order_of_rows_changes_a_random_split(seed: int, random: object) -> None:
    images, patients = rows_of([row // 4 for row in range(80)])
    order = np.array(sorted(range(80), key=lambda _: random.random()))  # type: ignore[attr-defined]
    settings = SplitSettings(seed=seed)
    splits = [
        make_split(settings, images, patient_keys(patients, "here", SECRETS[0])),
        make_split(settings, images, patient_keys(patients, "here", SECRETS[1])),
        make_split(settings, images[order], patient_keys(patients[order], "here", SECRETS[0])),
    ]
    assert len({split.fingerprint for split in splits}) == 1
    assert set(images[splits[0].val]) == set(images[order][splits[2].val])


people = st.sets(st.text("0123456789abcdef", min_size=4, max_size=8), min_size=150, max_size=300)
HASHED = SplitSettings(name="hashed", shares=(0.5, 0.25, 0.25))


def parts_of(split: Split, patients: np.ndarray) -> dict[str, str]:
    return {patient: part for part in PARTS for patient in patients[getattr(split, part)].tolist()}


@given(people, people)
def test_newcomers_move_nobody_in_a_hashed_split(here: set[str], newcomers: set[str]) -> None:
    before, after = (np.array(sorted(known)) for known in (here, here | newcomers))
    first, second = (parts_of(make_split(HASHED, who, who), who) for who in (before, after))
    assert {patient: second[patient] for patient in here} == first
    assert set(second) == here | newcomers


def test_newcomers_move_others_in_a_random_split() -> None:
    patients = np.array([f"{number:04d}" for number in range(201)])
    first, second = (parts_of(make_split(SplitSettings(), who, who), who) for who in (patients[:-1], patients))
    assert any(first[patient] != second[patient] for patient in first)


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.5, 0.25, 0.25), (0.1, 0.8, 0.1)])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_hashed_split_has_its_shares_up_to_chance(shares: tuple[float, float, float], seed: int) -> None:
    p = 20_000
    patients = patient_keys(np.arange(p).astype(np.str_), "here", SECRETS[0])
    split = make_split(SplitSettings(name="hashed", shares=shares, seed=seed), patients, patients)
    for part, share in zip(PARTS, shares, strict=True):
        assert abs(len(getattr(split, part)) - p * share) < 4 * (p * share * (1 - share)) ** 0.5


def test_another_seed_gives_another_hashed_split_and_a_smaller_test_part_only_shrinks() -> None:
    patients = np.array([f"{number:04d}" for number in range(300)])

    def test_part(seed: int, test: float) -> set[int]:
        settings = SplitSettings(name="hashed", shares=(0.8 - test, 0.2, test), seed=seed)
        return set(make_split(settings, patients, patients).test.tolist())

    assert test_part(0, 0.3) != test_part(1, 0.3)
    assert test_part(0, 0.1) < test_part(0, 0.3)


def test_a_hashed_split_leaves_patients_who_share_a_picture_where_they_are_and_counts_the_picture() -> None:
    patients = np.array([f"{number:04d}" for number in range(60)])
    alone = make_split(HASHED, patients, patients)
    pair = [str(patients[alone.train[0]]), str(patients[alone.test[0]])]
    assert make_split(HASHED, patients, patients, [pair]).fingerprint == alone.fingerprint
    assert count_in_several_parts(alone, patients, [pair]) == 1


def test_a_part_that_nobody_is_hashed_into_is_named_with_the_remedy() -> None:
    patients = np.array(["a", "b", "c"])
    with pytest.raises(DataError, match=r"gives part .* none of the 3 images; raise its share, or add patients"):
        make_split(SplitSettings(name="hashed", shares=(0.98, 0.01, 0.01)), patients, patients)


def test_the_fingerprint_is_of_the_partition_and_nothing_else() -> None:
    images, patients = rows_of([row // 4 for row in range(80)])
    first = make_split(SplitSettings(seed=0), images, patients)
    assert make_split(SplitSettings(seed=0), images, patients).fingerprint == first.fingerprint
    assert make_split(SplitSettings(seed=1), images, patients).fingerprint != first.fingerprint
    assert first.fingerprint.startswith("sha256:")


def test_a_patient_in_two_parts_is_named() -> None:
    images, patients = np.array(["a.png", "b.png", "c.png"]), np.array(["x", "y", "x"])
    with pytest.raises(DataError, match=r"patient x is in train \(image a.png\) and in test \(image c.png\)"):
        check_disjoint({"train": np.array([0, 1]), "test": np.array([2])}, images, patients)


@pytest.mark.parametrize("name", ["official", "chexnet"])
def test_a_known_split_of_other_patients_is_refused(name: str) -> None:
    images, patients = rows_of([1, 2, 3])
    for population, key in (("elsewhere", PUBLIC_KEY), (CHESTXRAY14, SECRETS[0])):
        with pytest.raises(DataError, match=r"3 of the patients here are not.*use --split random"):
            make_split(SplitSettings(name=name), images, patient_keys(patients, population, key))


def test_a_number_beyond_nihs_is_not_in_a_known_split() -> None:
    images, patients = rows_of([1, 30_805, 30_806])
    with pytest.raises(DataError, match="1 of the patients here"):
        make_split(SplitSettings(name="official"), images, patient_keys(patients, CHESTXRAY14, PUBLIC_KEY))


def test_an_empty_part_is_refused() -> None:
    images, patients = rows_of([1, 1, 2])
    keys = patient_keys(patients, CHESTXRAY14, PUBLIC_KEY)
    with pytest.raises(DataError, match="gives part val none of the 3 images; use --split random"):
        make_split(SplitSettings(name="official"), images, keys)
    with pytest.raises(DataError, match="2 patients cannot be split"):
        make_split(SplitSettings(), images, keys)


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.1), (0.8, 0.0, 0.2), (1.2, -0.4, 0.2)])
def test_shares_that_are_no_whole_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError, match=r"must be positive and sum to 1|less than or equal to 1"):
        SplitSettings(shares=shares)


LISTS = {
    "official": {"test": "split_official/test_list.txt", "val": "split_official/val_list_common.txt"},
    "chexnet": {part: f"splits_70_10_20/{part}_list.txt" for part in PARTS},
}
SIZES = {"official": (75_312, 11_212, 25_596), "chexnet": (78_468, 11_219, 22_433)}


@pytest.mark.parametrize("name", LISTS)
def test_the_known_splits_are_the_published_lists(shared_data: Path, name: str) -> None:
    nih = shared_data / "nih"
    table = read_labels(nih / "Data_Entry_2017_v2020.csv.gz")
    split = make_split(SplitSettings(name=name), table.images, patient_keys(table.patients, CHESTXRAY14, PUBLIC_KEY))
    assert (len(split.train), len(split.val), len(split.test)) == SIZES[name]
    for part, published in LISTS[name].items():
        assert set(table.images[getattr(split, part)].tolist()) == set((nih / published).read_text().split())


@st.composite
def shared_pictures(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Patients of rows, and groups of rows that show the same picture."""
    patients = draw(st.lists(st.integers(0, 30), min_size=12, max_size=60))
    rows = st.integers(0, len(patients) - 1)
    return patients, draw(st.lists(st.lists(rows, min_size=2, max_size=4, unique=True), max_size=8))


def joined_naively(patients: list[int], groups: list[list[int]]) -> list[int]:
    """The smallest patient that each can be reached from, by repeating until nothing changes."""
    smallest = {patient: patient for patient in patients}
    while True:
        before = dict(smallest)
        for group in groups:
            least = min(smallest[patients[row]] for row in group)
            smallest |= {patients[row]: least for row in group}
        if smallest == before:
            return [smallest[patient] for patient in patients]


@given(shared_pictures())
def test_patients_who_share_a_picture_by_way_of_others_too_are_joined(drawn: tuple[list[int], list[list[int]]]) -> None:
    patients, groups = drawn
    images, numbers = rows_of(patients)
    joined = join_patients(images, numbers, [images[group].tolist() for group in groups])
    naive = joined_naively(patients, groups)
    assert len(set(zip(joined.tolist(), naive, strict=True))) == len(set(joined.tolist())) == len(set(naive))


@given(shared_pictures(), st.integers(0, 99))
def test_a_random_split_has_no_picture_on_two_sides(drawn: tuple[list[int], list[list[int]]], seed: int) -> None:
    patients, groups = drawn
    images, numbers = rows_of(patients)
    same = [images[group].tolist() for group in groups]
    if len(set(joined_naively(patients, groups))) < len(PARTS):
        return
    split = make_split(SplitSettings(seed=seed), images, numbers, same)
    assert count_in_several_parts(split, images, same) == 0


def test_shared_pictures_change_no_split_where_there_are_none_and_are_counted_in_a_published_one() -> None:
    images, patients = rows_of([row // 4 for row in range(80)])
    settings = SplitSettings(seed=3)
    plain = make_split(settings, images, patients)
    assert make_split(settings, images, patients, ()).fingerprint == plain.fingerprint
    same = [[images[plain.train[0]], images[plain.test[0]]], [images[plain.train[0]], images[plain.train[1]]]]
    assert count_in_several_parts(plain, images, same) == 1
