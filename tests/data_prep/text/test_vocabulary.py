"""Words as the literature cuts them, numbered by the training texts alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.errors import DataError
from data_prep.text.sentiment import read_sentiment
from data_prep.text.task import Texts
from data_prep.text.vocabulary import PADDING, UNKNOWN, Vocabulary, VocabularySettings, tokenise


def texts(*sentences: str, second: tuple[str, ...] | None = None) -> Texts:
    return Texts(sentences, second, np.zeros(len(sentences), dtype=np.int64))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's a CHARMING , funny film!", "it|'s|a|charming|,|funny|film|!"),
        ("they don't, won't and can't", "they|do|n't|,|wo|n't|and|ca|n't"),
        ("do n 't | do n't | don’t", "do|n't|do|n't|do|n't"),
        ("we 'll we'll they've i'd", "we|'ll|we|'ll|they|'ve|i|'d"),
        ("crème brûlée (half-baked) --", "crème|brûlée|(|half|baked|)"),
        ("snake_case 3.5/5 `quoted'", "snake|case|3|5|5|quoted"),
        ("knot isn't cannot nt n't", "knot|is|n't|cannot|nt|n't"),
        (" ... - ", ""),
    ],
)
def test_words_are_cut_as_in_the_literature(text: str, words: str) -> None:
    assert tokenise(text) == [word for word in words.split("|") if word]


@given(st.text())
def test_cutting_the_cut_words_again_changes_nothing(text: str) -> None:
    words = tokenise(text)
    assert all(words)
    assert tokenise(" ".join(words)) == words


def test_numbers_go_by_frequency_and_then_by_the_alphabet() -> None:
    vocabulary = Vocabulary.build([texts("b b c", "a c"), texts("d", second=("b",))])
    assert vocabulary.words[2:] == ("b", "c", "a", "d")
    assert (vocabulary.size, vocabulary.padding) == (6, PADDING)
    tokens = vocabulary.encode(texts("a B zebra", "..."))
    assert [s.tolist() for s in tokens.sentences()] == [[4, 2, UNKNOWN], [UNKNOWN]]
    assert vocabulary.encode(texts("a", second=("d b",))).types.tolist() == [0, 1, 1]  # type: ignore[union-attr]


def test_rare_words_are_unknown_and_long_sentences_cut() -> None:
    vocabulary = Vocabulary.build([texts("b b c c a", "x y z")], VocabularySettings(min_count=2, max_length=4))
    assert vocabulary.words[2:] == ("b", "c")
    assert vocabulary.encode(texts("a b c b c")).ids.tolist() == [UNKNOWN, 2, 3, 2]
    with pytest.raises(DataError, match="none of 3 words occurs 2 times in the training texts; lower min_count"):
        Vocabulary.build([texts("x y z")], VocabularySettings(min_count=2))


def test_a_word_that_is_called_like_a_reserved_one_is_no_padding() -> None:
    vocabulary = Vocabulary.build([texts("padding unknown <padding>")])
    assert vocabulary.encode(texts("<padding> unknown")).ids.min() > UNKNOWN


def test_the_identity_tells_what_gives_other_numbers() -> None:
    one = Vocabulary.build([texts("a b b")])
    others = [
        Vocabulary.build([texts("a a b")]),
        Vocabulary.build([texts("a b b c")]),
        Vocabulary.build([texts("a b b")], VocabularySettings(max_length=5)),
    ]
    assert len({v.identity for v in [one, *others]}) == 4
    assert Vocabulary.build([texts("b a", "b")]).identity == one.identity


def test_the_real_sets_have_no_empty_sentence_and_few_unknown_words(shared_data: Path) -> None:
    tasks = read_sentiment(shared_data / "sentiment", ("mr", "trec"), seed=0)
    vocabulary = Vocabulary.build([task.train for task in tasks.values()])
    for task in tasks.values():
        assert not (vocabulary.encode(task.train).ids <= PADDING).any()
        tokens = vocabulary.encode(task.test)
        assert tokens.lengths.min() >= 1
        assert (tokens.ids == UNKNOWN).mean() < 0.08
