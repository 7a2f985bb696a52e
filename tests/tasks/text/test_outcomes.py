"""The words for what a method changes over the conditions of an experiment."""

import pytest

from tasks.text.outcomes import EffectSummary


def effect(clearly_better: int, clearly_worse: int, conditions: int = 15) -> EffectSummary:
    return EffectSummary("aligned", "single", 9, clearly_better, clearly_worse, conditions, -0.02, 0.01, True, None)


@pytest.mark.parametrize(
    ("better", "worse", "clear"),
    [
        (2, 1, "clearly higher on 2, clearly lower on 1"),
        (2, 0, "clearly higher on 2"),
        (0, 1, "clearly lower on 1"),
        (0, 0, "none clearly"),
    ],
)
def test_only_clear_differences_that_there_are_get_a_number(better: int, worse: int, clear: str) -> None:
    words = effect(better, worse).in_words("pairs")
    assert words == f"9 of 15 pairs ({clear}), differences −0.020 to +0.010"


def test_one_condition_has_one_difference() -> None:
    assert effect(0, 0, conditions=1).in_words().endswith("difference +0.010")
