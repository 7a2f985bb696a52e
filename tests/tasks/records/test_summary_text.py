"""A study's answer in sentences says no more than its numbers do."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.labels.table import FINDINGS
from models.evaluation.paired import Comparison
from tasks.records.arms import Condition
from tasks.records.comparisons import ComparisonRecord
from tasks.records.summary_text import Verdict, answer, describe_condition, join_names, question, signed, verdict
from tests.tasks.fake_study import CLEAN, fake_study, noise_condition

NOISY = noise_condition("random", 0.2, ("Effusion", "Pleural_Thickening"))


def compared(delta: float | None, p: float | None, adjusted: float | None, **other: Any) -> ComparisonRecord:
    given = {"noise": NOISY, "method": "svd", "baseline": "uniform", "seeds": dict.fromkeys((0, 1, 2), delta)} | other
    over, needed = given.get("over", "seeds and patients"), given.get("needed")
    lo, hi = (None, None) if delta is None else (delta - 0.006, delta + 0.006)
    points = {} if delta is None else {"one condition": given["seeds"]}
    reason = None if delta is not None else "no seed in common"
    found = Comparison(delta, lo, hi, p, points, over=over, reason=reason, seeds_needed=needed)
    record = ComparisonRecord.of(given["method"], given["baseline"], given["noise"], found)
    return record.model_copy(update={"p_adjusted": adjusted})


def said(*comparisons: ComparisonRecord, **more: Any) -> list[str]:
    return answer(fake_study().model_copy(update={"comparisons": comparisons} | more))


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
    assert verdict(compared(delta, p, adjusted, over="pairs, seeds and patients")) is expected
    if delta is not None:
        assert verdict(compared(delta, p, adjusted, over="patients")) is Verdict.THESE_NETWORKS


def test_better_and_worse_are_said_with_their_interval() -> None:
    assert said(compared(0.01, 0.001, 0.004)) == [
        "With 20 % random labels for Effusion and Pleural Thickening, "
        "svd (+0.010 [+0.004, +0.016]) was better than uniform."
    ]
    assert "svd (−0.010 [−0.016, −0.004]) was worse than uniform" in said(compared(-0.01, 0.001, 0.004))[0]


def test_no_difference_seen_is_not_called_equality() -> None:
    sentence = said(compared(0.001, 0.7, 1.0))[0]
    assert "no difference from uniform was seen for svd (+0.001 [−0.005, +0.007])" in sentence
    assert "equal" not in sentence


def test_what_does_not_survive_the_adjustment_is_said_to_be_unclear() -> None:
    sentence = said(compared(0.007, 0.02, 0.08))[0]
    assert "the difference of svd (+0.007 [+0.001, +0.013]) from uniform is not significant after" in sentence
    assert "better" not in sentence


def test_a_seed_that_points_the_other_way_is_named() -> None:
    assert "but in only 2 of 3 seeds" in said(compared(0.01, 0.001, 0.004, seeds={0: 0.03, 1: -0.01, 2: 0.01}))[0]


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
    many = said(*(compared(0.001 * i, 0.02, 1.0, method=f"m{i}") for i in range(1, 6)))[0]
    assert "the differences of m1, m2, m3, m4 and m5 (+0.001 to +0.005) from uniform are not significant" in many


def test_the_question_names_the_methods() -> None:
    assert question(fake_study(seeds=(0, 1, 2))) == (
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


def test_networks_of_two_seeds_are_described_and_their_methods_are_not_judged() -> None:
    given = {"over": "patients", "noise": noise_condition("random", 0.2, ("Mass",))}
    networks = {"a": -0.012, "b": 0.02}
    sentences = said(*(compared(d, 1e-8, 1e-7, method=m, seeds={0: d, 1: d}, **given) for m, d in networks.items()))
    assert sentences == [
        "With 20 % random labels for Mass, these networks of a had a test AUC 0.012 lower than those of uniform (95 % "
        "interval over patients −0.018 to −0.006) and those of b 0.020 higher (95 % interval over patients +0.014 to "
        "+0.026).",
        "Two seeds cannot show whether another training would do the same.",
    ]
    study = fake_study()
    assert not re.search("better|worse", " ".join([question(study), *answer(study)]))
    many = said(*(compared(0.001 * i, 0.02, 1.0, method=f"m{i}", over="patients") for i in range(5)))[0]
    assert "the networks of 5 methods differed from those of uniform by +0.000 to +0.004 in test AUC" in many


def test_the_noise_floor_has_a_sentence_beside_the_methods() -> None:
    floor = [compared(0.004, 0.4, 0.4, method="uniform, other seeds", noise=noise) for noise in (CLEAN, NOISY)]
    methods = [compared(0.01, 0.001, 0.004, noise=noise) for noise in (CLEAN, NOISY)]
    assert said(*methods, floor=tuple(floor))[2] == (
        "The same method, uniform, with other seeds differed by +0.004 [−0.002, +0.010] with 20 % random labels and "
        "+0.004 [−0.002, +0.010] without added noise: differences of this size are noise."
    )


def test_a_significant_noise_floor_is_said_plainly() -> None:
    floor = [
        compared(d, p, p, method="uniform, other seeds", noise=n) for d, p, n in ((0, 1, CLEAN), (0.02, 1e-4, NOISY))
    ]
    sentence = said(compared(0.01, 0.001, 0.004), floor=tuple(floor))[1]
    assert "differed by +0.020 [+0.014, +0.026] with 20 % random labels: this came out significant" in sentence
    assert sentence.endswith("differences of its size prove nothing.")
    of_patients = compared(0.02, 1e-4, 1e-4, method="uniform, other seeds", over="patients")
    assert "significant" not in " ".join(said(compared(0.01, 0.001, 0.004), floor=(of_patients,)))


@pytest.mark.parametrize(
    ("method", "control", "against", "end"),
    [
        ((0.024, 0.001), (0.015, 0.3), (0.009, 0.01), "the assignment of the weights to the labels matters."),
        ((0.024, 0.001), (0.015, 0.3), (0.009, 0.2), "labels was not shown to matter."),
        ((0.024, 0.001), (0.015, 0.01), (0.009, 0.2), "and not all of the difference comes from it."),
        ((0.024, 0.001), (0.015, 0.01), (0.009, 0.01), "the labels makes part of the difference."),
        ((0.024, 0.001), (0.033, 0.01), (-0.009, 0.01), "the labels works against the difference."),
        ((-0.024, 0.001), (-0.015, 0.3), (-0.009, 0.01), "the assignment of the weights to the labels matters."),
    ],
)
def test_a_control_says_what_it_leaves_of_a_difference(method: Any, control: Any, against: Any, end: str) -> None:
    name = "permuted_weights(svd)"
    comparisons = compared(*method, method[1]), compared(*control, control[1], method=name)
    sentences = said(*comparisons, controls=(compared(*against, against[1], baseline=name),))
    assert name not in sentences[0]
    start = "Of the {:+.3f} of svd, the same weights dealt at random had {:+.3f}; svd minus this control is {:+.3f} ["
    assert sentences[1].startswith(start.format(method[0], control[0], against[0]).replace("-", "−"))
    assert sentences[1].endswith(end)


def test_a_control_of_a_method_without_a_verdict_is_in_the_table_only() -> None:
    control = compared(0.009, 0.01, 0.01, baseline="permuted_weights(svd)")
    assert len(said(compared(0.004, 0.3, 0.3), controls=(control,))) == 1
    assert len(said(compared(0.004, 0.001, 0.001, over="patients"), controls=(control,))) == 2


def test_how_many_seeds_would_settle_an_unclear_difference_is_said() -> None:
    unclear = [compared(0.004, 0.3, 0.3, method=m, needed=n) for m, n in (("a", 14), ("b", 1200))]
    settled = compared(0.02, 1e-5, 1e-5, method="c", needed=3)
    assert said(*unclear, settled)[-1] == (
        "Seeds needed to see a difference of this size, before adjustment: about 14 for a and 1,200 for b."
    )
    assert len(said(settled)) == 1
    assert said(*(compared(0.004, 0.3, 0.3, method=f"m{n}", needed=n) for n in range(9, 13)))[-1] == (
        "Seeds needed to see differences of these sizes, before adjustment: 9 to 12."
    )
    enough = compared(0.004, 0.03, 0.3, needed=3)  # the adjustment makes it unclear, not the number of seeds
    assert len(said(enough)) == 1
    more = compared(0.004, 0.3, 0.3).model_copy(
        update={"seeds_reason": "no number of seeds would show a difference this small: more are needed"}
    )
    assert said(more)[-1] == "For svd: no number of seeds would show a difference this small: more are needed."


@given(st.floats(-2, 2), st.integers(1, 4))
def test_a_number_has_the_sign_of_its_value_also_where_it_rounds_to_zero(number: float, digits: int) -> None:
    text = signed(number, digits)
    assert (text[0] == "−") == (number < -1e-12)
    assert float(text.replace("−", "-")) == pytest.approx(number, abs=0.5001 * 10**-digits)
    assert signed(-0.0) == signed(1e-15) == "+0.000"


def test_policies_are_asked_about_and_answered_for_with_what_is_held_fixed() -> None:
    policy = {"factor": "policy", "baseline": "none", "held": {"method": "uniform"}}
    records = [
        compared(d, p, p, method=name, needed=40).model_copy(update=policy)
        for name, d, p in (("simple", 0.01, 0.001), ("uncertainty", 0.001, 0.7))
    ]
    sentences = said(*records)
    assert sentences == [
        "With 20 % random labels for Effusion and Pleural Thickening (method uniform), simple (+0.010 [+0.004, "
        "+0.016]) was better than none; no difference from none was seen for uncertainty (+0.001 [−0.005, +0.007]).",
        "Seeds needed to see a difference of this size between policies, before adjustment: about 40 for uncertainty.",
    ]
    networks = [each.model_copy(update={"over": "patients", "held": {}}) for each in records]
    assert "these networks with simple had a test AUC 0.010 higher than those with none" in said(*networks)[0]
    assert "the networks with 4 policies differed from those with none by" in said(*networks, *networks)[0]


def test_the_noise_floor_says_under_which_policy_it_was_trained() -> None:
    floor = compared(0.004, 0.4, 0.4, method="uniform, other seeds").model_copy(update={"held": {"policy": "simple"}})
    assert (
        "The same method, uniform (policy simple), with other seeds differed"
        in said(compared(0.01, 0.001, 0.004), floor=(floor,))[1]
    )
