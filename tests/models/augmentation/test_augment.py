"""What was drawn, applied: in its order, to the right images, the same to the bit in any batch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.augmentation.augment import augment
from models.augmentation.draws import IDENTITY, Draw, draw
from models.augmentation.operations import LISTS, NAMES, Operation
from models.augmentation.policies import ComposedPolicy, SimplePolicy, Slot

SAMPLINGS = [("bilinear", "border"), ("bilinear", "black"), ("nearest", "black"), ("nearest", "border")]
PAPER = ComposedPolicy(operations="paper", then="paper", length=3)


def pictures(n, side, channels=1, seed=0):
    return torch.randint(
        0, 256, (n, channels, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def drawn_as(*rows):
    """The draw of images whose slots are given as (operation, magnitude)."""
    operations = torch.tensor([[NAMES.index(name) for name, _ in row] for row in rows])
    magnitudes = torch.tensor([[float(magnitude) for _, magnitude in row] for row in rows], dtype=torch.float64)
    mixed = operations == NAMES.index("mixup")
    partners = torch.where(mixed, mixed.flatten().cumsum(0).view(mixed.shape) - 1, -1)
    return Draw(operations, magnitudes, torch.full((*operations.shape, 2), 0.5, dtype=torch.float64), partners)


def change(images, *row, sampling=("bilinear", "black"), partners=None):
    partners = images[:0] if partners is None else partners
    return augment(images, drawn_as(*[list(row)] * len(images)), partners, sampling)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**20), st.integers(1, 3), st.sampled_from([1, 3]), st.sampled_from(SAMPLINGS), st.integers(5, 40)
)
def test_an_image_is_changed_alike_in_any_batch(seed, parts, channels, sampling, side):
    n = 12
    images, samples = pictures(n, side, channels, seed), torch.arange(n)
    found = draw(PAPER.slots, seed=seed, epoch=1, samples=samples, candidate=0, n=n)
    whole = augment(images, found, images[found.partner_rows], sampling)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    for rows in order.tensor_split(parts):
        part = Draw(*(field[rows] for field in found))
        assert torch.equal(augment(images[rows], part, images[part.partner_rows], sampling), whole[rows])


def test_the_given_images_stay_as_they_are():
    images = pictures(8, 16)
    before = images.clone()
    found = draw(PAPER.slots, seed=1, epoch=1, samples=torch.arange(8), candidate=0, n=8)
    augment(images, found, images[found.partner_rows], ("bilinear", "border"))
    assert torch.equal(images, before)


def test_slots_without_an_operation_leave_the_image_to_the_bit():
    images = pictures(4, 17)
    assert torch.equal(change(images, ("identity", 0), ("identity", 0)), images)


def test_operations_are_applied_in_their_order():
    images = pictures(3, 16)
    first_moved = change(images, ("translate_x", 0.25), ("invert", 0))
    first_inverted = change(images, ("invert", 0), ("translate_x", 0.25))
    assert torch.equal(first_moved[..., 4:], first_inverted[..., 4:]) or torch.equal(
        first_moved[..., :-4], first_inverted[..., :-4]
    )
    assert not torch.equal(first_moved, first_inverted)  # black comes in after the inversion, white before it
    assert (first_moved == 255).sum() > (first_inverted == 255).sum()


@pytest.mark.parametrize("between", ["identity", "invert"])
def test_what_was_moved_out_does_not_come_back(between):
    images = torch.full((2, 1, 16, 16), 100, dtype=torch.uint8)
    found = change(images, ("translate_x", 0.25), (between, 0), ("translate_x", -0.25))
    assert ((found != 100) & (found != 155)).sum() == 2 * 16 * 4


WHOLE_PIXELS = ("translate_x", "translate_y", "horizontal_flip", "vertical_flip", "invert", "identity")


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from(["nearest", "bilinear"]))
def test_a_row_of_whole_pixel_moves_equals_one_after_another(data, interpolation):
    images = pictures(3, 16, seed=5)
    row = [
        (data.draw(st.sampled_from(WHOLE_PIXELS)), data.draw(st.integers(-4, 4)) / 16)
        for _ in range(data.draw(st.integers(1, 5)))
    ]
    together = change(images, *row, sampling=(interpolation, "black"))
    one_by_one = images
    for operation in row:
        one_by_one = change(one_by_one, operation, sampling=(interpolation, "black"))
    assert torch.equal(together, one_by_one)


def test_images_with_different_rows_do_not_mix():
    images = pictures(3, 16)
    rows = [
        [("invert", 0), ("rotate", 20)],
        [("rotate", 20), ("invert", 0)],
        [("identity", 0), ("equalize", 0)],
    ]
    together = augment(images, drawn_as(*rows), images[:0], ("bilinear", "black"))
    for i, row in enumerate(rows):
        assert torch.equal(together[i : i + 1], change(images[i : i + 1], *row))


def test_a_crop_shifts_by_whole_pixels_and_reflects():
    images = pictures(200, 32)
    slots = SimplePolicy(images="natural").slots
    found = draw(slots, seed=0, epoch=1, samples=torch.arange(200), candidate=0, n=200)
    changed = augment(images, found, images[:0], ("bilinear", "black")).numpy()
    seen = set()
    for image, result, operations in zip(images[:, 0].numpy(), changed[:, 0], found.operations, strict=True):
        padded = np.pad(image, 4, mode="reflect")
        flipped = operations[1] != IDENTITY
        wanted = result[:, ::-1] if flipped else result
        places = [(x, y) for y in range(9) for x in range(9) if np.array_equal(padded[y : y + 32, x : x + 32], wanted)]
        assert len(places) == 1
        seen.add(places[0])
    assert {x for x, _ in seen} == {y for _, y in seen} == set(range(9))


def test_mixup_is_the_weighted_mean_with_the_partner():
    images, partners = pictures(4, 8, seed=1), pictures(4, 8, seed=2)
    found = change(images, ("mixup", 0.3), partners=partners)
    expected = (images.double() * 0.3 + partners.double() * 0.7).numpy()
    assert np.abs(found.numpy() - expected).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", LISTS)
def test_every_operation_of_every_list_works_at_every_level(name, level, sampling):
    images = pictures(6, 13, channels=3)
    for operation in LISTS[name]:
        slots = (Slot((operation,), level=level),)
        found = draw(slots, seed=0, epoch=1, samples=torch.arange(6), candidate=0, n=6)
        changed = augment(images, found, images[found.partner_rows], sampling)
        assert changed.shape == images.shape
        assert changed.dtype == torch.uint8


def test_translation_without_interpolation_is_by_whole_pixels_towards_zero():
    images = pictures(2, 10)
    assert torch.equal(change(images, ("translate_x", 0.19), sampling=("nearest", "black")),
                       change(images, ("translate_x", 0.1), sampling=("nearest", "black")))  # fmt: skip
    assert not torch.equal(change(images, ("translate_x", 0.19)), change(images, ("translate_x", 0.1)))


def test_an_operation_without_a_level_is_not_changed_by_one():
    images = pictures(2, 10)
    assert torch.equal(change(images, ("equalize", 0)), change(images, ("equalize", 3)))
    assert Operation(name="equalize").magnitudes == (0, 0)
