"""Ridge regression on digits, compared with explicit fits; transforms compared with NumPy's; real digits."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from models.errors import SettingError
from models.theory.digit_ridge import (
    ARMS,
    EQUIVALENT,
    MIXUP,
    PLAIN,
    ROTATION,
    DigitSettings,
    _with_noise,
    compare_on_digits,
    transform_digits,
)
from models.theory.linear_tasks import stream

SMALL = DigitSettings(samples=40, held_out=50, ridges=(0.01, 1.0), label_noises=(0.0, 0.5))

Digits = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def blobs() -> Digits:
    """Noisy images of 8 x 8 pixels, in which each digit lights pixels of its own."""
    generator = stream(0, "blobs")
    labels = generator.integers(10, size=200).astype(np.uint8)
    shapes = generator.uniform(0, 150, (10, 8, 8))
    return (shapes[labels] + generator.uniform(0, 100, (200, 8, 8))).astype(np.uint8), labels


def test_a_quarter_turn_and_whole_pixels_are_numpys() -> None:
    images = stream(0, "test").integers(0, 256, (3, 6, 6)).astype(np.uint8)
    degrees, still = np.array([90.0, -90.0, 180.0]), np.zeros((3, 2))
    turned = transform_digits(images, degrees, still)
    for found, image, times in zip(turned, images, (1, -1, 2), strict=True):
        np.testing.assert_allclose(found, np.rot90(image, times), atol=1e-9)
    moved = transform_digits(images, np.zeros(3), np.array([[2.0, 0], [0, -1], [1, 3]]))
    np.testing.assert_array_equal(moved[0, 2:], images[0, :-2])
    np.testing.assert_array_equal(moved[0, :2], 0)
    np.testing.assert_array_equal(moved[1, :, :-1], images[1, :, 1:])
    np.testing.assert_array_equal(moved[2, 1:, 3:], images[2, :-1, :-3])


def test_a_transform_rotates_around_the_centre_and_then_shifts() -> None:
    images = np.zeros((1, 7, 7), np.uint8)
    images[0, 3, 3] = 200
    found = transform_digits(images, np.array([30.0]), np.array([[1.0, 2.0]]))[0]
    assert np.unravel_index(found.argmax(), found.shape) == (4, 5)


def test_the_replaced_labels_are_the_given_share_and_stay_replaced_as_it_grows() -> None:
    one_hot = np.eye(5)[np.zeros(1000, int)]
    few, many, all_of_them = (_with_noise(one_hot, share, stream(0, "test")) for share in (0.2, 0.6, 1.0))
    np.testing.assert_array_equal(_with_noise(one_hot, 0.0, stream(0, "test")), one_hot)
    for noisy, share in ((few, 0.2), (many, 0.6), (all_of_them, 1.0)):
        np.testing.assert_array_equal(noisy.sum(1), 1)
        assert (noisy[:, 0] == 0).mean() == pytest.approx(0.8 * share, abs=0.05)  # a fifth of them by chance right
    assert (many[few[:, 0] == 0] == few[few[:, 0] == 0]).all()


def test_plain_ridge_is_an_explicit_fit(blobs: Digits) -> None:
    images, labels = blobs
    rows = [row for row in compare_on_digits(SMALL, images, labels, 3) if row["arm"] == PLAIN]
    chosen = stream(3, "digits").permutation(200)[:90]
    x, targets = images[chosen].reshape(90, -1) / 1.0, np.eye(10)[labels[chosen]]
    mean, target_mean = x[:40].mean(0), targets[:40].mean(0)
    x = (x - mean) / np.sqrt(((x[:40] - mean) ** 2).sum(1).mean())
    for ridge in SMALL.ridges:
        coefficients = np.linalg.solve(
            x[:40].T @ x[:40] + 40 * ridge * np.eye(64), x[:40].T @ (targets[:40] - target_mean)
        )
        predicted = x[40:] @ coefficients + target_mean
        for row in rows:
            if row["ridge"] == ridge and row["label_noise"] == 0:
                assert row["squared_error"] == pytest.approx(((predicted - targets[40:]) ** 2).sum(1).mean())
                assert row["error"] == np.mean(predicted.argmax(1) != labels[chosen[40:]])


def test_every_arm_convention_ridge_and_noise_has_a_row(blobs: Digits) -> None:
    rows = compare_on_digits(SMALL, *blobs, 0)
    keys = {(row["arm"], row["convention"], row["ridge"], row["label_noise"]) for row in rows}
    assert len(keys) == len(rows) == len(ARMS) * 2 * 2 * 2
    by_key = {(row["arm"], row["convention"], row["ridge"], row["label_noise"]): row for row in rows}
    for ridge in SMALL.ridges:  # without added rows the conventions agree
        assert by_key[PLAIN, "kept", ridge, 0.5]["error"] == by_key[PLAIN, "rescaled", ridge, 0.5]["error"]
        assert by_key[ROTATION, "kept", ridge, 0.5] != by_key[ROTATION, "rescaled", ridge, 0.5]


def test_mixup_acts_nearly_as_its_equivalent_ridge(blobs: Digits) -> None:
    settings = SMALL.model_copy(update={"copies": 20})
    rows = {
        (r["arm"], r["convention"], r["ridge"], r["label_noise"]): r for r in compare_on_digits(settings, *blobs, 1)
    }
    for (arm, *cell), row in rows.items():
        if arm == MIXUP:
            expected = rows[EQUIVALENT, *cell]["squared_error"]
            assert row["squared_error"] == pytest.approx(expected, rel=0.05)
    assert rows[PLAIN, "kept", 0.01, 0.5]["squared_error"] != pytest.approx(
        rows[MIXUP, "kept", 0.01, 0.5]["squared_error"], rel=0.1
    )


def test_two_digits_can_be_told_from_one_another(blobs: Digits) -> None:
    settings = DigitSettings(samples=10, held_out=15, against=(2, 7), ridges=(0.1,), label_noises=(0.0,))
    rows = compare_on_digits(settings, *blobs, 0)
    assert all(row["error"] <= 0.4 for row in rows)
    assert rows[0]["squared_error"] < 0.5  # what the mean of the two would have


def test_too_few_digits_are_refused_with_their_number(blobs: Digits) -> None:
    with pytest.raises(SettingError, match="ask for 2200 digits, but there are 200; lower"):
        compare_on_digits(DigitSettings(), *blobs, 0)


def test_a_digit_against_itself_is_refused() -> None:
    with pytest.raises(ValidationError, match="two different digits; got 3 twice"):
        DigitSettings(against=(3, 3))


def test_rotated_copies_help_on_real_digits_near_the_best_ridge(shared_data: Path) -> None:
    images, labels = (
        np.frombuffer(gzip.decompress((shared_data / "vision" / name).read_bytes()), np.uint8, offset=offset)
        for name, offset in (("t10k-images-idx3-ubyte.gz", 16), ("t10k-labels-idx1-ubyte.gz", 8))
    )
    settings = DigitSettings(held_out=1000, ridges=(0.01,), label_noises=(0.0,))
    rows = [row for seed in range(2) for row in compare_on_digits(settings, images.reshape(-1, 28, 28), labels, seed)]
    error = {arm: np.mean([r["error"] for r in rows if (r["arm"], r["convention"]) == (arm, "kept")]) for arm in ARMS}
    assert error[ROTATION] < error[PLAIN] < 0.3
