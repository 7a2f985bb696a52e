"""Symmetric noise on classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.noise.classes import draw_class_noise

CLASSES = 5
TARGETS = st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=80).map(lambda drawn: np.array(drawn, np.int16))
RATE = st.floats(0, 1)
SEED = st.integers(0, 2**32 - 1)


@given(TARGETS, RATE, SEED)
def test_exactly_the_share_of_each_class_gets_another_class(targets: np.ndarray, rate: float, seed: int) -> None:
    before = targets.copy()
    noisy = draw_class_noise(targets, CLASSES, rate, seed)
    assert np.array_equal(targets, before)
    assert (noisy.shape, noisy.dtype) == (targets.shape, np.int16)
    assert ((noisy >= 0) & (noisy < CLASSES)).all()
    for number in range(CLASSES):
        of_class = targets == number
        assert (noisy[of_class] != number).sum() == round(rate * of_class.sum())


@given(TARGETS, RATE, RATE, SEED)
def test_what_is_wrong_at_a_lower_rate_is_as_wrong_at_a_higher_one(
    targets: np.ndarray, one: float, other: float, seed: int
) -> None:
    low, high = (draw_class_noise(targets, CLASSES, rate, seed) for rate in sorted((one, other)))
    wrong = low != targets
    assert np.array_equal(low[wrong], high[wrong])


def test_each_other_class_is_equally_likely_and_images_are_drawn_alike() -> None:
    targets = np.repeat(np.arange(CLASSES), 4000)
    noisy = draw_class_noise(targets, CLASSES, 0.4, 7)
    counts = np.zeros((CLASSES, CLASSES))
    np.add.at(counts, (targets, noisy), 1)
    assert np.array_equal(np.diag(counts), np.full(CLASSES, 2400))
    others = counts[~np.eye(CLASSES, dtype=bool)]
    assert (abs(others - 400) < 5 * np.sqrt(1600 * 0.25 * 0.75)).all()
    first_half = (noisy != targets).reshape(CLASSES, 2, 2000).sum(axis=2)[:, 0]
    assert (abs(first_half - 800) < 5 * np.sqrt(4000 * 0.25 * 0.4 * 0.6)).all()


def test_a_draw_depends_on_its_seed_and_the_draw_of_a_class_not_on_the_others() -> None:
    targets = np.tile(np.arange(CLASSES), 40)
    first = draw_class_noise(targets, CLASSES, 0.5, 3)
    assert np.array_equal(first, draw_class_noise(targets, CLASSES, 0.5, 3))
    assert not np.array_equal(first, draw_class_noise(targets, CLASSES, 0.5, 4))
    without = targets != 2
    assert np.array_equal(first[without], draw_class_noise(targets[without], CLASSES, 0.5, 3))
    wrong = [(first != targets)[targets == number].tolist() for number in range(CLASSES)]
    assert len(set(map(tuple, wrong))) == CLASSES


def test_no_noise_changes_nothing_even_with_one_class() -> None:
    assert np.array_equal(draw_class_noise(np.zeros(4, np.int64), 1, 0.0, 0), np.zeros(4))


def test_a_rate_out_of_range_and_a_lack_of_other_classes_are_one_line() -> None:
    with pytest.raises(DataError, match=r"noise rate must lie in \[0, 1\]; got 40. Did you mean 0.4\?"):
        draw_class_noise(np.zeros(4, np.int16), 2, 40, 0)
    with pytest.raises(DataError, match=r"noise needs another class, and there is 1; set its rate to 0"):
        draw_class_noise(np.zeros(4, np.int16), 1, 0.5, 0)
