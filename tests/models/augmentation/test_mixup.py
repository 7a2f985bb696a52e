"""Targets of mixed images: the same shares as the images, and unknown if either label is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.augmentation.draws import draw
from models.augmentation.mixup import mix_targets, soft_targets
from models.augmentation.operations import LISTS, NAMES
from models.augmentation.policies import Slot

SLOTS = (Slot(LISTS["paper"], 0.5), Slot((LISTS["paper"][-1],), 0.5), Slot((LISTS["paper"][-1],), 0.5))


def naive(target, row, all_targets):
    """One image's target, slot by slot; a list of numbers, None where unknown."""
    for operation, share, partner in row:
        if NAMES[operation] == "mixup":
            other = all_targets[partner]
            target = [
                None if a is None or b is None else share * a + (1 - share) * b
                for a, b in zip(target, other, strict=True)
            ]
    return target


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**20))
def test_targets_are_mixed_as_the_images_are(n, k, seed):
    targets = torch.randint(-1, 2, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    drawn = draw(SLOTS, seed=seed, epoch=1, samples=torch.arange(n), candidate=0, n=n)
    mixed = mix_targets(soft_targets(targets, None), drawn, soft_targets(targets[drawn.partner_rows], None))
    plain = [[None if value < 0 else float(value) for value in row] for row in targets.tolist()]
    for i in range(n):
        row = zip(drawn.operations[i].tolist(), drawn.magnitudes[i].tolist(), drawn.partners[i].tolist(), strict=True)
        expected = [-1.0 if value is None else value for value in naive(plain[i], row, plain)]
        assert mixed[i].tolist() == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 2**20))
def test_mixed_classes_are_distributions(n, classes, seed):
    targets = torch.randint(-1, classes, (n, 1), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    drawn = draw(SLOTS, seed=seed, epoch=1, samples=torch.arange(n), candidate=0, n=n)
    mixed = mix_targets(soft_targets(targets, classes), drawn, soft_targets(targets[drawn.partner_rows], classes))
    known = mixed[:, 0] >= 0
    torch.testing.assert_close(mixed[known].sum(1), torch.ones(int(known.sum())))
    assert (mixed[~known] == -1).all()
    assert not known[targets[:, 0] < 0].any()
    unmixed = (drawn.partners < 0).all(1) & (targets[:, 0] >= 0)
    assert torch.equal(mixed[unmixed].argmax(1), targets[unmixed, 0].long())
    assert (mixed[unmixed].amax(1) == 1).all()
