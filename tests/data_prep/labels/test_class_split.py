"""Splits of images by class."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from data_prep.errors import DataError
from data_prep.labels.class_split import ClassSplitSettings, split_classes
from data_prep.labels.splits import PARTS, Split, count_in_several_parts

PLAIN = ClassSplitSettings()


def rows_of(counts: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """So many images of each class, in an order that is neither the classes' nor the names'."""
    targets = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int16)
    names = np.random.default_rng(seed + 1).permutation(len(targets))
    return np.array([f"{name:05d}.png" for name in names], dtype=np.str_), targets


def per_class(rows: np.ndarray, targets: np.ndarray) -> list[int]:
    return np.bincount(targets[rows], minlength=int(targets.max()) + 1).tolist()


def given_parts(targets: np.ndarray) -> np.ndarray:
    return np.array(["test" if row % 5 == 0 else "train" for row in range(len(targets))])


def names_of(split: Split, images: np.ndarray) -> list[set[str]]:
    return [set(images[getattr(split, part)].tolist()) for part in PARTS]


SHARE = st.floats(0.05, 0.6)


@given(st.lists(st.integers(5, 40), min_size=2, max_size=5), SHARE, SHARE, st.integers(0, 9))
def test_every_image_is_in_one_part_and_every_part_has_its_share_of_each_class(
    counts: list[int], val: float, test: float, seed: int
) -> None:
    images, targets = rows_of(counts)
    split = split_classes(ClassSplitSettings(val=val, test=test, seed=seed), images, targets, None)
    parts = [split.train, split.val, split.test]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(images)))
    assert all(np.array_equal(part, np.sort(part)) and part.dtype == np.int64 for part in parts)
    for index, count in enumerate(counts):
        in_test = min(max(1, round(test * count)), count - 1)
        assert per_class(split.test, targets)[index] == in_test
        assert per_class(split.val, targets)[index] == min(max(1, round(val * (count - in_test))), count - in_test - 1)
    assert split.name == "random"


def test_a_given_test_part_is_the_test_part_and_validation_comes_out_of_the_rest() -> None:
    images, targets = rows_of([50, 30, 20])
    parts = given_parts(targets)
    split = split_classes(PLAIN, images, targets[:, None], parts)
    assert np.array_equal(split.test, np.flatnonzero(parts == "test"))
    assert np.array_equal(np.sort(np.concatenate([split.train, split.val])), np.flatnonzero(parts == "train"))
    of_train = per_class(np.flatnonzero(parts == "train"), targets)
    assert per_class(split.val, targets) == [round(0.1 * count) for count in of_train]
    assert split.name == "given"


@given(st.integers(0, 5), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_rows_changes_nothing(seed: int, random: object, has_test: bool) -> None:
    images, targets = rows_of([20, 15, 9])
    parts = given_parts(targets) if has_test else None
    order = np.array(sorted(range(len(images)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    settings = ClassSplitSettings(seed=seed, train_images=17, test_images=5)
    groups = [images[:3].tolist()]
    one = split_classes(settings, images, targets, parts, groups)
    other = split_classes(settings, images[order], targets[order], None if parts is None else parts[order], groups)
    assert names_of(one, images) == names_of(other, images[order])
    assert one.fingerprint == other.fingerprint


def test_the_seed_decides_what_is_drawn() -> None:
    images, targets = rows_of([30, 30])
    first, same, other = (split_classes(ClassSplitSettings(seed=s), images, targets, None) for s in (0, 0, 1))
    assert first.fingerprint == same.fingerprint != other.fingerprint
    assert not np.array_equal(first.test, other.test)
    # validation of a given split is drawn by the seed too, its test part is not
    parts = given_parts(targets)
    first, other = (split_classes(ClassSplitSettings(seed=s), images, targets, parts) for s in (0, 1))
    assert np.array_equal(first.test, other.test)
    assert not np.array_equal(first.val, other.val)


@given(st.data(), st.integers(0, 9))
def test_images_with_the_same_pixels_never_stand_in_two_parts_that_are_drawn(data: st.DataObject, seed: int) -> None:
    images, targets = rows_of([30, 20, 10])
    rows = data.draw(st.permutations(range(60)))
    sizes = data.draw(st.lists(st.integers(2, 4), max_size=6))
    starts = np.cumsum([0, *sizes])
    groups = [images[rows[start:end]].tolist() for start, end in pairwise(starts)]
    split = split_classes(ClassSplitSettings(seed=seed), images, targets, None, groups)
    assert count_in_several_parts(split, images, groups) == 0


def test_what_a_given_test_part_shares_with_the_rest_is_left_where_the_data_put_it() -> None:
    images, targets = rows_of([30, 30])
    parts = given_parts(targets)
    pairs = [[str(images[row]), str(images[row + 1])] for row in (0, 5, 10)]
    plain, split = (split_classes(PLAIN, images, targets, parts, groups) for groups in ([], pairs))
    assert np.array_equal(split.test, plain.test)
    assert count_in_several_parts(split, images, pairs) == 3


@given(st.lists(st.integers(8, 60), min_size=2, max_size=5), st.data(), st.integers(0, 9))
def test_fewer_training_images_are_among_more_and_keep_the_classes_shares(
    counts: list[int], data: st.DataObject, seed: int
) -> None:
    images, targets = rows_of(counts)
    whole = split_classes(ClassSplitSettings(seed=seed), images, targets, None)
    few, many = sorted(data.draw(st.lists(st.integers(len(counts), len(whole.train)), min_size=2, max_size=2)))
    small, large = (
        split_classes(ClassSplitSettings(seed=seed, train_images=count), images, targets, None) for count in (few, many)
    )
    assert (len(small.train), len(large.train)) == (few, many)
    assert set(small.train.tolist()) <= set(large.train.tolist()) <= set(whole.train.tolist())
    for split in (small, large):
        assert np.array_equal(split.val, whole.val)
        assert np.array_equal(split.test, whole.test)
        fair = np.array(per_class(whole.train, targets)) * len(split.train) / len(whole.train)
        assert (abs(np.array(per_class(split.train, targets)) - fair) < len(counts)).all()


def test_balanced_classes_stay_balanced_whatever_the_number_of_images() -> None:
    images, targets = rows_of([50] * 10)
    for count in (10, 73, 200):
        split = split_classes(ClassSplitSettings(train_images=count, test_images=50), images, targets, None)
        found = per_class(split.train, targets)
        assert max(found) - min(found) <= 1
        assert per_class(split.test, targets) == [5] * 10


def test_more_images_than_there_are_means_all() -> None:
    images, targets = rows_of([20, 20])
    settings = ClassSplitSettings(train_images=10**6, test_images=10**6)
    assert split_classes(settings, images, targets, None).fingerprint == (
        split_classes(PLAIN, images, targets, None).fingerprint
    )


@pytest.mark.parametrize(
    ("counts", "settings", "message"),
    [
        ([9, 1], {}, r"val part of 1 images has none of class 'dog', which has 1 image; .*give the class more images"),
        (
            [9, 2],
            {},
            r"val part of 1 images has none of class 'dog', which has 2 images; raise the share of validation",
        ),
        (
            [9, 9, 9],
            {"train_images": 1},
            r"train part of 1 images has none of class 'dog' \(nor of 1 more\).*raise the",
        ),
        ([90, 9], {"test_images": 1}, r"test part of 1 images has none of class 'dog', which has 9 images; raise"),
    ],
)
def test_a_class_without_an_image_in_some_part_is_one_line(
    counts: list[int], settings: dict[str, int], message: str
) -> None:
    images, targets = rows_of(counts)
    with pytest.raises(DataError, match=message) as caught:
        split_classes(ClassSplitSettings(**settings), images, targets, None, classes=("cat", "dog", "ship"))
    assert "\n" not in str(caught.value)


def test_a_class_that_the_given_training_part_lacks_is_one_line() -> None:
    images, targets = rows_of([10, 10])
    parts = np.where(targets == 1, "test", given_parts(targets))
    with pytest.raises(DataError, match=r"train part of \d+ images has none of class number 1, which has 10 images"):
        split_classes(PLAIN, images, targets, parts)


@pytest.mark.parametrize("wrong", [{"val": 0}, {"val": 1}, {"test": 1.5}, {"train_images": 0}, {"seed": -1}])
def test_shares_and_numbers_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ClassSplitSettings.model_validate(wrong)
