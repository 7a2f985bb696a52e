"""Policies: their rows of slots, their names, and what they refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.augmentation.label_keeping import check_radiographs
from models.augmentation.operations import LISTS
from models.augmentation.policies import PolicySettings
from models.errors import SettingError

POLICY: TypeAdapter = TypeAdapter(PolicySettings)


def policy(kind, **settings):
    return POLICY.validate_python({"kind": kind, **settings})


def slot_names(made):
    return [tuple(operation.name for operation in slot.operations) for slot in made.slots]


def test_the_rows_of_the_policies():
    assert policy("none").slots == ()
    assert policy("jitter").slots == ()
    assert slot_names(policy("jitter", flip=0.3, contrast=0.2)) == [("horizontal_flip",), ("contrast",)]
    assert slot_names(policy("simple")) == [("rotate",), ("scale",), ("translate_x",), ("translate_y",)]
    assert slot_names(policy("simple", images="natural")) == [("crop",), ("horizontal_flip",)]
    assert [slot.level for slot in policy("randaugment", length=3, level=15).slots] == [0.5] * 3
    assert [(slot.bins, slot.probability) for slot in policy("trivialaugment").slots] == [(31, 1.0)]
    composed = policy("composed", operations="paper", then="paper").slots
    assert [slot.probability for slot in composed] == [0.5, 0.5, 1.0, 0.5, 1.0, 0.5]
    assert slot_names(policy("composed", operations="paper", then="paper"))[2:] == [
        ("crop",), ("horizontal_flip",), ("cutout",), ("mixup",),
    ]  # fmt: skip


def test_selection_draws_from_the_same_row_as_composed():
    for settings in ({}, {"operations": "paper", "then": "paper"}, {"length": 3, "operations": ["rotate"]}):
        assert policy("composed", **settings).slots == policy("uncertainty", **settings).slots


@pytest.mark.parametrize(
    "of",
    [
        {"kind": "none"},
        {"kind": "simple", "images": "natural"},
        {"kind": "jitter", "flip": 0.5},
        {"kind": "randaugment", "interpolation": "nearest"},
        {"kind": "trivialaugment", "operations": "paper", "outside": "black"},
        {"kind": "composed", "operations": "paper", "then": "paper", "allow": ["invert"]},
    ],
)
def test_a_compute_matched_policy_changes_images_as_the_one_that_it_trains_for_longer(of):
    trained, matched = policy(**of), policy("compute_matched", of=of)
    for what in ("slots", "sampling", "allowed", "mixes", "trained"):
        assert getattr(matched, what) == getattr(trained, what), what
    assert matched.epochs(9) == 21
    assert trained.epochs(9) == 9


@pytest.mark.parametrize(
    ("settings", "place"),
    [({"length": 3}, "length"), ({"of": {"kind": "uncertainty"}}, "uncertainty"), ({"of": {"lenght": 3}}, "of")],
)
def test_compute_is_matched_only_by_a_policy_without_selection_and_with_its_own_settings(settings, place):
    with pytest.raises(ValidationError, match=place):
        policy("compute_matched", **settings)


def test_only_policies_with_mixup_mix():
    assert not policy("composed").mixes
    assert policy("composed", operations="paper").mixes
    assert policy("composed", then="paper").mixes


@pytest.mark.parametrize(
    ("candidates", "selected", "epochs"), [(4, 1, 23), (8, 4, 67), (3, 1, 20), (2, 2, 20), (1, 1, 10)]
)
def test_matched_compute_is_a_forward_pass_for_each_candidate_and_a_step_for_each_selected_one(
    candidates, selected, epochs
):
    matched = policy("compute_matched", candidates=candidates, selected=selected)
    sampled = policy("uncertainty", candidates=candidates, selected=selected)
    assert matched.epochs(10) == epochs
    assert sampled.epochs(10) == 10
    assert matched.cost == sampled.cost == pytest.approx(epochs / 10, abs=0.05)


@pytest.mark.parametrize("kind", ["none", "simple", "jitter", "randaugment", "trivialaugment", "composed"])
def test_a_policy_without_selection_costs_what_a_plain_training_costs(kind):
    assert policy(kind).cost == 1


@given(st.integers(1, 64).flatmap(lambda c: st.tuples(st.just(c), st.integers(1, c))), st.integers(0, 20))
def test_the_cost_of_sampling_is_that_of_its_steps_one_by_one(numbers, of_warmup):
    candidates, selected = numbers
    made = policy("uncertainty", candidates=candidates, selected=selected, warmup=of_warmup / 20)
    scores = candidates if selected < candidates else 0
    by_step = [selected + (scores / 3 if step >= of_warmup else 0) for step in range(20)]
    assert made.cost == pytest.approx(sum(by_step) / 20)


def test_a_name_says_what_differs_from_the_defaults():
    assert policy("uncertainty").name == "uncertainty"
    made = policy("uncertainty", selection="lowest", operations=["rotate", "cutout"])
    assert made.name == "uncertainty(operations=rotate+cutout, selection=lowest)"
    wide = policy("composed", operations=[{"name": "rotate", "high": 20}, {"name": "solarize", "low": 128}])
    assert wide.name == "composed(operations=rotate ±0 to 20+solarize 128 to 256)"
    assert policy("compute_matched").name == "compute_matched"
    assert policy("compute_matched", of={"kind": "simple"}).name == "compute_matched(of=simple)"


def test_more_cannot_be_selected_than_there_are_candidates():
    for kind in ("uncertainty", "compute_matched"):
        with pytest.raises(ValidationError, match="selected must be at most the number of candidates, 4; got 5"):
            policy(kind, selected=5)


@pytest.mark.parametrize(
    "kind", ["none", "simple", "jitter", "randaugment", "trivialaugment", "composed", "uncertainty"]
)
def test_the_default_of_every_policy_keeps_what_a_radiograph_shows(kind):
    check_radiographs(policy(kind))


DESTROYING = [
    "invert",
    "solarize",
    "vertical_flip",
    {"name": "posterize", "low": 8, "high": 4},
    {"name": "posterize", "low": 0, "high": 0},
    {"name": "translate_x", "high": 1 / 3, "signed": True},
    {"name": "translate_y", "low": -0.4, "high": 0, "signed": False},
    {"name": "cutout", "high": 0.5},
]


@pytest.mark.parametrize("operation", DESTROYING)
@pytest.mark.parametrize("kind", ["composed", "uncertainty", "randaugment", "trivialaugment"])
def test_an_operation_that_destroys_labels_is_refused_for_radiographs_unless_it_is_allowed_by_name(kind, operation):
    name = operation if isinstance(operation, str) else operation["name"]
    made = policy(kind, operations=["rotate", operation])
    with pytest.raises(SettingError, match=rf"leave {name} out .* allow: \[{name}\]") as refused:
        check_radiographs(made)
    assert "\n" not in str(refused.value)
    check_radiographs(made.model_copy(update={"allow": (name,)}))


def test_radiographs_are_not_hidden_from_the_check_by_a_longer_training():
    with pytest.raises(SettingError, match=r"leave invert out .* allow: \[invert\]"):
        check_radiographs(policy("compute_matched", of={"kind": "composed", "operations": ["invert"]}))
    check_radiographs(policy("compute_matched", of={"kind": "composed", "operations": ["invert"], "allow": ["invert"]}))


def test_all_operations_that_destroy_labels_are_named_at_once():
    paper = policy("composed", operations="paper")
    with pytest.raises(SettingError) as refused:
        check_radiographs(paper)
    names = str(refused.value).partition("allow: [")[2].rstrip("]").split(", ")
    assert sorted(names) == ["cutout", "invert", "posterize", "solarize", "translate_x", "translate_y"]
    check_radiographs(paper.model_copy(update={"allow": tuple(names)}))


@pytest.mark.parametrize("operations", sorted(set(LISTS) - {"radiograph"}))
def test_lists_for_natural_images_are_refused_for_radiographs(operations):
    with pytest.raises(SettingError):
        check_radiographs(policy("composed", operations=operations))


def test_default_operations_for_natural_images_are_refused_where_they_destroy():
    check_radiographs(policy("composed", then="crop_and_flip"))
    with pytest.raises(SettingError, match="cutout"):
        check_radiographs(policy("composed", then="paper"))
