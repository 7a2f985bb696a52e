"""One key for the same sentence, whatever its spaces, capitals and punctuation; another key for every other one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.sentence_key import normal_form, sentence_key, sentence_keys
from data_prep.text.task import Texts

WORDS = st.lists(st.text("abzABZ09éÉßжЖ", min_size=1, max_size=4), min_size=1, max_size=4)
PUNCTUATION = st.text("|_.,!?'\"-()[] \n\t\u2026\u00a0", max_size=4)
SENTENCES = st.one_of(st.text(max_size=8), st.text("ab|_! \n", max_size=5))
"""Any characters, and few of them: those that collide."""


def has_word(sentence: str) -> bool:
    return any(character.isalnum() for character in sentence)


def test_copies_have_the_same_normal_form() -> None:
    assert normal_form("It's a  Gem , really ... ") == normal_form("it 's a gem, REALLY!") == "itsagemreally"
    assert normal_form("crème brûlée") == "crèmebrûlée"


@given(words=WORDS, marks=st.lists(PUNCTUATION, min_size=5, max_size=5))
def test_case_spacing_and_punctuation_around_words_do_not_matter(words: list[str], marks: list[str]) -> None:
    dressed = marks[-1] + "".join(word.swapcase() + mark for word, mark in zip(words, marks, strict=False))
    plain = " ".join(words)
    if plain.swapcase().swapcase() == plain:  # not for ß, whose capitals are two letters
        assert sentence_key(dressed) == sentence_key(plain)
        assert sentence_key("a", dressed) == sentence_key("a", plain)


@given(sentence=SENTENCES)
def test_a_sentence_with_a_word_is_its_letters_and_digits(sentence: str) -> None:
    form = normal_form(sentence)
    if has_word(sentence):
        assert form == "".join(character for character in sentence.lower() if character.isalnum())
    else:
        assert not has_word(form)
        assert form.replace("\n", "|") == " ".join(sentence.lower().split())


@given(one=st.text("|_.!? \n", min_size=1), other=st.text("|_.!? \n", min_size=1))
def test_sentences_without_a_word_differ_unless_only_their_spaces_do(one: str, other: str) -> None:
    assert (sentence_key(one) == sentence_key(other)) == (one.split() == other.split())


@given(a=SENTENCES, b=SENTENCES, c=SENTENCES, d=SENTENCES)
def test_pairs_have_the_same_key_only_if_both_sentences_have_the_same_form(a: str, b: str, c: str, d: str) -> None:
    same = (normal_form(a), normal_form(b)) == (normal_form(c), normal_form(d))
    assert (sentence_key(a, b) == sentence_key(c, d)) == same


def test_pairs_that_were_taken_for_one_another() -> None:
    pairs = [
        ("ab", "c"),
        ("a", "bc"),
        ("abc", ""),
        ("", "abc"),
        ("!!!", ""),
        ("?", ""),
        ("|", ""),
        ("", "|"),
        ("a|", "b"),
    ]
    assert len({sentence_key(*pair) for pair in pairs}) == len(pairs)


def test_the_keys_of_texts_are_those_of_their_sentences_or_pairs() -> None:
    labels = np.zeros(2, dtype=np.int64)
    assert sentence_keys(Texts(("A b", "?"), None, labels)) == [sentence_key("ab"), sentence_key("?")]
    assert sentence_keys(Texts(("A b", "?"), ("c", "!"), labels)) == [sentence_key("ab", "c"), sentence_key("?", "!")]
