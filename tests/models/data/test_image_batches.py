import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.data.image_batches import StoredPixels, epoch_batches, examples, steps_per_epoch
from models.errors import SettingError


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(1, 70))
def test_every_image_comes_once_in_batches_of_nearly_equal_size(n, batch_size):
    batches = list(epoch_batches(n, batch_size, seed=0, epoch=1))
    sizes = [len(batch) for batch in batches]
    assert sorted(torch.cat(batches).tolist()) == list(range(n))
    assert len(batches) == steps_per_epoch(n, batch_size)
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_the_order_of_an_epoch_does_not_depend_on_the_batch_size():
    small = torch.cat(list(epoch_batches(100, 7, seed=4, epoch=2)))
    large = torch.cat(list(epoch_batches(100, 64, seed=4, epoch=2)))
    assert torch.equal(small, large)


def test_examples_are_copied_from_a_read_only_array():
    pixels = np.zeros((3, 8, 8), np.uint8)
    pixels.flags.writeable = False
    made = examples(pixels, np.zeros((3, 2), np.int8), ("a",))
    assert made.pixels.shape == (3, 1, 8, 8)
    assert made.pixels.dtype == torch.uint8
    assert len(made) == 3


def test_selected_rows_of_an_array_are_not_copied():
    pixels = np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    made = examples(pixels, np.zeros((2, 3), np.int8), (), rows=np.array([4, 1]))
    assert isinstance(made.pixels, StoredPixels)
    assert len(made) == 2
    pixels[4] = 77
    assert made.pixels[:1].unique().tolist() == [77]


@pytest.mark.parametrize("channels", [(), (1,), (3,)])
def test_images_have_their_channels_first_copied_or_selected(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (5, *channels, 2, 2), dtype=np.uint8)
    expected = torch.as_tensor(pixels).reshape(5, sum(channels) or 1, 2, 2)
    targets = np.zeros((5, 3), np.int8)
    assert torch.equal(examples(pixels, targets, ()).pixels, expected)
    selected = examples(pixels, targets[:2], (), rows=np.array([4, 1])).pixels
    assert selected.shape == (2, *expected.shape[1:])
    assert torch.equal(selected[torch.tensor([1, 0, 1])], expected[[1, 4, 1]])
    assert selected[:0].shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("rows", [[0, 5], [-1, 2]])
def test_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(SettingError, match=r"rows must lie in 0\.\.4"):
        examples(np.zeros((5, 2, 2), np.uint8), np.zeros((2, 3), np.int8), (), rows=np.array(rows))


@pytest.mark.parametrize(
    ("pixels", "targets", "message"),
    [
        (np.zeros((0, 8, 8), np.uint8), np.zeros((0, 2), np.int8), "got 0 and 0"),
        (np.zeros((3, 8, 8), np.uint8), np.zeros((2, 2), np.int8), "got 3 and 2"),
        (np.zeros((3, 8), np.uint8), np.zeros((3, 2), np.int8), r"\(3, 8\)"),
        (np.zeros((3, 8, 8), np.float32), np.zeros((3, 2), np.int8), "float32"),
    ],
)
def test_examples_that_do_not_fit_are_refused(pixels, targets, message):
    with pytest.raises(SettingError, match=message):
        examples(pixels, targets, ())


@pytest.mark.parametrize("largest", [1, 127, 128, 999])
def test_no_class_number_is_too_large_to_be_kept(largest):
    targets = np.array([[-1], [0], [largest]])
    kept = examples(np.zeros((3, 4, 4), np.uint8), targets, ("a", "b", "c")).targets
    assert kept.tolist() == targets.tolist()
    assert kept.dtype == (torch.int8 if largest < 128 else torch.int16)


@pytest.mark.parametrize("rows", [None, np.array([4, 1])])
def test_each_image_is_another_patients_unless_the_patients_are_given(rows):
    pixels, targets = np.zeros((5, 2, 2), np.uint8), np.zeros((5 if rows is None else 2, 3), np.int8)
    assert examples(pixels, targets, (), rows).patient_numbers.tolist() == list(range(len(targets)))
    numbers = np.arange(len(targets))[::-1] // 2
    given = examples(pixels, targets, (), rows, patient_numbers=numbers).patient_numbers
    assert given.tolist() == numbers.tolist()
    assert given.dtype == torch.int64
