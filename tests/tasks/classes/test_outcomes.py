"""What a classification found, by length of training: its parts, its sentences, its figure."""

import pytest

from tasks.classes.figures import against_length
from tasks.classes.outcomes import answer, at_length, lengths_of, means_over_seeds, question
from tasks.classes.spec import METHOD
from tasks.records.arms import ArmRecord
from tasks.records.comparisons import ComparisonRecord
from tasks.records.study import StudyResults
from tests.tasks.fake_study import interaction_study

LENGTHS = ("2 epochs", "12 epochs")


def classification(lengths: tuple[str, ...] = LENGTHS, added: float = 0.004) -> StudyResults:
    """A study of policies with one method, trained for each length."""
    study = interaction_study((METHOD,))

    def arm(of: ArmRecord, length: str) -> ArmRecord:
        return of.model_copy(
            update={"factors": of.factors | {"length": length}, "facts": {"chosen_on_test": added * (1 + of.seed)}}
        )

    def compared(c: ComparisonRecord, length: str) -> ComparisonRecord:
        held = {"length": length} if len(lengths) > 1 else {}
        return c.model_copy(update={"held": c.held | held})

    fields = {
        name: tuple(compared(c, length) for length in lengths for c in getattr(study, name))
        for name in ("comparisons", "interactions")
    }
    arms = tuple(arm(of, length) for length in lengths for of in study.arms)
    return study.model_copy(update={**fields, "arms": arms, "floor": ()})


def test_a_part_has_the_arms_and_comparisons_of_its_length() -> None:
    whole = classification()
    assert lengths_of(whole) == LENGTHS
    parts = [at_length(whole, length) for length in LENGTHS]
    for name in ("arms", "comparisons", "interactions"):
        assert sum(len(getattr(part, name)) for part in parts) == len(getattr(whole, name)) > 0
    for length, part in zip(LENGTHS, parts, strict=True):
        assert {arm.factors["length"] for arm in part.arms} == {length}
        assert all("length" not in c.held for c in (*part.comparisons, *part.interactions))


def test_the_answer_is_that_of_the_longest_training() -> None:
    assert answer(classification())[0].startswith("After 12 epochs: ")
    assert not answer(classification(("8 epochs",)))[0].startswith("After")
    assert "with and without wrong labels" in question(classification())


def test_what_choosing_on_test_images_adds_is_said_where_it_was_measured() -> None:
    (said,) = [sentence for sentence in answer(classification()) if "chosen on the test images" in sentence]
    assert "+0.008" in said  # the mean of 0.004, 0.008 and 0.012 over seeds, for every policy
    bare = classification()
    bare = bare.model_copy(update={"arms": tuple(arm.model_copy(update={"facts": {}}) for arm in bare.arms)})
    assert not [sentence for sentence in answer(bare) if "chosen on the test images" in sentence]


def test_a_mean_over_seeds_has_an_interval_from_three_seeds_on() -> None:
    arms = [arm for arm in classification().arms if arm.condition.kind == "none" and arm.policy == "composed"]
    (mean, *_) = means_over_seeds(arms, "chosen_on_test").values()
    assert mean.value == pytest.approx(0.008)
    assert mean.lo == pytest.approx(0.008 - 4.3027 * 0.004 / 3**0.5, abs=1e-6)
    two = means_over_seeds([arm for arm in arms if arm.seed < 2], "chosen_on_test")
    assert all(found.lo is None for found in two.values())


def test_the_figure_against_length_has_a_panel_for_each_policy_and_is_there_for_several_lengths_only() -> None:
    drawn = against_length(classification())
    assert drawn is not None
    assert drawn.count(">uncertainty<") == 1
    for text in (">2<", ">12<", ">no added noise<", ">20 % random labels<"):
        assert text in drawn
    assert against_length(classification(("8 epochs",))) is None
