"""Sentences that stand in two sets, counted and removed on the side that is trained."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.overlap import count_overlap, remove_overlap
from data_prep.text.sentiment import read_sentiment
from data_prep.text.task import Texts, TextTask


def texts(*sentences: str, label: int = 0) -> Texts:
    return Texts(sentences, None, np.full(len(sentences), label, dtype=np.int64))


def task(name: str, train: Texts, val: Texts, test: Texts) -> TextTask:
    return TextTask(name, ("no", "yes"), ("accuracy",), train, val, test)


def test_the_leak_between_sst_and_mr_has_the_size_that_is_known(shared_data: Path) -> None:
    whole = read_sentiment(shared_data / "sentiment", ("mr", "sst", "subj"), seed=0, keep_overlap=True)
    parts = {name: (task.train, task.val, task.test) for name, task in whole.items()}
    assert count_overlap(whole["sst"].test, parts["mr"]) == (1431, 1376)
    assert sum(count_overlap(part, parts["mr"]).sentences for part in parts["subj"]) == 4179


def test_no_task_of_the_real_sets_is_trained_on_what_another_is_judged_by(shared_data: Path) -> None:
    folder = shared_data / "sentiment"
    whole, clean = (read_sentiment(folder, seed=1, keep_overlap=keep) for keep in (True, False))
    for name, cleaned in clean.items():
        others = [other for other in clean.values() if other is not cleaned]
        assert not count_overlap(cleaned.train, [p for other in others for p in (other.val, other.test)]).sentences
        assert not count_overlap(cleaned.val, [other.test for other in others]).sentences
        assert cleaned.test.fingerprint == whole[name].test.fingerprint
    assert clean["cr"].fingerprint == read_sentiment(folder, ("cr",), seed=1)["cr"].fingerprint
    pair = read_sentiment(folder, ("mr", "sst"), seed=1)
    assert [len(pair["mr"].test), len(pair["sst"].test)] == [1066, 1821]
    assert "sentences left out: they are in the validation or test part of other tasks (sst)" in pair["mr"].notes[-1]


def test_sentences_without_a_letter_are_the_same_only_if_their_punctuation_is() -> None:
    assert count_overlap(texts("...", "!"), [texts("...")]) == (1, 1)


def test_pairs_are_compared_part_by_part() -> None:
    one, other = (
        Texts((first,), (second,), np.zeros(1, dtype=np.int64)) for first, second in [("ab", "c"), ("a", "bc")]
    )
    assert count_overlap(one, [other]) == (0, 0)
    assert count_overlap(one, [one]) == (1, 1)


def test_the_trained_side_loses_and_the_tested_side_keeps() -> None:
    one = task("one", texts("a", "b", "c", "d"), texts("e", "f"), texts("g"))
    two = task("two", texts("g", "e", "x"), texts("A.", "f"), texts("b", "E!"))
    clean = remove_overlap({"one": one, "two": two})
    assert clean["one"].train.first == ("c", "d")  # a is in two's validation part, b in its test part
    assert clean["one"].val.first == ("f",)  # f in both validation parts does no harm
    assert clean["two"].train.first == ("x",)
    assert clean["two"].val.first == ("A.", "f")
    assert clean["one"].notes == (
        "2 of 4 training and 1 of 2 validation sentences left out: they are in the "
        "validation or test part of other tasks (two)",
    )
    assert remove_overlap({"one": one})["one"] is one


words = st.lists(st.sampled_from("abcdefghij"), max_size=8).map(lambda sentences: texts(*sentences))


@given(parts=st.lists(words, min_size=9, max_size=9))
def test_after_removal_nothing_is_left_to_remove(parts: list[Texts]) -> None:
    tasks = {str(i): task(str(i), *parts[3 * i : 3 * i + 3]) for i in range(3)}
    clean = remove_overlap(tasks)
    for name, cleaned in clean.items():
        judged = {s for other in tasks.values() if other.name != name for s in other.val.first + other.test.first}
        tested = {s for other in tasks.values() if other.name != name for s in other.test.first}
        assert cleaned.train.first == tuple(s for s in tasks[name].train.first if s not in judged)
        assert cleaned.val.first == tuple(s for s in tasks[name].val.first if s not in tested)
        assert cleaned.test is tasks[name].test


def test_labels_are_compared_where_a_copy_has_several() -> None:
    both = [texts("a", label=0), texts("a", label=1)]
    assert count_overlap(texts("a", "b", label=1), both) == (1, 1)
    assert count_overlap(texts("a", label=1), both[:1]) == (1, 0)
