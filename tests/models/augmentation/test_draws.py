"""Random draws of policies: functions of (seed, epoch, sample, candidate), with the distribution that was asked."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from models.augmentation.draws import IDENTITY, Draw, draw
from models.augmentation.operations import LISTS, NAMES, Operation
from models.augmentation.policies import ComposedPolicy, RandAugmentPolicy, Slot, TrivialAugmentPolicy

SLOTS = ComposedPolicy(operations="paper", then="paper").slots
N = 1000


def drawn(samples, *, slots=SLOTS, seed=0, epoch=1, candidate=0, n=N):
    return draw(slots, seed=seed, epoch=epoch, samples=torch.as_tensor(samples), candidate=candidate, n=n)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, N - 1), min_size=1, max_size=30), st.integers(1, 7), st.integers(0, 5), st.integers(0, 3)
)
def test_a_draw_does_not_depend_on_the_batch_or_its_order(samples, parts, epoch, candidate):
    whole = drawn(samples, epoch=epoch, candidate=candidate)
    cut = [
        drawn(part, epoch=epoch, candidate=candidate) for part in torch.tensor(samples).tensor_split(parts) if len(part)
    ]
    assert equal(whole, Draw.concatenate(cut))
    backwards = drawn(samples[::-1], epoch=epoch, candidate=candidate)
    assert equal(whole, [part.flip(0) for part in backwards])


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}, {"candidate": 1}])
def test_other_seeds_epochs_and_candidates_draw_anew(other):
    samples = torch.arange(N)
    one, two = drawn(samples), drawn(samples, **other)
    assert 0.01 < (one.operations[:, 0] == two.operations[:, 0]).float().mean() < 0.5
    assert abs(torch.corrcoef(torch.stack([one.places[:, 0, 0], two.places[:, 0, 0]]))[0, 1]) < 0.12


def test_operations_are_drawn_alike_and_left_out_half_the_time():
    found = drawn(torch.arange(40_000))
    for j in range(2):
        of_slot = found.operations[:, j]
        applied = of_slot[of_slot != IDENTITY]
        assert abs(len(applied) / 40_000 - 0.5) < 0.01
        counts = torch.bincount(applied, minlength=len(NAMES))
        listed = [NAMES.index(operation.name) for operation in LISTS["paper"]]
        assert chisquare(counts[listed]).pvalue > 1e-4
        assert counts.sum() == counts[listed].sum()
    neither = (found.operations[:, :2] == IDENTITY).all(1).float().mean()
    assert abs(neither - 0.25) < 0.01


@pytest.mark.parametrize("operation", LISTS["paper"], ids=lambda operation: operation.name)
def test_magnitudes_are_uniform_between_their_ends_with_a_sign_where_there_is_one(operation):
    magnitudes = drawn(torch.arange(5000), slots=(Slot((operation,)),)).magnitudes[:, 0]
    least, most = operation.magnitudes
    assert magnitudes.min() >= least
    assert magnitudes.max() <= most
    if most > least:
        assert kstest((magnitudes - least) / (most - least), "uniform").pvalue > 1e-4


def test_randaugment_has_one_level_and_trivialaugment_thirty_one():
    fixed = drawn(torch.arange(2000), slots=RandAugmentPolicy(operations="randaugment", level=9).slots)
    rotated = fixed.magnitudes[fixed.operations == NAMES.index("rotate")]
    assert set(rotated.tolist()) == {-9.0, 9.0}
    bins = drawn(
        torch.arange(20_000), slots=TrivialAugmentPolicy(operations=(Operation(name="rotate", high=30),)).slots
    )
    levels, counts = bins.magnitudes.flatten().unique(return_counts=True)
    torch.testing.assert_close(levels, torch.arange(31, dtype=torch.float64))
    assert chisquare(counts).pvalue > 1e-4


def test_partners_are_any_training_image_and_only_mixup_has_them():
    found = drawn(torch.arange(30_000), slots=(Slot((Operation(name="mixup", high=1), Operation(name="invert"))),), n=7)
    mixed = found.operations == NAMES.index("mixup")
    assert (found.partners[~mixed] == -1).all()
    counts = torch.bincount(found.partners[mixed], minlength=7)
    assert len(counts) == 7
    assert chisquare(counts).pvalue > 1e-4


def test_positions_of_partners_point_to_their_rows():
    found = drawn(torch.arange(50))
    mixed = found.partners >= 0
    assert torch.equal(found.partner_rows[found.partner_positions[mixed]], found.partners[mixed])


def test_no_generator_is_used():
    before = torch.get_rng_state()
    drawn(torch.arange(100))
    assert torch.equal(before, torch.get_rng_state())
