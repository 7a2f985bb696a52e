"""Tests of drift: each equals its naive form, holds its level where samples are small, and says why it is not made."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation.drift import (
    FEWEST_NIGHTS,
    compare_count,
    compare_shares,
    compare_values,
    images_together,
    one_image_per_patient,
)

# --- One image per patient ---


def names(n: int) -> NDArray:
    return np.array([f"{i:05d}.png" for i in range(n)])


def test_each_patient_is_drawn_once() -> None:
    patients = np.random.default_rng(0).integers(50, size=400)
    rows = one_image_per_patient(patients, names(400), most=1000)
    assert sorted(patients[rows]) == sorted(set(patients.tolist()))
    assert list(rows) == sorted(rows)


def test_the_draw_of_a_patient_does_not_change_with_the_images_of_others_or_their_order() -> None:
    rng = np.random.default_rng(1)
    patients, images = rng.integers(60, size=300), names(300)
    drawn = set(images[one_image_per_patient(patients, images, 1000)].tolist())
    some = rng.permutation(np.flatnonzero(patients < 20))
    of_some = images[some][one_image_per_patient(patients[some], images[some], 1000)]
    assert set(of_some.tolist()) == drawn & set(images[some].tolist())


def test_every_image_of_a_patient_is_drawn_equally_often() -> None:
    patients = np.repeat(np.arange(6000), 3)
    rows = one_image_per_patient(patients, names(18_000), most=10_000)
    assert np.bincount(rows % 3) == pytest.approx(2000, abs=130)


def test_at_most_so_many_patients_are_drawn_at_random() -> None:
    patients = np.repeat(np.arange(2000), 2)
    rows = one_image_per_patient(patients, names(4000), most=500)
    assert len(set(patients[rows].tolist())) == len(rows) == 500
    assert np.mean(patients[rows]) == pytest.approx(1000, abs=80)
    assert len(one_image_per_patient(patients[:0], names(0), most=500)) == 0


@given(st.lists(st.integers(0, 5)))
def test_images_together_is_the_mean_size_of_the_group_of_an_image(groups: list[int]) -> None:
    sizes = [groups.count(group) for group in groups]
    assert images_together(np.array(groups, dtype=int)[:, None]) == pytest.approx(
        sum(sizes) / len(sizes) if sizes else 1
    )


# --- Values ---


def test_values_are_compared_by_the_largest_distance_of_the_distributions_under_permutation() -> None:
    rng = np.random.default_rng(2)
    reference, night = rng.normal(size=60), rng.normal(0.6, size=15)
    both = np.concatenate([reference, night])

    def distance(order: NDArray) -> float:
        a, b = both[order[:60]], both[order[60:]]
        return max(abs(np.mean(a <= value) - np.mean(b <= value)) for value in both)

    observed = distance(np.arange(75))
    permuted = np.mean([distance(rng.permutation(75)) >= observed - 1e-9 for _ in range(500)])
    found = compare_values(reference, night, 10)
    assert found.p_value == pytest.approx(permuted, abs=3 * (permuted / 500) ** 0.5)
    assert (found.reference, found.night) == ({"median": np.median(reference)}, {"median": np.median(night)})


@pytest.mark.parametrize("change", [lambda x: x + 1.5, lambda x: 3 * x, lambda x: np.where(np.arange(40) % 3, x, 5)])
def test_another_place_spread_and_a_part_far_away_are_found(change) -> None:
    rng = np.random.default_rng(3)
    found = compare_values(rng.normal(size=400), change(rng.normal(size=40)), 10)
    assert found.p_value is not None
    assert found.p_value < 0.01


def test_unknown_values_are_left_out() -> None:
    rng = np.random.default_rng(4)
    reference, night = rng.normal(size=50), rng.normal(size=20)
    with_unknown = [np.insert(side, [0, 7, 9], np.nan) for side in (reference, night)]
    assert compare_values(*with_unknown, 10) == compare_values(reference, night, 10)


# --- Shares ---


def naive_fisher(a: int, b: int, c: int, d: int) -> float:
    """The probability of all tables with these margins that are no more probable than this one."""
    rows, column = (a + b, c + d), a + c
    probability = {
        x: math.comb(rows[0], x) * math.comb(rows[1], column - x) / math.comb(sum(rows), column)
        for x in range(max(0, column - rows[1]), min(rows[0], column) + 1)
    }
    return sum(p for p in probability.values() if p <= probability[a] * (1 + 1e-9))


counts = st.integers(3, 40)


@given(counts, counts, counts, counts)
def test_two_categories_are_compared_by_fishers_exact_test(a: int, b: int, c: int, d: int) -> None:
    found = compare_shares({"present": a, "absent": b}, {"present": c, "absent": d}, 2)
    assert found.p_value == pytest.approx(naive_fisher(a, b, c, d))
    assert found.night == {"present": c / (c + d), "absent": d / (c + d)}
    assert (found.n_reference, found.n_night) == (a + b, c + d)


def test_more_categories_are_compared_under_permutation_of_the_images() -> None:
    rng = np.random.default_rng(5)
    reference, night = {"AP": 40, "PA": 50, "not stated": 10}, {"AP": 12, "PA": 5, "not stated": 6}
    images = np.repeat([0, 1, 2, 0, 1, 2], [*reference.values(), *night.values()])

    def probability(of_night: NDArray) -> float:
        drawn, total = np.bincount(of_night, minlength=3), np.bincount(images)
        return math.prod(math.comb(int(n), int(x)) for n, x in zip(total, drawn, strict=True))

    observed = probability(images[100:])
    permuted = np.mean([probability(rng.permutation(images)[:23]) <= observed * (1 + 1e-9) for _ in range(4000)])
    assert compare_shares(reference, night, 10).p_value == pytest.approx(permuted, abs=4 * (permuted / 4000) ** 0.5)


def test_rare_categories_are_one_however_they_are_called() -> None:
    night = {"read": 30, "damaged": 3, "truncated": 4, "a text file": 2}
    found = compare_shares({"read": 200}, night, 10)
    assert set(found.night) == {"read", "others"}
    assert found.p_value == pytest.approx(naive_fisher(200, 0, 30, 9))
    assert compare_shares({"read": 200}, {"read": 30, "damaged": 3}, 10).night == {"read": 30 / 33, "damaged": 3 / 33}


def test_images_that_count_as_one_are_counted_once() -> None:
    found = compare_shares({"a": 80, "b": 20}, {"a": 12, "b": 24}, 10, (2.0, 3.0))
    assert found.p_value == compare_shares({"a": 40, "b": 10}, {"a": 4, "b": 8}, 10).p_value
    assert (found.n_night, found.night["b"]) == (36, 24 / 36)


# --- Counts ---


@given(st.lists(st.integers(0, 500), min_size=FEWEST_NIGHTS, max_size=20), st.integers(0, 2000))
def test_a_number_is_outside_its_interval_if_its_p_value_is_below_5_percent(earlier: list[int], tonight: int) -> None:
    found = compare_count(earlier, tonight)
    assert found.p_value is not None
    if abs(found.p_value - 0.05) > 1e-9 and tonight:
        assert (found.p_value > 0.05) == (found.reference["lo"] <= tonight <= found.reference["hi"])
    assert found.reference["lo"] <= found.reference["median"] + 1
    assert (found.n_reference, found.night) == (len(earlier), {"images": tonight})


DRAWS = {
    "Poisson, few": lambda rng, size: rng.poisson(4, size),
    "Poisson": lambda rng, size: rng.poisson(40, size),
    "patients of several images": lambda rng, size: rng.negative_binomial(8, 8 / 48, size),
    "very dispersed": lambda rng, size: rng.negative_binomial(2, 2 / 62, size),
    "always the same": lambda rng, size: np.full(size, 40),
}


@pytest.mark.parametrize("nights", [5, 10, 40])
@pytest.mark.parametrize("draw", DRAWS)
def test_numbers_of_images_hold_their_level(draw: str, nights: int) -> None:
    numbers = DRAWS[draw](np.random.default_rng(6), (2000, nights + 1))
    p_values = np.array([compare_count(row[1:].tolist(), int(row[0])).p_value for row in numbers])
    for level in (0.05, 0.01, 0.001):
        assert np.mean(p_values < level) <= level + 3 * (level / 2000) ** 0.5


def test_three_times_as_many_images_and_none_are_found() -> None:
    earlier = np.random.default_rng(7).negative_binomial(20, 1 / 3, size=20).tolist()
    for tonight in (0, 3 * int(np.mean(earlier))):
        p_value = compare_count(earlier, tonight).p_value
        assert p_value is not None
        assert p_value < 1e-4


# --- What is not tested ---


def test_what_is_not_tested_says_why() -> None:
    many, few = np.arange(20.0), np.arange(4.0)
    found = [
        compare_values(many, few, 10),
        compare_values(few, many, 10),
        compare_values(np.full(20, 64.0), np.full(20, 64.0), 10),
        compare_shares({"AP": 20}, {"PA": 4}, 10),
        compare_shares({"AP": 20}, {"AP": 20}, 10),
        compare_shares({"AP": 20}, {}, 10),
        compare_shares(Counter(map(str, range(20))), Counter(map(str, range(20, 40))), 10),
        compare_shares({"a": 50, "b": 50}, {"a": 10, "b": 10}, 10, (1.0, 4.0)),
        compare_count([40] * (FEWEST_NIGHTS - 1), 40),
        compare_count([], 40),
    ]
    assert [each.p_value for each in found] == [None] * len(found)
    assert [each.reason for each in found] == [
        "known of 4 in the night, at least 10 are needed",
        "known of 4 in the reference, at least 10 are needed",
        "all values are 64",
        "known of 4 in the night, at least 10 are needed",
        "all are 'AP'",
        "known of 0 in the night, at least 10 are needed",
        "every category is rare",
        "known of 4 in the night, at least 10 are needed",
        "4 earlier night(s), at least 5 are needed",
        "0 earlier night(s), at least 5 are needed",
    ]
