"""Noise models: what they select, what they change, and what they leave alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import DataError
from data_prep.noise import (
    FlippedNoise,
    NoiseMask,
    NoiseSettings,
    NoNoise,
    RandomNoise,
    ShuffledNoise,
    draw_noise,
)

LABELS = ("Effusion", "Mass", "Hernia")
KINDS = (RandomNoise, ShuffledNoise, FlippedNoise)
TARGETS = arrays(np.int8, st.tuples(st.integers(0, 60), st.just(3)), elements=st.sampled_from([-1, 0, 1]))
NOISES = st.builds(
    lambda kind, rate, labels: kind(rate=rate, labels=tuple(labels)),
    st.sampled_from(KINDS),
    st.floats(0, 1),
    st.lists(st.sampled_from(LABELS), unique=True),
)
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
    np.savez(path, labels=LABELS, selected=mask.selected, changed=mask.changed, targets=mask.targets, fingerprint="x")
    with pytest.raises(DataError, match="its hash differs"):
        NoiseMask.load(path)
    with pytest.raises(DataError, match="cannot be written"):
        mask.save(tmp_path / "no folder" / "mask.npz")


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (20, r"noise rate must lie in \[0, 1\]; got 20. Did you mean 0.2\?"),
        (-0.1, r"noise rate must lie in \[0, 1\]; got -0.1"),
        (float("nan"), "got nan"),
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


def test_settings_come_back_from_json_by_their_kind() -> None:
    for settings in (NoNoise(), *(kind(rate=0.2, labels=("Mass",)) for kind in KINDS)):
        assert parse(settings.model_dump(mode="json")) == settings


def test_names_can_be_read_by_a_person() -> None:
    assert NoNoise().name == "clean"
    assert RandomNoise(rate=0.2, labels=("Effusion", "Mass")).name == "random 20 % on Effusion, Mass"
    assert ShuffledNoise(rate=0.125).name == "shuffled 12.5 % on all labels"
    many = FlippedNoise(rate=0.1, labels=("A", "B", "C", "D", "E"))
    assert many.name == "flipped 10 % on A, B, C and 2 more"
