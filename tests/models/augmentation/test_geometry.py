"""Chains of affine maps, against a naive chain of one position at a time, Pillow, torchvision and NumPy's padding."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as torchvision

from models.augmentation import geometry
from models.augmentation.geometry import (
    BLACK,
    BORDER,
    REFLECTED,
    horizontal_flip,
    resample,
    rotation,
    scale,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    vertical_flip,
)

PADDING = {BLACK: "constant", BORDER: "edge", REFLECTED: "reflect"}
INTERPOLATIONS = ["nearest", "bilinear"]
CPU = torch.device("cpu")


def uniform(seed, *shape, low=-1.0, high=1.0):
    values = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return low + (high - low) * values


def noise_images(seed, b, c, s):
    return torch.randint(0, 256, (b, c, s, s), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def smooth_images(seed, b, c, s):
    """Blobs of several sizes on every grey level: what turns and shifts change a little at a time."""
    coarse = interpolate(uniform(seed, b, c, 5, 5).float(), size=(s, s), mode="bicubic", align_corners=False)
    return ((coarse + 1) * 127.5).clamp(0, 255).round().byte()


def resampled(images, *maps, outside=BLACK, interpolation="bilinear"):
    """The images after the maps, one after the other; `outside` of all or of each stage."""
    stages = torch.as_tensor(outside).expand(len(images), len(maps))
    return resample(images, torch.stack(maps, 1), stages, interpolation=interpolation)


def by_pillow(images, change):
    """Each channel of each image as `change(image, i)` leaves it."""
    done = [[np.asarray(change(Image.fromarray(x.numpy()), i)) for x in image] for i, image in enumerate(images)]
    return torch.from_numpy(np.array(done))


def transform(image, *coefficients):
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


def random_chain(seed, b, stages):
    maps = torch.eye(2, 3, dtype=torch.float64) + uniform(seed, b, stages, 2, 3)
    return maps, torch.randint(0, 3, (b, stages), generator=torch.Generator().manual_seed(seed))


@given(st.integers(1, 70), st.sampled_from([1, 3]), st.integers(0, 4), st.sampled_from(INTERPOLATIONS))
def test_a_chain_of_identities_returns_the_image_to_the_bit(s, c, stages, interpolation):
    images = noise_images(s, 3, c, s)
    maps = torch.eye(2, 3, dtype=torch.float64).expand(3, stages, 2, 3)
    outside = torch.arange(3)[:, None].expand(3, stages)
    found = resample(images, maps, outside, interpolation=interpolation)
    assert torch.equal(found, images)
    assert found.data_ptr() != images.data_ptr()


@given(st.integers(1, 70), st.sampled_from(sorted(PADDING)), st.sampled_from(INTERPOLATIONS))
def test_flips_and_quarter_turns_only_move_pixels(s, outside, interpolation):
    images = noise_images(s, 4, 1, s)
    quarters = rotation(torch.tensor([0.0, 90.0, 180.0, -90.0], dtype=torch.float64))

    def moved(*maps):
        return resampled(images, *maps, outside=outside, interpolation=interpolation)

    assert torch.equal(moved(horizontal_flip(4, CPU)), images.flip(-1))
    assert torch.equal(moved(vertical_flip(4, CPU)), images.flip(-2))
    turned = torch.stack([image.rot90(turns, (-2, -1)) for image, turns in zip(images, (0, 1, 2, 3), strict=True)])
    assert torch.equal(moved(quarters), turned)
    assert torch.equal(moved(quarters, horizontal_flip(4, CPU)), turned.flip(-1))


@given(st.integers(2, 70), st.sampled_from(sorted(PADDING)), st.sampled_from(INTERPOLATIONS), st.data())
def test_a_shift_by_whole_pixels_is_a_crop_after_padding(s, outside, interpolation, data):
    pad = s - 1
    right, down = (data.draw(st.lists(st.integers(-pad, pad), min_size=5, max_size=5)) for _ in range(2))
    images = noise_images(s, 5, 1, s)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode=PADDING[outside])
    x, y = (torch.tensor(pixels, dtype=torch.float64) / s for pixels in (right, down))
    found = resampled(images, translate_x(x), translate_y(y), outside=[outside, outside], interpolation=interpolation)
    if outside == REFLECTED:
        together = translate_x(x)
        together[:, 1, 2] = translate_y(y)[:, 1, 2]
        assert torch.equal(found, resampled(images, together, outside=outside, interpolation=interpolation))
    for image, crop, i, j in zip(found, padded, right, down, strict=True):
        assert np.array_equal(image, crop[:, pad + j : pad + j + s, pad + i : pad + i + s])


@given(st.integers(1, 20), st.integers(0, 1000), st.sampled_from(INTERPOLATIONS))
def test_a_chain_of_whole_pixels_equals_its_stages_one_after_the_other(s, seed, interpolation):
    """Black, repeated and mirrored parts of the image included, which the next stage moves like the rest."""
    generator = torch.Generator().manual_seed(seed)
    images = noise_images(seed, 6, 1, s)
    pixels = torch.randint(-s, s + 1, (4, 6), generator=generator)
    outside = torch.randint(0, 3, (6, 5), generator=generator)
    quarters = 90.0 * torch.randint(0, 4, (6,), generator=generator).double()
    shifts = [move(row / s) for move, row in zip([translate_x, translate_y] * 2, pixels.double(), strict=True)]
    maps = torch.stack([*shifts[:2], rotation(quarters), *shifts[2:]], 1)
    step_by_step = images
    for stage in range(5):
        one = slice(stage, stage + 1)
        step_by_step = resample(step_by_step, maps[:, one], outside[:, one], interpolation=interpolation)
    assert torch.equal(resample(images, maps, outside, interpolation=interpolation), step_by_step)


def naive_fold(value, last, outside):
    if outside == REFLECTED and last > 0:
        while not 0 <= value <= last:
            value = -value if value < 0 else 2 * last - value
    return min(max(value, 0.0), last)


def naive_share(value, last, interpolation):
    if interpolation == "nearest":
        return float(-0.5 <= value < last + 0.5)
    return max(0.0, 1 - abs(value - min(max(value, 0), last)))


def naive_read(image, x, y, interpolation):
    last = len(image) - 1
    if interpolation == "nearest":
        return float(image[min(int(y + 0.5), last), min(int(x + 0.5), last)])
    left, top = int(x), int(y)
    right, bottom = min(left + 1, last), min(top + 1, last)
    above = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
    below = image[bottom, left] * (1 - x + left) + image[bottom, right] * (x - left)
    return above * (1 - y + top) + below * (y - top)


def naive_grey(image, maps, outside, x, y, interpolation):
    """The grey value at one position after all stages: that of the last one, of the image that the others leave."""
    s = len(image)
    if len(maps) == 0:
        return naive_read(image, x, y, interpolation)
    at = np.array([(2 * x + 1) / s - 1, (2 * y + 1) / s - 1, 1.0])
    x, y = (((maps[-1] @ at) + 1) * s - 1) / 2
    mode, last = outside[-1], s - 1.0
    share = naive_share(x, last, interpolation) * naive_share(y, last, interpolation) if mode == BLACK else 1.0
    x, y = naive_fold(x, last, mode), naive_fold(y, last, mode)
    return share and share * naive_grey(image, maps[:-1], outside[:-1], x, y, interpolation)


@given(st.integers(1, 9), st.sampled_from([1, 3]), st.integers(1, 4), st.integers(0, 10_000))
def test_a_bilinear_chain_equals_a_naive_one(s, c, stages, seed):
    images = smooth_images(seed, 2, c, s)
    maps, outside = random_chain(seed, 2, stages)
    found = resample(images, maps, outside, interpolation="bilinear").numpy()
    for i, k, y, x in np.ndindex(*found.shape):
        expected = naive_grey(images[i, k].numpy().astype(float), maps[i].numpy(), outside[i].numpy(), x, y, "bilinear")
        assert abs(found[i, k, y, x] - expected) < 0.51  # rounding, and positions in float32


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 10_000))
def test_a_nearest_chain_equals_a_naive_one(s, stages, seed):
    """But for single pixels on the edge between two, where float32 decides."""
    images = noise_images(seed, 3, 1, s)
    maps, outside = random_chain(seed, 3, stages)
    found = resample(images, maps, outside, interpolation="nearest").numpy()
    for i, image in enumerate(images[:, 0].numpy()):
        chain = maps[i].numpy(), outside[i].numpy()
        expected = [[naive_grey(image, *chain, x, y, "nearest") for x in range(s)] for y in range(s)]
        assert (found[i, 0] != np.array(expected)).sum() <= s * s / 50


def test_what_a_stage_leaves_black_stays_black():
    images = torch.full((1, 1, 10, 10), 200, dtype=torch.uint8)
    third = torch.tensor([0.3], dtype=torch.float64)
    back_and_forth = resampled(images, translate_x(third), translate_x(-third), outside=[BLACK, BORDER])[0, 0]
    assert (back_and_forth[:, 3:] == 200).all()
    there = resampled(images, translate_x(third), outside=BLACK)[0, 0]
    assert torch.equal(there[:, :7], back_and_forth[:, 3:])
    assert (there[:, 7:] == 0).all()
    mirrored = resampled(images, translate_x(third), translate_x(third), outside=[BLACK, REFLECTED])[0, 0]
    assert (mirrored[:, 4:9] == 0).all()
    assert (mirrored[:, :4] == 200).all()


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("outside", sorted(PADDING))
def test_positions_far_outside_are_valid(outside, interpolation):
    images = noise_images(0, 3, 1, 12)
    far = torch.tensor([1e3, 1e6, 1e9], dtype=torch.float64)
    moved = resampled(images, translate_x(far), outside=outside, interpolation=interpolation)
    if outside == BLACK:
        assert not moved.any()
    if outside == BORDER:
        assert torch.equal(moved, images[..., -1:].expand_as(images))
    if outside == REFLECTED:
        assert (moved.flatten(1).max(1).values <= images.flatten(1).max(1).values).all()


MOVES = {
    "rotate": (180, rotation, lambda image, m: image.rotate(m)),
    "shear_x": (1, shear_x, lambda image, m: transform(image, 1, m, 0, 0, 1, 0)),
    "shear_y": (1, shear_y, lambda image, m: transform(image, 1, 0, 0, m, 1, 0)),
    "translate_x": (1, translate_x, lambda image, m: transform(image, 1, 0, m * image.width, 0, 1, 0)),
    "translate_y": (1, translate_y, lambda image, m: transform(image, 1, 0, 0, 0, 1, m * image.width)),
    "scale": (0.9, scale, lambda image, m: zoomed(image, 1 / (1 + m))),
}


def zoomed(image, step):
    return transform(image, step, 0, (1 - step) * image.width / 2, 0, step, (1 - step) * image.width / 2)


def differing_share(images, name, seed):
    """The share of pixels, (b,), in which each image differs from Pillow's, at random magnitudes."""
    largest, move, change = MOVES[name]
    magnitudes = uniform(seed, len(images), low=-largest, high=largest)
    found = resampled(images, move(magnitudes), interpolation="nearest")
    expected = by_pillow(images, lambda image, i: change(image, float(magnitudes[i])))
    return (found != expected).flatten(1).double().mean(1)


@pytest.mark.parametrize("s", [1, 2, 17, 64, 150])
@pytest.mark.parametrize("name", MOVES)
def test_nearest_pixels_are_pillows_but_for_a_small_share(name, s):
    share = differing_share(noise_images(s, 60, 1, s), name, seed=s)
    assert share.mean() <= 0.001
    assert share.max() <= 0.005 + 1 / s


@pytest.mark.parametrize("name", MOVES)
def test_nearest_pixels_of_radiographs_are_pillows_but_for_a_small_share(name, shared_data):
    files = sorted((shared_data / "nih" / "images_256").glob("*.png"))[:40]
    images = np.stack([np.asarray(Image.open(file).convert("L")) for file in files])[:, None]
    share = differing_share(torch.from_numpy(images), name, seed=1)
    assert share.mean() <= 0.001
    assert share.max() <= 0.005 + 1 / 256


def test_half_a_pixel_goes_where_pillow_goes():
    images = noise_images(0, 4, 1, 16)
    halves = torch.tensor([-2.5, -0.5, 0.5, 1.5], dtype=torch.float64) / 16
    expected = by_pillow(images, lambda image, i: transform(image, 1, 0, float(halves[i]) * 16, 0, 1, 0))
    assert torch.equal(resampled(images, translate_x(halves), interpolation="nearest"), expected)


def torchvision_affine(image, *, angle=0.0, shift=0, size=1.0, shear=(0.0, 0.0), center=None):
    bilinear = torchvision.InterpolationMode.BILINEAR
    return torchvision.affine(
        image, angle, [shift, 0], size, [math.degrees(math.atan(m)) for m in shear], bilinear, center=center
    )


@pytest.mark.parametrize("c", [1, 3])
@pytest.mark.parametrize("s", [1, 2, 33, 64])
def test_bilinear_values_are_torchvisions_within_a_grey_level(s, c):
    images = noise_images(s, 50, c, s)
    random = uniform(s, 50)
    pixels = (s * random).round()
    moves = [
        (rotation(180 * random), lambda image, m: torchvision_affine(image, angle=-180 * m)),
        (shear_x(random), lambda image, m: torchvision_affine(image, shear=(m, 0.0), center=[0, 0])),
        (shear_y(random), lambda image, m: torchvision_affine(image, shear=(0.0, m), center=[0, 0])),
        (translate_x(-pixels / s), lambda image, m: torchvision_affine(image, shift=round(s * m))),
        (scale(0.9 * random), lambda image, m: torchvision_affine(image, size=1 + 0.9 * m)),
    ]
    for maps, change in moves:
        expected = torch.stack([change(image, float(m)) for image, m in zip(images, random, strict=True)])
        assert (resampled(images, maps).int() - expected.int()).abs().max() <= 1


def random_move(seed, b, s):
    images = noise_images(seed, b, 1, s)
    maps, outside = random_chain(seed, b, 3)
    maps[::3, 1] = torch.eye(2, 3, dtype=torch.float64)
    return images, maps, outside


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("s", "b"), [(1, 5), (7, 37), (32, 150), (224, 7)])
def test_an_image_is_moved_to_the_same_bits_in_any_batch(s, b, interpolation):
    images, maps, outside = random_move(s, b, s)

    def moved(rows):
        return resample(images[rows], maps[rows], outside[rows], interpolation=interpolation)

    whole = moved(torch.arange(b))
    order = torch.randperm(b, generator=torch.Generator().manual_seed(0))
    assert torch.equal(moved(order), whole[order])
    for size in (1, 2, 3):
        assert torch.equal(torch.cat([moved(part) for part in torch.arange(b).split(size)]), whole)


def test_each_channel_is_moved_like_a_grey_image_wherever_it_lies_in_memory():
    images = noise_images(0, 5, 3, 20)
    maps, outside = random_chain(0, 5, 2)
    found = resample(images.contiguous(memory_format=torch.channels_last), maps, outside, interpolation="bilinear")
    parts = [resample(part, maps, outside, interpolation="bilinear") for part in images.split(1, 1)]
    assert torch.equal(found, torch.cat(parts, 1))


def test_a_batch_without_images_is_moved_to_one():
    images, maps, outside = random_move(0, 2, 8)
    assert resample(images[:0], maps[:0], outside[:0], interpolation="bilinear").shape == (0, 1, 8, 8)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_no_value_is_read_back_from_a_device(interpolation):
    """A tensor of the meta device has no values: to read one fails, where a GPU would make the host wait."""
    inputs = [each.to("meta") for each in random_move(0, 4, 8)]
    assert resample(*inputs, interpolation=interpolation).shape == (4, 1, 8, 8)


def test_steps_that_a_cpu_leaves_out_change_no_bit(monkeypatch):
    """A GPU takes them all."""
    images, maps, outside = random_move(0, 40, 16)
    maps[:, 2] = torch.eye(2, 3, dtype=torch.float64)
    outside[:, 0], outside[:, 1] = BORDER, BLACK
    expected = [resample(images, maps, outside, interpolation=each) for each in INTERPOLATIONS]
    monkeypatch.setattr(geometry, "_needed", lambda wanted: [True] * wanted.shape[1])
    for found, each in zip(expected, INTERPOLATIONS, strict=True):
        assert torch.equal(resample(images, maps, outside, interpolation=each), found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_moves_images_as_a_cpu_does_and_never_waits():
    inputs = random_move(0, 100, 48)
    on_gpu = [each.cuda() for each in inputs]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = resample(*on_gpu, interpolation="bilinear")
        split = zip(*(each.split(7) for each in on_gpu), strict=True)
        parts = [resample(*part, interpolation="bilinear") for part in split]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(torch.cat(parts), found)
    assert (found.cpu().int() - resample(*inputs, interpolation="bilinear").int()).abs().max() <= 1


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("name", "largest"), [("rotate", 30), *((each, 0.3) for each in MOVES if each != "rotate")])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_larger_move_leads_farther_from_the_image(name, largest, sign, interpolation):
    images = smooth_images(0, 30, 1, 48)
    distances = []
    for level in (0, 0.25, 0.5, 0.75, 1):
        magnitude = torch.full((30,), sign * level * largest, dtype=torch.float64)
        moved = resampled(images, MOVES[name][1](magnitude), interpolation=interpolation)
        distances.append(float((moved.int() - images.int()).abs().double().mean()))
    assert distances[0] == 0
    assert all(a < b for a, b in pairwise(distances)), distances
