"""A study's answer in sentences says no more than its numbers do."""

from typing import Any

import pytest

from data_prep.labels.table import FINDINGS
from models.evaluation.paired import Comparison
from tasks.records.study import ComparisonRecord, Condition
from tasks.records.summary_text import Verdict, answer, describe_condition, join_names, question, verdict
from tests.tasks.fake_study import CLEAN, fake_study, noise_condition

NOISY = noise_condition("random", 0.2, ("Effusion", "Pleural_Thickening"))


def compared(delta: float | None, p: float | None, adjusted: float | None, **other: Any) -> ComparisonRecord:
    given = {"noise": NOISY, "method": "svd", "seeds": {0: delta, 1: delta}} | other
    lo, hi = (None, None) if delta is None else (delta - 0.006, delta + 0.006)
    points = {} if delta is None else {"one condition": given["seeds"]}
    found = Comparison(delta, lo, hi, p, points, reason=None if delta is not None else "no seed in common")
    record = ComparisonRecord.of(given["method"], "uniform", given["noise"], found)
    return record.model_copy(update={"p_adjusted": adjusted})


def said(*comparisons: ComparisonRecord) -> list[str]:
    return answer(fake_study().model_copy(update={"comparisons": comparisons}))


@pytest.mark.parametrize(
    ("delta", "p", "adjusted", "expected"),
    [
        (0.01, 0.001, 0.004, Verdict.BETTER),
        (-0.01, 0.001, 0.004, Verdict.WORSE),
        (0.01, 0.02, 0.08, Verdict.UNCLEAR),
        (0.01, 0.2, 0.8, Verdict.NO_DIFFERENCE),
        (0.0, 1.0, 1.0, Verdict.NO_DIFFERENCE),
        (None, None, None, Verdict.NOT_COMPARED),
    ],
)
def test_the_verdict_follows_the_adjusted_p_value(delta: Any, p: Any, adjusted: Any, expected: Verdict) -> None:
    assert verdict(compared(delta, p, adjusted)) is expected


def test_better_and_worse_are_said_with_their_interval() -> None:
    assert said(compared(0.01, 0.001, 0.004)) == [
        "With 20 % random labels for Effusion and Pleural Thickening, "
        "svd was better than uniform (+0.010, 95 % interval +0.004 to +0.016)."
    ]
    assert (
        "svd was worse than uniform (−0.010, 95 % interval −0.016 to −0.004)" in said(compared(-0.01, 0.001, 0.004))[0]
    )


def test_no_difference_seen_is_not_called_equality() -> None:
    sentence = said(compared(0.001, 0.7, 1.0))[0]
    assert "no difference from uniform was seen for svd (+0.001, 95 % interval −0.005 to +0.007)" in sentence
    assert "equal" not in sentence


def test_what_does_not_survive_the_adjustment_is_said_to_be_unclear() -> None:
    sentence = said(compared(0.007, 0.02, 0.08))[0]
    assert "svd looked better than uniform" in sentence
    assert "but this difference is not significant after adjustment for the number of comparisons" in sentence


def test_a_seed_that_points_the_other_way_is_named() -> None:
    assert "but in only 1 of 2 seeds" in said(compared(0.01, 0.001, 0.004, seeds={0: 0.03, 1: -0.01}))[0]


def test_what_could_not_be_compared_is_said_with_the_reason() -> None:
    assert "svd could not be compared (no seed in common)" in said(compared(None, None, None))[0]


def test_the_answer_is_one_sentence_for_the_noisiest_and_one_for_the_first_condition() -> None:
    more = noise_condition("random", 0.4, NOISY.labels)
    sentences = said(*(compared(0.001, 0.7, 1.0, noise=noise) for noise in (CLEAN, NOISY, more)))
    assert len(sentences) == 2
    assert sentences[0].startswith("With 40 % random labels")
    assert sentences[1].startswith("Without added noise")
    assert all(sentence.endswith(".") for sentence in sentences)


def test_many_methods_without_a_difference_share_a_clause() -> None:
    sentence = said(*(compared(0.001 * i, 0.7, 1.0, method=f"m{i}") for i in range(5)))[0]
    assert "was seen for m0, m1, m2, m3 or m4 (+0.000 to +0.004)" in sentence


def test_many_that_are_unclear_share_a_clause() -> None:
    sentence = said(*(compared(0.001 * (-1) ** i, 0.02, 1.0, method=f"m{i}") for i in range(5)))[0]
    assert "m0, m2 and m4 looked better and m1 and m3 looked worse than uniform, but these differences are" in sentence
    assert "not significant after adjustment for the number of comparisons" in sentence


def test_the_question_names_the_methods() -> None:
    assert question(fake_study()) == (
        "Does svd or uncertainty rank the test images better than uniform when training labels are noisy?"
    )
    assert "noisy" not in question(fake_study(rates=()))


def test_conditions_are_described_in_words() -> None:
    assert describe_condition(CLEAN) == "without added noise"
    many = noise_condition("flipped", 0.05, FINDINGS[:6])
    assert describe_condition(many) == "with 5 % flipped labels for 6 of the labels"
    assert join_names(["a", "b_c", "d"]) == "a, b c and d"


def test_conditions_without_noise_are_called_by_their_names_and_all_have_a_sentence():
    few, many = (Condition(name=name) for name in ("few texts", "many texts"))
    sentences = said(*(compared(0.001, 0.7, 1.0, noise=condition) for condition in (few, many)))
    assert [sentence.split(",")[0] for sentence in sentences] == ["Under few texts", "Under many texts"]
    drawn = Condition(name="no added noise, over 2 groups of labels", title="no added noise, over 2 groups of labels")
    assert describe_condition(drawn) == "without added noise"
