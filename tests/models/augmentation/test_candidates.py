"""What selects among candidates is set alike for images and texts, and images are named and stored as before."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.augmentation.candidates import CandidateSettings
from models.augmentation.policies import UncertaintyPolicy
from models.augmentation.word_replacement import UncertainWordPolicy


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 1), st.integers(1, 50))
def test_selection_begins_after_the_warm_up_and_needs_something_to_leave_out(candidates, selected, warmup, steps):
    if selected > candidates:
        with pytest.raises(ValueError, match=f"at most the number of candidates, {candidates}; got {selected}"):
            CandidateSettings(candidates=candidates, selected=selected)
        return
    policy = CandidateSettings(candidates=candidates, selected=selected, warmup=warmup)
    selecting = [policy.selects(number, steps) for number in range(steps)]
    begins = round(warmup * steps) if selected < candidates else steps
    assert selecting == [False] * begins + [True] * (steps - begins)


def test_the_policy_of_images_has_the_fields_and_names_that_it_had_by_itself():
    assert UncertaintyPolicy().model_dump(mode="json") == {
        "operations": "radiograph", "allow": [], "interpolation": "bilinear", "outside": "border", "length": 2,
        "then": "nothing", "kind": "uncertainty", "candidates": 4, "selected": 1, "selection": "highest",
        "score": "cross_entropy", "task_weights": "uniform", "warmup": 0.0,
    }  # fmt: skip
    assert UncertaintyPolicy(operations="paper", candidates=8, selected=4, warmup=0.5).name == (
        "uncertainty(operations=paper, candidates=8, selected=4, warmup=0.5)"
    )
    assert UncertaintyPolicy(selection="lowest").name == "uncertainty(selection=lowest)"
    assert UncertaintyPolicy(selection="lowest", task_weights="current").name == (
        "uncertainty(selection=lowest, task_weights=current)"
    )


def test_images_and_texts_share_the_settings_of_the_selection():
    shared = set(CandidateSettings.model_fields)
    assert shared == {"candidates", "selected", "selection", "warmup"}
    for policy in (UncertaintyPolicy, UncertainWordPolicy):
        assert {name: policy.model_fields[name].default for name in shared} == {
            name: field.default for name, field in CandidateSettings.model_fields.items()
        }
