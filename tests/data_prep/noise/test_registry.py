"""Noise models: what they select, what they change, and what they leave alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as how_often
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import DataError
from data_prep.noise.entries import ClassConditionalNoise, FlippedNoise, MissingNoise, RandomNoise, ShuffledNoise
from data_prep.noise.mask import NoiseMask
from data_prep.noise.registry import NoiseSettings, NoNoise, draw_noise
from data_prep.noise.rows import ConfusionNoise, RowAndLabelNoise

LABELS = ("Effusion", "Mass", "Hernia")
KINDS = (RandomNoise, ShuffledNoise, FlippedNoise)
TARGETS = arrays(np.int8, st.tuples(st.integers(0, 60), st.just(3)), elements=st.sampled_from([-1, 0, 1]))
FIRST_FINGERPRINTS = ["52d37fef", "af370866", "aeafa242", "61291244"]
NOISES = st.builds(
    lambda kind, rate, labels: kind(rate=rate, labels=tuple(labels)),
    st.sampled_from(KINDS),
    st.floats(0, 1),
    st.lists(st.sampled_from(LABELS), unique=True),
)
brief = how_often(max_examples=40, deadline=None)  # other tests share the cores
parse = TypeAdapter(NoiseSettings).validate_python


@given(NOISES, TARGETS, st.integers(0, 99))
def test_exactly_the_share_of_known_entries_of_the_named_labels_is_selected(
    settings: RandomNoise, targets: np.ndarray, seed: int
) -> None:
    mask = draw_noise(settings, targets, LABELS, seed)
    for column, label in enumerate(LABELS):
        known = int((targets[:, column] != -1).sum())
        named = label in (settings.labels or LABELS)
        assert mask.selected[:, column].sum() == (round(settings.rate * known) if named else 0)


@given(NOISES, TARGETS, st.integers(0, 99))
def test_only_selected_known_entries_can_change(settings: RandomNoise, targets: np.ndarray, seed: int) -> None:
    before = targets.copy()
    mask = draw_noise(settings, targets, LABELS, seed)
    assert (targets == before).all()
    assert not (mask.selected & (targets == -1)).any()
    assert (mask.targets[~mask.selected] == targets[~mask.selected]).all()
    assert (mask.changed == (mask.targets != targets)).all()
    assert set(np.unique(mask.targets)) <= {-1, 0, 1}
    assert mask.targets.dtype == np.int8


@given(NOISES, TARGETS, st.integers(0, 99))
def test_the_same_seed_draws_the_same_mask(settings: RandomNoise, targets: np.ndarray, seed: int) -> None:
    assert (
        draw_noise(settings, targets, LABELS, seed).fingerprint
        == draw_noise(settings, targets.copy(), LABELS, seed).fingerprint
    )


@given(NOISES, TARGETS, st.integers(0, 99))
def test_what_a_label_gets_does_not_depend_on_the_other_labels(
    settings: RandomNoise, targets: np.ndarray, seed: int
) -> None:
    every = draw_noise(settings.model_copy(update={"labels": ()}), targets, LABELS, seed)
    alone = draw_noise(settings.model_copy(update={"labels": ("Mass",)}), targets[:, [1]], ("Mass",), seed)
    assert (every.targets[:, 1] == alone.targets[:, 0]).all()
    assert (every.selected[:, 1] == alone.selected[:, 0]).all()


@given(TARGETS, st.floats(0, 1), st.floats(0, 1), st.sampled_from([RandomNoise, FlippedNoise]))
def test_a_higher_rate_does_all_that_a_lower_one_does(
    targets: np.ndarray, one: float, other: float, kind: type[RandomNoise]
) -> None:
    low, high = (draw_noise(kind(rate=rate), targets, LABELS, 0) for rate in sorted((one, other)))
    assert (high.targets[low.selected] == low.targets[low.selected]).all()
    assert high.selected[low.selected].all()


@given(TARGETS, st.floats(0, 1))
def test_shuffling_keeps_the_prevalence_and_flipping_changes_all_it_selects(targets: np.ndarray, rate: float) -> None:
    shuffled = draw_noise(ShuffledNoise(rate=rate), targets, LABELS, 0)
    assert ((shuffled.targets == 1).sum(axis=0) == (targets == 1).sum(axis=0)).all()
    flipped = draw_noise(FlippedNoise(rate=rate), targets, LABELS, 0)
    assert (flipped.changed == flipped.selected).all()
    assert (flipped.selected == shuffled.selected).all()


def test_a_fair_coin_is_fair_and_labels_and_seeds_are_independent() -> None:
    targets = np.zeros((20_000, 3), dtype=np.int8)
    mask = draw_noise(RandomNoise(rate=0.5), targets, LABELS, 0)
    assert (abs(mask.targets.sum(axis=0) - 5_000) < 4 * np.sqrt(2_500)).all()
    other = draw_noise(RandomNoise(rate=0.5), targets, LABELS, 1)
    together = [(mask.selected[:, 0] & mask.selected[:, 1]).mean(), (mask.selected & other.selected).mean()]
    assert np.allclose(together, 0.25, atol=0.015)


def test_no_noise_is_a_mask_that_selects_nothing() -> None:
    targets = np.array([[1, 0, -1]], dtype=np.int8)
    mask = draw_noise(NoNoise(), targets, LABELS, 0)
    assert not mask.selected.any()
    assert (mask.targets == targets).all()


def test_the_summary_counts_what_was_done() -> None:
    targets = np.array([[1, 1, -1]] * 3 + [[0, -1, -1]] * 7, dtype=np.int8)
    effusion, mass, hernia = draw_noise(FlippedNoise(rate=1, labels=("Effusion",)), targets, LABELS, 0).summary()
    assert (effusion.selected, effusion.changed, effusion.rate) == (10, 10, 1.0)
    assert (effusion.prevalence_before, effusion.prevalence_after) == (0.3, 0.7)
    assert (mass.label, mass.selected, mass.prevalence_before, mass.prevalence_after) == ("Mass", 0, 1.0, 1.0)
    assert (hernia.rate, hernia.prevalence_before) == (0.0, 0.0)


def test_a_mask_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    targets = np.random.default_rng(0).integers(-1, 2, (50, 3)).astype(np.int8)
    mask = draw_noise(RandomNoise(rate=0.3), targets, LABELS, 0)
    mask.save(tmp_path / "mask.npz")
    read = NoiseMask.load(tmp_path / "mask.npz")
    assert (read.fingerprint, read.labels, read.summary()) == (mask.fingerprint, LABELS, mask.summary())
    assert [file.name for file in tmp_path.iterdir()] == ["mask.npz"]


def test_a_mask_that_is_not_what_was_written_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mask.npz"
    with pytest.raises(DataError, match="no noise mask can be read"):
        NoiseMask.load(path)
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match="no noise mask can be read"):
        NoiseMask.load(path)
    mask = draw_noise(FlippedNoise(rate=0.5), np.zeros((9, 3), dtype=np.int8), LABELS, 0)
    np.savez(path, labels=LABELS, clean=mask.clean, selected=mask.selected, targets=mask.targets, fingerprint="x")
    with pytest.raises(DataError, match="its hash differs"):
        NoiseMask.load(path)
    with pytest.raises(DataError, match="cannot be written"):
        mask.save(tmp_path / "no folder" / "mask.npz")


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (20, r"noise rate must lie in \[0, 1\]; got 20. Did you mean 0.2\?"),
        (-0.1, r"noise rate must lie in \[0, 1\]; got -0.1"),
        (float("nan"), "finite number"),
    ],
)
def test_a_rate_that_is_no_share_is_refused_with_a_hint(rate: float, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        parse({"kind": "random", "rate": rate})


def test_an_unknown_or_repeated_label_is_refused() -> None:
    targets = np.zeros((4, 3), dtype=np.int8)
    with pytest.raises(DataError, match=r"unknown label 'Efusion'; did you mean Effusion\?"):
        draw_noise(RandomNoise(rate=0.2, labels=("Efusion",)), targets, LABELS, 0)
    with pytest.raises(ValidationError, match="'Mass' is named twice"):
        RandomNoise(rate=0.2, labels=("Mass", "Mass"))


# --- Class-conditional, confusion, rows, missing ---


@brief
@given(TARGETS, st.floats(0, 1), st.integers(0, 99))
def test_missing_labels_become_unknown_and_nothing_else(targets: np.ndarray, rate: float, seed: int) -> None:
    mask = draw_noise(MissingNoise(rate=rate), targets, LABELS, seed)
    assert (mask.targets[mask.selected] == -1).all()
    assert (mask.changed == mask.selected).all()
    assert (mask.selected == draw_noise(FlippedNoise(rate=rate), targets, LABELS, seed).selected).all()
    for found, column in zip(mask.summary(), targets.T, strict=True):
        assert (found.known, found.lost, found.false_negatives) == ((column != -1).sum(), found.selected, 0)
        assert found.prevalence_before == pytest.approx((column == 1).sum() / max(1, (column != -1).sum()))


@brief
@given(TARGETS, st.floats(0, 1), st.floats(0, 1), st.integers(0, 99))
def test_class_conditional_noise_turns_an_exact_share_of_each_class(
    targets: np.ndarray, missed: float, invented: float, seed: int
) -> None:
    settings = ClassConditionalNoise(
        labels=("Effusion", "Mass"), rate=0.5, false_negatives=missed, false_positives={"Mass": invented}
    )
    mask = draw_noise(settings, targets, LABELS, seed)
    effusion, mass, hernia = mask.summary()
    present, absent = ((targets == value).sum(axis=0) for value in (1, 0))
    assert effusion.false_negatives == round(missed * present[0])
    assert effusion.false_positives == round(0.5 * absent[0])
    assert mass.false_negatives == round(missed * present[1])
    assert mass.false_positives == round(invented * absent[1])
    assert hernia.selected == 0
    assert (mask.changed == mask.selected).all()


@brief
@given(TARGETS, st.floats(0, 1), st.integers(0, 99))
def test_confusion_swaps_an_exact_share_of_the_rows_with_one_finding_of_the_pair(
    targets: np.ndarray, rate: float, seed: int
) -> None:
    mask = draw_noise(ConfusionNoise(rate=rate, labels=("Hernia", "Mass")), targets, LABELS, seed)
    one_of_two = (np.sort(targets[:, 1:], axis=1) == (0, 1)).all(axis=1)
    swapped = mask.changed.any(axis=1)
    assert swapped.sum() == round(rate * one_of_two.sum())
    assert not (swapped & ~one_of_two).any()
    assert (mask.targets[swapped][:, 1:] == targets[swapped][:, :0:-1]).all()
    assert (mask.selected == mask.changed).all()
    assert not mask.selected[:, 0].any()


WITH_NONE = ("Effusion", "No Finding", "Mass", "Hernia")


def consistent(seed: int, rows: int = 60) -> np.ndarray:
    """Targets (rows, 4) with unknown entries in which "No Finding" says what the others say."""
    targets = np.random.default_rng(seed).choice([-1, 0, 1], (rows, 4), p=[0.1, 0.6, 0.3]).astype(np.int8)
    others = np.delete(targets, 1, axis=1)
    targets[:, 1] = np.where((others == 1).any(axis=1), 0, np.where((others == 0).all(axis=1), 1, -1))
    return targets


@brief
@given(st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_row_noise_selects_an_exact_share_of_rows_and_all_their_named_labels(
    seed: int, rate: float, probability: float, every: bool
) -> None:
    targets, named = consistent(seed), (() if every else ("Mass", "Effusion"))
    settings = RowAndLabelNoise(rate=rate, probability=probability, labels=named)
    mask = draw_noise(settings, targets, WITH_NONE, seed)
    columns = [0, 2, 3] if every else [0, 2]
    known = (targets[:, columns] != -1).any(axis=1)
    rows = mask.selected[:, columns].any(axis=1)
    assert rows.sum() == round(rate * known.sum())
    assert (mask.selected[rows][:, columns] == (targets[rows][:, columns] != -1)).all()
    assert not (mask.changed & ~mask.selected).any()
    assert not (mask.selected & (targets == -1)).any()
    if not every:
        assert not mask.selected[:, 3].any()


@brief
@given(st.integers(0, 999), st.floats(0, 1), st.floats(0, 1), st.sampled_from([(), ("Mass",)]))
def test_row_noise_keeps_no_finding_consistent(
    seed: int, rate: float, probability: float, named: tuple[str, ...]
) -> None:
    targets = consistent(seed)
    mask = draw_noise(RowAndLabelNoise(rate=rate, probability=probability, labels=named), targets, WITH_NONE, seed)
    for row, before in zip(mask.targets, targets, strict=True):
        others = np.delete(row, 1)
        if before[1] != -1 and (others == 1).any():
            assert row[1] == 0
        if before[1] != -1 and (others == 0).all():
            assert row[1] == 1
        if before[1] == -1:
            assert row[1] == -1


def test_each_label_of_a_noisy_row_flips_with_the_probability_on_its_own() -> None:
    targets = np.zeros((20_000, 3), dtype=np.int8)
    mask = draw_noise(RowAndLabelNoise(rate=0.5, probability=0.3), targets, LABELS, 0)
    rows = mask.selected[:, 0]
    assert mask.targets[rows].mean(axis=0) == pytest.approx([0.3] * 3, abs=0.02)
    assert (mask.targets[rows, 0] & mask.targets[rows, 1]).mean() == pytest.approx(0.09, abs=0.015)


@pytest.mark.parametrize(
    "kind",
    [
        MissingNoise,
        lambda rate: ConfusionNoise(rate=rate, labels=("Mass", "Hernia")),
        RowAndLabelNoise,
        lambda rate: ClassConditionalNoise(rate=rate),
    ],
)
@brief
@given(targets=TARGETS, one=st.floats(0, 1), other=st.floats(0, 1))
def test_levels_of_the_other_kinds_are_nested_too(
    kind: Callable, targets: np.ndarray, one: float, other: float
) -> None:
    low, high = (draw_noise(kind(rate=rate), targets, LABELS, 0) for rate in sorted((one, other)))
    assert (high.targets[low.selected] == low.targets[low.selected]).all()
    assert high.selected[low.selected].all()
    assert draw_noise(kind(rate=one), targets, LABELS, 0).fingerprint == (
        draw_noise(kind(rate=one), targets.copy(), LABELS, 0).fingerprint
    )


def test_masks_that_lose_other_values_have_other_fingerprints() -> None:
    present, absent = (np.full((4, 1), value, dtype=np.int8) for value in (1, 0))
    masks = [draw_noise(MissingNoise(rate=1), targets, ("Mass",), 0) for targets in (present, absent)]
    assert (masks[0].targets == masks[1].targets).all()
    assert masks[0].fingerprint != masks[1].fingerprint


def test_fingerprints_of_the_first_kinds_stay_what_they_were() -> None:
    targets = np.array([[1, 0, -1], [0, 0, 1], [1, 1, 0], [0, -1, 0], [0, 1, 1]], dtype=np.int8)
    found = [
        draw_noise(settings, targets, LABELS, 3).fingerprint[7:15]
        for settings in (NoNoise(), *(kind(rate=0.6) for kind in KINDS))
    ]
    assert found == FIRST_FINGERPRINTS


def test_rates_per_label_need_the_label_and_lie_between_zero_and_one() -> None:
    with pytest.raises(ValidationError, match="a rate is given for Mass; name it among the noise's labels"):
        ClassConditionalNoise(false_negatives={"Mass": 0.2})
    with pytest.raises(ValidationError, match=r"got 20. Did you mean 0.2\?"):
        ClassConditionalNoise(false_negatives=20)
    with pytest.raises(ValidationError, match="got -1"):
        ClassConditionalNoise(labels=("Mass",), false_positives={"Mass": -1})
    with pytest.raises(ValidationError, match=r"got 1\.5"):
        RowAndLabelNoise(rate=0.1, probability=1.5)


def test_confusion_wants_an_even_number_of_labels() -> None:
    with pytest.raises(ValidationError, match="two by two; got 3: name a partner of Hernia"):
        ConfusionNoise(rate=0.2, labels=LABELS)
    with pytest.raises(DataError, match="the data have 3: name the pairs"):
        draw_noise(ConfusionNoise(rate=0.2), np.zeros((4, 3), dtype=np.int8), LABELS, 0)
    with pytest.raises(DataError, match="no finding to flip in No Finding"):
        draw_noise(RowAndLabelNoise(rate=0.2, labels=("No Finding",)), consistent(0), WITH_NONE, 0)


def test_settings_come_back_from_json_by_their_kind() -> None:
    others = (
        MissingNoise(rate=0.1),
        ConfusionNoise(rate=0.2, labels=("Mass", "Hernia")),
        RowAndLabelNoise(rate=0.2, probability=0.1),
        ClassConditionalNoise(labels=("Mass",), false_negatives={"Mass": 0.3}, false_positives=0.1),
    )
    for settings in (NoNoise(), *(kind(rate=0.2, labels=("Mass",)) for kind in KINDS), *others):
        assert parse(settings.model_dump(mode="json")) == settings


def test_names_can_be_read_by_a_person() -> None:
    assert NoNoise().name == "clean"
    assert RandomNoise(rate=0.2, labels=("Effusion", "Mass")).name == "random 20 % on Effusion, Mass"
    assert ShuffledNoise(rate=0.125).name == "shuffled 12.5 % on all labels"
    many = FlippedNoise(rate=0.1, labels=("A", "B", "C", "D", "E"))
    assert many.name == "flipped 10 % on A, B, C and 2 more"
    assert many.title == "10 % flipped labels"
    assert MissingNoise(rate=0.2).name == "missing 20 % on all labels"
    assert ConfusionNoise(rate=0.2, labels=("A", "B", "C", "D")).name == "confusion 20 % on A with B, C with D"
    assert RowAndLabelNoise(rate=0.2, labels=("A",)).name == "row_and_label 20 % of rows, 50 % flipped, on A"
    wrong = ClassConditionalNoise(labels=("A", "B"), rate=0.1, false_negatives={"B": 0.3})
    assert wrong.name == "class_conditional 10/30 % false negatives, 10 % false positives on A, B"
    assert wrong.title == "labels with 10/30 % false negatives and 10 % false positives"
    assert (wrong.level, many.level, NoNoise().level) == (0.3, 0.1, 0.0)
