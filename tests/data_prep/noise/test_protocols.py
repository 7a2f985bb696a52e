"""Protocols: which labels are trained on, and which of them get the noise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from data_prep.errors import DataError
from data_prep.noise.entries import ClassConditionalNoise, FlippedNoise, MissingNoise, RandomNoise
from data_prep.noise.protocols import AllProtocol, CurveProtocol, PairsProtocol, ProtocolSettings, plan
from data_prep.noise.registry import NoNoise, draw_noise
from data_prep.noise.rows import ConfusionNoise, RowAndLabelNoise

LABELS = tuple("ABCDEFGH")
POSITIVES = (10, 80, 30, 25, 24, 60, 40, 90)
parse = TypeAdapter(ProtocolSettings).validate_python


def targets() -> np.ndarray:
    return (np.arange(100)[:, None] < np.array(POSITIVES)).astype(np.int8)


def test_without_more_said_all_labels_are_trained_clean_and_with_random_labels_on_the_most_frequent() -> None:
    found = plan(AllProtocol(), targets(), LABELS, 7)
    assert found.population_size is None
    assert [condition.name for condition in found.conditions] == ["clean", "random 20 % on B, F, H"]
    assert all((condition.labels, condition.first_seed) == (LABELS, 7) for condition in found.conditions)
    assert found.conditions[1].noise.labels == ("B", "F", "H")


def test_noise_that_names_its_labels_keeps_them_and_confusion_gets_an_even_number() -> None:
    protocol = AllProtocol(noise=(FlippedNoise(rate=0.1, labels=("C",)), ConfusionNoise(rate=0.3)), noisy_labels=3)
    flipped, confusion = plan(protocol, targets(), LABELS, 0).conditions
    assert flipped.noise.labels == ("C",)
    assert confusion.name == "confusion 30 % on B with H"


def test_the_papers_pairs_are_twenty_different_ones_with_random_labels_on_a_fifth_of_one_of_each() -> None:
    found = plan(PairsProtocol(min_positives=20), targets(), LABELS, 0)
    assert found.population_size == 21  # seven labels have enough
    assert len({condition.labels for condition in found.conditions}) == 20
    for condition in found.conditions:
        (noisy,) = condition.noise.labels
        assert noisy in condition.labels
        assert condition.noise == RandomNoise(rate=0.2, labels=(noisy,))
        assert "A" not in condition.labels
        assert condition.labels == tuple(sorted(condition.labels))  # the order of the data


@given(st.integers(0, 500), st.integers(1, 15), st.integers(1, 15))
def test_fewer_pairs_are_the_first_of_more_and_the_same_seed_draws_the_same(seed: int, one: int, other: int) -> None:
    few, many = (plan(PairsProtocol(pairs=n), targets(), LABELS, seed).conditions for n in sorted((one, other)))
    assert many[: len(few)] == few


def test_either_label_of_a_pair_may_get_the_noise_and_every_pair_may_be_drawn() -> None:
    drawn = [plan(PairsProtocol(pairs=1), targets(), LABELS, seed).conditions[0] for seed in range(600)]
    first = np.mean([condition.noise.labels[0] == condition.labels[0] for condition in drawn])
    assert abs(first - 0.5) < 4 * np.sqrt(0.25 / 600)
    counts = np.unique([" ".join(condition.labels) for condition in drawn], return_counts=True)[1]
    assert len(counts) == 15
    assert counts.min() > 15


def test_no_two_pairs_share_a_seed() -> None:
    found = plan(PairsProtocol(pairs=15), targets(), LABELS, 3).conditions
    assert [condition.first_seed for condition in found[:3]] == [3, 1003, 2003]


def test_only_labels_with_enough_positives_are_drawn_and_too_few_of_them_are_refused() -> None:
    with pytest.raises(
        DataError, match="20 pairs asked for, and only 15 can be made of the 6 labels with at least 25 positive"
    ):
        plan(PairsProtocol(), targets(), LABELS, 0)


@given(st.sampled_from([RandomNoise, MissingNoise, RowAndLabelNoise]))
def test_a_curve_has_a_condition_for_every_level_and_each_holds_the_one_before(kind: type) -> None:
    protocol = CurveProtocol(levels=(0, 0.1, 0.5), noise=kind(rate=1))
    clean, *noisy = plan(protocol, targets(), LABELS, 0).conditions
    assert clean.noise == NoNoise()
    assert [condition.noise.level for condition in noisy] == [0.1, 0.5]
    low, high = (draw_noise(condition.noise, targets(), LABELS, 0) for condition in noisy)
    assert high.selected[low.selected].all()
    assert (high.targets[low.selected] == low.targets[low.selected]).all()


def test_levels_that_come_to_the_same_noise_are_refused() -> None:
    with pytest.raises(ValidationError, match="two levels give the same noise, 'random 10 % on all labels'"):
        CurveProtocol(levels=(0.1, 0.1))
    with pytest.raises(ValidationError, match="two levels give the same noise"):
        CurveProtocol(noise=ClassConditionalNoise(false_negatives=0.2, false_positives=0.1))
    with pytest.raises(ValidationError, match=r"got 20. Did you mean 0.2\?"):
        CurveProtocol(levels=(0, 20))


def test_a_curves_noise_needs_no_rate_and_pairs_no_label() -> None:
    assert parse({"kind": "curve", "noise": {"kind": "flipped"}}).noise == FlippedNoise(rate=1)
    with pytest.raises(ValidationError, match="the labels of the pairs are drawn; remove B from the noise"):
        parse({"kind": "pairs", "noise": {"kind": "random", "rate": 0.2, "labels": ["B"]}})
    with pytest.raises(ValidationError, match="clean is named twice in clean, clean"):
        AllProtocol(noise=(NoNoise(), NoNoise()))


def test_confusion_in_a_pair_confuses_the_two() -> None:
    (condition,) = plan(PairsProtocol(pairs=1, noise=ConfusionNoise(rate=0.2)), targets(), LABELS, 0).conditions
    assert condition.noise.labels == condition.labels


def test_settings_come_back_from_json_by_their_kind() -> None:
    for settings in (AllProtocol(), PairsProtocol(), CurveProtocol()):
        assert parse(settings.model_dump(mode="json")) == settings
