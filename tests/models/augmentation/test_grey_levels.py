"""Changes of grey levels, against Pillow's, image by image."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from models.augmentation import grey_levels
from tests.models.augmentation.test_geometry import noise_images, smooth_images, uniform

BLENDS = {
    "brightness": ImageEnhance.Brightness,
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
WITHOUT_MAGNITUDE = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
}
BY_PILLOW = {
    **{name: lambda image, m, of=of: of(image).enhance(1 + m) for name, of in BLENDS.items()},
    **{name: lambda image, m, of=of: of(image) for name, of in WITHOUT_MAGNITUDE.items()},
    "posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "solarize": ImageOps.solarize,
}
NAMES = sorted(BY_PILLOW)


def changed(name, images, magnitudes):
    change = getattr(grey_levels, name)
    return change(images) if name in WITHOUT_MAGNITUDE else change(images, magnitudes)


def random_magnitudes(name, seed, b):
    low, high = {"posterize": (0.5, 8.5), "solarize": (0, 256)}.get(name, (-1, 9))
    magnitudes = uniform(seed, b, low=low, high=high)
    if name in BLENDS:
        magnitudes[::2] = magnitudes[::2].clamp(max=1)
    return magnitudes.round() if name == "posterize" else magnitudes


def by_pillow(name, images, magnitudes):
    done = []
    for image, magnitude in zip(images.numpy(), magnitudes.tolist(), strict=True):
        picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        array = np.asarray(BY_PILLOW[name](picture, magnitude))
        done.append(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(done))


def assert_as_by_pillow(name, images, magnitudes):
    found, expected = changed(name, images, magnitudes), by_pillow(name, images, magnitudes)
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected), (found.int() - expected.int()).abs().max()


def varied_images(seed, c, s):
    """Noise, blobs, dark and narrow ranges, two levels, one pixel that differs, and constant images."""
    noise = noise_images(seed, 3, c, s)
    outlier = torch.full((1, c, s, s), seed % 256, dtype=torch.uint8)
    outlier[..., -1, -1] = 255 - seed % 256
    constant = noise[:, :, :1, :1].expand_as(noise).contiguous()
    two_levels = (noise[:1] > 100).byte() * 90 + 17
    return torch.cat([noise, smooth_images(seed, 3, c, s), noise[:2] // 9 + 60, two_levels, outlier, constant])


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 10_000), st.sampled_from([1, 3]), st.one_of(st.integers(1, 4), st.integers(1, 70)))
def test_every_change_is_pillows_to_the_bit(name, seed, c, s):
    images = varied_images(seed, c, s)
    assert_as_by_pillow(name, images, random_magnitudes(name, seed, len(images)))


@pytest.mark.parametrize("name", NAMES)
def test_radiographs_change_as_by_pillow(name, shared_data):
    files = sorted((shared_data / "nih" / "images_256").glob("*.png"))[:25]
    images = torch.from_numpy(np.stack([np.asarray(Image.open(file).convert("L")) for file in files]))[:, None]
    assert_as_by_pillow(name, images, random_magnitudes(name, 0, len(images)))


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("name", ["posterize", "solarize"])
def test_every_level_of_whole_numbers_is_pillows(name, c):
    levels = torch.arange(1, 9) if name == "posterize" else torch.arange(257)
    images = noise_images(0, len(levels), c, 16)
    assert_as_by_pillow(name, images, levels.double())


@pytest.mark.parametrize("name", BLENDS)
def test_every_factor_of_a_blend_is_pillows(name):
    changes = torch.cat([torch.linspace(-1, 1, 401, dtype=torch.float64), torch.linspace(1, 9, 81).double()])
    images = noise_images(1, len(changes), 3, 12)
    assert_as_by_pillow(name, images, changes)


@given(st.integers(1, 70), st.sampled_from([1, 3]))
def test_the_magnitude_that_changes_nothing_returns_the_image_to_the_bit(s, c):
    images = varied_images(s, c, s)
    neutral = {**dict.fromkeys(BLENDS, 0.0), "posterize": 8.0, "solarize": 256.0}
    for name, magnitude in neutral.items():
        found = changed(name, images, torch.full((len(images),), magnitude, dtype=torch.float64))
        assert torch.equal(found, images), name
        assert found.data_ptr() != images.data_ptr()


def test_what_changes_everything():
    images = varied_images(0, 1, 20)
    b = len(images)
    assert torch.equal(changed("solarize", images, torch.zeros(b, dtype=torch.float64)), 255 - images)
    assert not changed("brightness", images, -torch.ones(b, dtype=torch.float64)).any()
    flat = changed("contrast", images, -torch.ones(b, dtype=torch.float64))
    assert torch.equal(flat, grey_levels.rounded_mean(images).byte().expand_as(images))
    assert set(changed("posterize", images, torch.ones(b, dtype=torch.float64)).unique().tolist()) == {0, 128}


def test_constant_images_stay_as_they_are_where_only_contrast_changes():
    images = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, 3, 9, 9).contiguous()
    for name in ("autocontrast", "equalize", "contrast", "sharpness", "colour"):
        assert torch.equal(changed(name, images, torch.full((256,), 3.0, dtype=torch.float64)), images), name


def test_a_mean_is_rounded_to_the_nearest_level_and_halves_up():
    images = torch.tensor([[[[0, 1], [0, 1]]], [[[0, 0], [0, 1]]], [[[255, 255], [255, 254]]]], dtype=torch.uint8)
    assert grey_levels.rounded_mean(images).flatten().tolist() == [1, 0, 255]
    assert grey_levels.rounded_mean(torch.full((1, 3, 700, 700), 255, dtype=torch.uint8)).unique() == 255


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_an_image_changes_to_the_same_bits_in_any_batch(name, c):
    images = torch.cat([varied_images(seed, c, 33) for seed in range(4)])
    magnitudes = random_magnitudes(name, 5, len(images))
    whole = changed(name, images, magnitudes)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    assert torch.equal(changed(name, images[order], magnitudes[order]), whole[order])
    for size in (1, 2, 7):
        parts = zip(images.split(size), magnitudes.split(size), strict=True)
        assert torch.equal(torch.cat([changed(name, *part) for part in parts]), whole)


@pytest.mark.parametrize("name", NAMES)
def test_where_an_image_lies_in_memory_does_not_matter(name):
    images = noise_images(0, 6, 3, 10)
    magnitudes = random_magnitudes(name, 0, 6)
    expected = changed(name, images, magnitudes)
    assert torch.equal(changed(name, images.contiguous(memory_format=torch.channels_last), magnitudes), expected)
    assert torch.equal(changed(name, images.repeat(1, 1, 1, 2)[..., :10], magnitudes), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_images_and_images_without_values_are_changed(name):
    """A tensor of the meta device has no values: to read one back fails, where a GPU would make the host wait."""
    images, magnitudes = noise_images(0, 4, 3, 8), random_magnitudes(name, 0, 4)
    assert changed(name, images[:0], magnitudes[:0]).shape == (0, 3, 8, 8)
    assert changed(name, images.to("meta"), magnitudes.to("meta")).shape == (4, 3, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_gives_the_same_bits_and_never_waits(name):
    images = torch.cat([varied_images(seed, 3, 40) for seed in range(4)])
    magnitudes = random_magnitudes(name, 0, len(images))
    on_gpu = images.cuda(), magnitudes.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = changed(name, *on_gpu)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), changed(name, images, magnitudes))


@pytest.mark.parametrize("name", [*BLENDS, "posterize", "solarize"])
def test_a_larger_change_leads_farther_from_the_image(name):
    """In both directions from the factor 1; with fewer bits; with a lower threshold."""
    images = smooth_images(0, 12, 3, 40)

    def distance(magnitude):
        found = changed(name, images, torch.full((12,), float(magnitude), dtype=torch.float64))
        return float((found.int() - images.int()).abs().double().mean())

    series = {"posterize": [range(8, 0, -1)], "solarize": [range(256, 128, -16)]}
    for levels in series.get(name, [np.linspace(0, -1, 9), np.linspace(0, 9, 9)]):
        distances = [distance(level) for level in levels]
        assert distances[0] == 0
        assert all(a < b for a, b in pairwise(distances)), distances
