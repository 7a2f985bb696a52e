"""The primary sentence of a study of policies says what the interval covers, and no more."""

from typing import Any

import pytest

from tasks.records.comparisons import EQUAL_COMPUTE, ComparisonRecord
from tasks.records.interaction_text import floor_of, interaction_answer
from tasks.records.study import StudyResults
from tests.tasks.fake_study import big_study, interaction_study, policy_study

LOWER = {"delta": -0.012, "lo": -0.02, "hi": -0.004, "p_value": 0.002, "p_adjusted": 0.01}
NEAR_ZERO = {"delta": -0.004, "lo": -0.012, "hi": 0.004, "p_value": 0.3, "p_adjusted": 0.6}


def changed(study: StudyResults, **update: Any) -> StudyResults:
    """The study with these numbers in the interaction of uncertainty at equal steps."""

    def of(c: ComparisonRecord) -> ComparisonRecord:
        asked = c.method == "uncertainty" and c.experiment != EQUAL_COMPUTE
        return c.model_copy(update=update) if asked else c

    return study.model_copy(update={"interactions": tuple(map(of, study.interactions))})


ONE = interaction_study(("uniform",))


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        (LOWER, "the difference between uncertainty and composed is 0.012 lower than without added noise "
                "[−0.020, −0.004];"),
        (LOWER | {"delta": 0.012, "lo": 0.004, "hi": 0.02}, "is 0.012 higher than without added noise [+0.004, "),
        (LOWER | {"p_adjusted": 0.2}, "without added noise (−0.012 [−0.020, −0.004]) is not significant after"),
        (NEAR_ZERO, "was not seen to differ from that without added noise (−0.004 [−0.012, +0.004])"),
        (LOWER | {"over": "patients"}, "composed, for these networks, is 0.012 lower than without added noise "
                                       "[−0.020, −0.004] over patients"),
        ({"delta": None, "lo": None, "hi": None, "reason": "no seed in common"}, "could not be compared with that "
                                                                                  "without added noise (no seed"),
    ],
)  # fmt: skip
def test_the_sentence_follows_the_verdict(numbers: dict[str, Any], said: str) -> None:
    (sentence,) = interaction_answer(changed(ONE, **numbers))
    assert sentence.startswith("With 20 % random labels, the ")
    assert said in sentence
    assert ("lower" in sentence or "higher" in sentence) == ("is 0.012" in said)


def test_the_sentence_gives_the_equal_compute_and_the_floor_of_the_interaction() -> None:
    (sentence,) = interaction_answer(changed(ONE, **LOWER))
    _, at_equal_compute, floor = sentence.split("; ")
    assert at_equal_compute.startswith("at equal compute, that from compute_matched was not seen to differ")
    assert floor.startswith("two trainings of composed with other seeds differ in this by ")
    of_floor = next(c for c in ONE.interactions if c.factor == "method")
    assert f"{of_floor.delta:+.3f}" in floor.replace("−", "-")
    bare = ONE.model_copy(update={"floor": (), "interactions": ONE.interactions[:2]})
    assert "other seeds" not in interaction_answer(bare)[0]


def test_each_method_has_a_sentence_and_the_floor_is_that_of_the_baseline_method() -> None:
    study = interaction_study()
    uniform, svd = interaction_answer(study)
    assert "(method uniform)" in uniform
    assert "(method svd)" in svd
    assert "other seeds" in uniform
    assert "other seeds" not in svd
    for c in (*study.comparisons, *study.interactions):
        if c.factor == "policy":
            floor = floor_of(study, c)
            assert (floor is not None) == (c.held["method"] == "uniform" and c.baseline == "composed")
            assert floor is None or (floor.condition, floor.minus) == (c.condition, c.minus)


@pytest.mark.parametrize(("other", "named"), [("late", "none"), ("uncertainty(warmup=0.5)", "uncertainty(warmup=0.5)")])
def test_where_sampling_is_the_baseline_another_sampling_is_named_or_the_first_policy(other: str, named: str) -> None:
    def renamed(c: ComparisonRecord) -> ComparisonRecord:
        names = {"composed": "uncertainty", "uncertainty": other}
        return c.model_copy(
            update={side: names.get(getattr(c, side), getattr(c, side)) for side in ("method", "baseline")}
        )

    study = ONE.model_copy(update={"interactions": tuple(map(renamed, ONE.interactions))})
    assert f"between {named} and uncertainty" in interaction_answer(study)[0]


@pytest.mark.parametrize("study", [big_study(), policy_study()])
def test_a_study_without_interactions_has_no_such_sentence(study: StudyResults) -> None:
    assert interaction_answer(study) == []
