import pytest
import torch

from models.data.augmentation import AugmentationSettings, augment

EVERYTHING = AugmentationSettings(flip=0.5, rotation=15, shift=0.1, scale=0.1, brightness=0.1, contrast=0.2)


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (37, 1, 24, 24), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def augmented(pixels, settings, samples=None, epoch=1, seed=0):
    samples = torch.arange(len(pixels)) if samples is None else samples
    return augment(pixels, settings, seed=seed, epoch=epoch, samples=samples)


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_an_image_is_augmented_to_the_same_bits_in_any_batch(pixels, size):
    rows = torch.arange(len(pixels))
    parts = [augmented(pixels[part], EVERYTHING, part) for part in rows.split(size)]
    assert torch.equal(augmented(pixels, EVERYTHING), torch.cat(parts))


def test_each_channel_is_augmented_like_a_grey_image(pixels):
    colour = torch.cat([pixels, pixels.flip(0), 255 - pixels], 1)
    expected = [augmented(colour[:, i : i + 1], EVERYTHING) for i in range(3)]
    assert torch.equal(augmented(colour, EVERYTHING), torch.cat(expected, 1))


def test_settings_that_change_nothing_return_the_same_pixels(pixels):
    assert augmented(pixels, AugmentationSettings()) is pixels


def test_epochs_and_seeds_differ(pixels):
    first = augmented(pixels, EVERYTHING)
    assert not torch.equal(first, augmented(pixels, EVERYTHING, epoch=2))
    assert not torch.equal(first, augmented(pixels, EVERYTHING, seed=1))


def test_a_certain_flip_mirrors_every_image(pixels):
    flipped = augmented(pixels, AugmentationSettings(flip=1.0))
    torch.testing.assert_close(flipped, pixels.flip(-1).float(), atol=0.01, rtol=0)


def test_half_of_the_images_are_flipped_at_one_half():
    images = torch.arange(8, dtype=torch.uint8).repeat(2000, 1, 8, 1)
    flipped = augmented(images, AugmentationSettings(flip=0.5))[:, 0, 0, 0] > 3.5
    assert 900 < flipped.sum() < 1100


def test_a_shift_stays_within_its_limit_and_goes_both_ways():
    images = torch.zeros(400, 1, 40, 40, dtype=torch.uint8)
    images[:, :, 18:22, 18:22] = 200
    moved = augmented(images, AugmentationSettings(shift=0.1))[:, 0]
    columns = (moved.sum(1) * torch.arange(40)).sum(1) / moved.sum((1, 2)) - 19.5
    assert columns.abs().max() <= 4.01
    assert columns.min() < -3
    assert columns.max() > 3


def test_a_rotation_is_about_the_centre_and_within_its_limit():
    images = torch.zeros(50, 1, 41, 41, dtype=torch.uint8)
    images[:, :, 20, 12:29] = 200  # a level bar through the centre
    turned = augmented(images, AugmentationSettings(rotation=45))[:, 0]
    offset = torch.arange(41) - 20
    centre = (turned.sum(2) * offset).sum(1) / turned.sum((1, 2))
    assert centre.abs().max() < 0.1
    steeper = offset[:, None].abs() > offset[None, :].abs() + 2
    assert not turned[:, steeper].any()
    heights = ((turned > 100) * offset[:, None].abs()).amax((1, 2))
    assert heights.min() <= 1
    assert heights.max() >= 5


def test_grey_values_stay_between_0_and_255(pixels):
    values = augmented(pixels, AugmentationSettings(brightness=0.5, contrast=0.9))
    assert values.min() >= 0
    assert values.max() <= 255
    assert not torch.equal(values, pixels.float())
