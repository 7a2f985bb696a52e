from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.augmentation.cutout import cutout
from tests.models.augmentation.test_geometry import noise_images, smooth_images, uniform


def random_squares(seed, b):
    return uniform(seed, 3, b, low=0.0).unbind()


def naive_cutout(image, size, x, y):
    """Cut a square of round(size * s) pixels about the pixel at (x, y); an even side reaches farther left and up."""
    found, s = image.copy(), image.shape[-1]
    side = round(size * s)
    left, top = int(x * s) - side // 2, int(y * s) - side // 2
    for channel, original in zip(found, image, strict=True):
        mean = int(np.floor(original.astype(float).mean() + 0.5))
        for i in range(max(top, 0), min(top + side, s)):
            for j in range(max(left, 0), min(left + side, s)):
                channel[i, j] = mean
    return found


@given(st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 10_000))
def test_cutout_equals_a_naive_one(s, c, seed):
    images, squares = noise_images(seed, 4, c, s), random_squares(seed, 4)
    found = cutout(images, *squares)
    assert found.dtype == torch.uint8
    for image, original, *square in zip(found, images, *(each.tolist() for each in squares), strict=True):
        assert np.array_equal(image.numpy(), naive_cutout(original.numpy(), *square))


@given(st.integers(1, 70), st.sampled_from([1, 3]))
def test_size_0_changes_nothing_and_no_image_is_overwritten(s, c):
    images = noise_images(s, 5, c, s)
    size, x, y = random_squares(s, 5)
    before = images.clone()
    found = cutout(images, torch.zeros(5, dtype=torch.float64), x, y)
    cutout(images, size, x, y)
    assert torch.equal(found, before)
    assert torch.equal(images, before)
    assert found.data_ptr() != images.data_ptr()


@given(st.integers(1, 70), st.floats(0, 1))
def test_an_inner_square_has_the_side_that_was_asked(s, size):
    """A checkerboard of 0 and 2 has the mean 1 where the number of pixels is even; there all that is hidden shows."""
    s *= 2
    board = (torch.arange(s)[:, None] + torch.arange(s)) % 2 * 2
    middle = torch.full((1,), 0.5, dtype=torch.float64)
    found = cutout(board.byte()[None, None], torch.tensor([size], dtype=torch.float64), middle, middle)[0, 0] == 1
    side = round(size * s)
    assert found.any(0).sum() == found.any(1).sum() == side
    assert found.sum() == side**2


@pytest.mark.parametrize("c", [1, 3])
def test_an_image_is_cut_to_the_same_bits_in_any_batch(c):
    images, squares = noise_images(0, 300, c, 33), random_squares(0, 300)
    whole = cutout(images, *squares)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cutout(images[order], *(each[order] for each in squares)), whole[order])
    for size in (1, 7):
        parts = zip(images.split(size), *(each.split(size) for each in squares), strict=True)
        assert torch.equal(torch.cat([cutout(*part) for part in parts]), whole)


def test_no_value_is_read_back_from_a_device():
    inputs = [each.to("meta") for each in (noise_images(0, 4, 1, 8), *random_squares(0, 4))]
    assert cutout(*inputs).shape == (4, 1, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_bits_and_never_waits():
    inputs = noise_images(0, 50, 3, 40), *random_squares(0, 50)
    on_gpu = [each.cuda() for each in inputs]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = cutout(*on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), cutout(*inputs))


def test_a_larger_square_leads_farther_from_the_image():
    """It contains every smaller one about the same centre."""
    images = smooth_images(0, 20, 1, 48)
    _, x, y = random_squares(3, 20)
    sizes = np.linspace(0, 1, 9)
    cut = [cutout(images, torch.full((20,), size, dtype=torch.float64), x, y) for size in sizes]
    distances = [float((each.int() - images.int()).abs().double().mean()) for each in cut]
    assert distances[0] == 0
    assert all(a < b for a, b in pairwise(distances)), distances
    for smaller, larger in pairwise(cut):
        assert not ((smaller != images) & (larger != smaller)).any()
