"""Vocabulary: word tokenization and word numbers, for encoders that learn or look up a vector per word.

n sentences, t words in total, v words in the vocabulary.

The tokenization of the literature on the six sentence sets (Kim, EMNLP 2014, after the Penn Treebank): lower case;
contractions are split as do|n't, it|'s; the punctuation marks , ! ? ( ) are words; everything else that is neither
letter nor digit separates words. Letters with accents stay letters. CR writes "do n 't": "n 't" is joined, so that
the sets have the word in common.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydantic import Field

from data_prep.errors import DataError
from data_prep.settings import Settings
from data_prep.text.task import Texts
from data_prep.text.tokens import Tokens

PADDING, UNKNOWN = 0, 1
TOKENISATION_VERSION = 1  # increase it when the same text gets other words

_RESERVED = ("<padding>", "<unknown>")
_SPLIT_NOT = re.compile(r"\bn 't\b")
_WORD = re.compile(r"n't\b|'(?:s|ve|re|d|ll|m|t)\b|[^\W_]+?(?=n't\b)|[^\W_]+|[,!?()]")


class VocabularySettings(Settings):
    """Settings of a vocabulary: the words that get their own number, and the length of sentences."""

    min_count: int = Field(
        1, ge=1, description="minimum number of times a word occurs in the training texts; rarer words are unknown"
    )
    max_length: int = Field(256, ge=1, le=4096, description="maximum number of words of a sentence; the rest is cut")


def tokenise(text: str) -> list[str]:
    """Return the words of `text` in lower case."""
    return _WORD.findall(_SPLIT_NOT.sub("n't", text.lower().replace("’", "'")))


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary of v words; the number of a word is its position. 0 is padding, 1 any unknown word.

    Attributes:
        words: the words, padding and unknown included.
        max_length: maximum number of words of a sentence; the rest is cut.
    """

    words: tuple[str, ...]
    max_length: int

    @classmethod
    def build(cls, training: Iterable[Texts], settings: VocabularySettings = VocabularySettings()) -> "Vocabulary":  # noqa: B008  frozen
        """Build the vocabulary of the training texts of one or several tasks, the most frequent words first.

        Raises:
            DataError: no word is frequent enough.
        """
        counts: Counter[str] = Counter()
        for texts in training:
            for sentences in (texts.first, texts.second or ()):
                for sentence in sentences:
                    counts.update(tokenise(sentence)[: settings.max_length])
        kept = sorted((-count, word) for word, count in counts.items() if count >= settings.min_count)
        if not kept:
            raise DataError(
                f"none of {len(counts)} words occurs {settings.min_count} times in the training texts; lower min_count"
            )
        return cls((*_RESERVED, *(word for _, word in kept)), settings.max_length)

    @property
    def size(self) -> int:
        """Number v of words, the rows of an embedding table."""
        return len(self.words)

    @property
    def padding(self) -> int:
        """Number of padding."""
        return PADDING

    @cached_property
    def identity(self) -> str:
        """``sha256:...`` of everything that decides the numbers of a text."""
        content = [TOKENISATION_VERSION, self.max_length, self.words]
        return "sha256:" + hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words) if word not in _RESERVED}

    def encode(self, texts: Texts) -> Tokens:
        """Return the numbers of the words, (t,) int32; a sentence without a word is one unknown word."""
        first = [self._encode(sentence) for sentence in texts.first]
        second = [self._encode(sentence) for sentence in texts.second] if texts.second is not None else None
        return join_tokens(first, second)

    def _encode(self, sentence: str) -> list[int]:
        words = tokenise(sentence)[: self.max_length]
        return [self._numbers.get(word, UNKNOWN) for word in words] or [UNKNOWN]


def join_tokens(first: list[list[int]], second: list[list[int]] | None) -> Tokens:
    """Concatenate n encoded sentences, or pairs of them, into one array."""
    whole = first if second is None else [a + b for a, b in zip(first, second, strict=True)]
    offsets = np.cumsum([0, *map(len, whole)], dtype=np.int64)
    ids = np.fromiter((number for sentence in whole for number in sentence), dtype=np.int32, count=int(offsets[-1]))
    if second is None:
        return Tokens(ids, offsets)
    lengths = np.array([(len(a), len(b)) for a, b in zip(first, second, strict=True)], dtype=np.int64).ravel()
    return Tokens(ids, offsets, np.repeat(np.tile(np.array([0, 1], dtype=np.int8), len(first)), lengths))
