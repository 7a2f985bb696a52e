"""Flat tokens give back the sentences they hold."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_prep.text.vocabulary import join_tokens

sentences = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5), max_size=8)


@given(first=sentences)
def test_sentences_end_to_end_are_cut_where_they_were_joined(first: list[list[int]]) -> None:
    tokens = join_tokens(first, None)
    assert [sentence.tolist() for sentence in tokens.sentences()] == first
    assert tokens.lengths.tolist() == list(map(len, first))
    assert (len(tokens), tokens.types) == (len(first), None)
    assert (tokens.ids.dtype, tokens.offsets.dtype) == (np.int32, np.int64)


@given(first=sentences)
def test_the_two_sentences_of_a_pair_have_their_types(first: list[list[int]]) -> None:
    second = [[7] * (i + 1) for i in range(len(first))]
    tokens = join_tokens(first, second)
    assert tokens.types is not None
    assert tokens.types.dtype == np.int8
    assert tokens.types.tolist() == [t for a, b in zip(first, second, strict=True) for t in [0] * len(a) + [1] * len(b)]
    assert [s.tolist() for s in tokens.sentences()] == [a + b for a, b in zip(first, second, strict=True)]
