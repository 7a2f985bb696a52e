"""Parts of a text task: drawn by name from a seed, never mixed, told apart by their fingerprints."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.text.task import Texts, TextTask, limit_training, split_off, split_off_fold


def numbered(n: int, pairs: bool = False, start: int = 0) -> Texts:
    first = tuple(f"sentence {i}" for i in range(start, start + n))
    return Texts(first, tuple(f"other {i}" for i in range(n)) if pairs else None, np.arange(n, dtype=np.int64) % 3)


def task(n: int = 50) -> TextTask:
    return TextTask("mr", ("a", "b", "c"), ("accuracy",), numbered(n), numbered(5, start=n), numbered(7, start=n + 5))


@given(n=st.integers(2, 60), share=st.floats(0, 1), seed=st.integers(0, 9), pairs=st.booleans())
def test_carving_loses_and_doubles_nothing_and_keeps_the_order(n: int, share: float, seed: int, pairs: bool) -> None:
    texts = numbered(n, pairs)
    kept, away = split_off(texts, share, seed, "test")
    assert len(away) == min(max(round(share * n), 1), n - 1)
    assert set(kept.first) | set(away.first) == set(texts.first)
    for part in (kept, away):
        rows = [int(sentence.split()[1]) for sentence in part.first]
        assert rows == sorted(rows)
        assert part.labels.tolist() == [row % 3 for row in rows]
        assert part.second is None or part.second == tuple(f"other {row}" for row in rows)


def test_what_is_drawn_depends_on_seed_and_purpose() -> None:
    draws = {split_off(numbered(99), 0.3, seed, name)[1].first for seed in (0, 1) for name in ("a", "b")}
    assert len(draws) == 4
    assert split_off(numbered(99), 0.3, 0, "a")[1].first in draws


@given(groups=st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40), seed=st.integers(0, 9))
def test_sentences_of_one_group_go_the_same_way(groups: list[str], seed: int) -> None:
    texts = numbered(len(groups))
    if len(set(groups)) < 2:
        with pytest.raises(DataError, match="cannot be split"):
            split_off(texts, 0.3, seed, "test", groups)
        return
    parts = split_off(texts, 0.3, seed, "test", groups)
    named = [{groups[int(sentence.split()[1])] for sentence in part.first} for part in parts]
    assert named[0]
    assert named[1]
    assert not named[0] & named[1]


@given(n=st.integers(2, 50), of=st.integers(2, 12), seed=st.integers(0, 9))
def test_every_sentence_is_in_the_test_part_of_exactly_one_fold(n: int, of: int, seed: int) -> None:
    if of > n:
        with pytest.raises(DataError, match=f"{of} folds of {n} sentences"):
            split_off_fold(numbered(n), (0, of), seed, "folds")
        return
    folds = [split_off_fold(numbered(n), (i, of), seed, "folds") for i in range(of)]
    tested = [sentence for _, away in folds for sentence in away.first]
    assert sorted(tested) == sorted(numbered(n).first)
    assert max(len(away) for _, away in folds) - min(len(away) for _, away in folds) <= 1
    assert all(not set(kept.first) & set(away.first) for kept, away in folds)


@pytest.mark.parametrize("which", [-1, 10])
def test_a_fold_that_does_not_exist_is_refused(which: int) -> None:
    with pytest.raises(DataError, match=rf"there is no fold {which}; the folds are 0 to 9"):
        split_off_fold(numbered(50), (which, 10), 0, "folds")


def test_a_limit_caps_training_sentences_and_nothing_else() -> None:
    whole = task()
    small, smaller = limit_training(whole, 20, seed=3), limit_training(whole, 8, seed=3)
    assert len(small.train) == 20
    assert small.val is whole.val
    assert small.test is whole.test
    assert set(smaller.train.first) < set(small.train.first) < set(whole.train.first)
    assert small.notes == ("20 of 50 training sentences, drawn with seed 3",)
    assert limit_training(whole, None, 3) is limit_training(whole, 50, 3) is whole
    with pytest.raises(DataError, match="a limit of 0 training sentences; give at least 1"):
        limit_training(whole, 0, 3)


def test_a_fingerprint_is_of_every_sentence_label_class_and_part() -> None:
    whole = task()
    swapped = dataclasses.replace(whole, train=whole.val, val=whole.train)
    relabelled = dataclasses.replace(whole, test=dataclasses.replace(whole.test, labels=(whole.test.labels + 1) % 3))
    renamed = dataclasses.replace(whole, classes=("a", "b", "d"))
    cut = dataclasses.replace(whole, train=Texts(("sentence 0 s", "entence 1"), None, np.zeros(2, np.int64)))
    recut = dataclasses.replace(whole, train=Texts(("sentence 0 ", "sentence 1"), None, np.zeros(2, np.int64)))
    changed = [swapped, relabelled, renamed, cut, recut, limit_training(whole, 20, 0)]
    assert len({other.fingerprint for other in [whole, *changed]}) == 1 + len(changed)
    assert dataclasses.replace(whole, notes=("more",)).fingerprint == whole.fingerprint == task().fingerprint
