"""The key of a sentence or a pair of sentences: equal keys mean the same sentence, in any data set.

Copies of a sentence in several data sets differ in spaces, capitals and punctuation, so that sentences are compared
by their letters and digits alone. A sentence that has none is compared by its punctuation.
"""

import re

from data_prep.text.task import Texts

_SEPARATOR = "|"  # between the sentences of a pair; a normal form does not contain it
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"[\W_]+")


def normal_form(sentence: str) -> str:
    """Return the letters and digits in lower case; if there are none, the other characters with single spaces."""
    lower = sentence.lower()
    # A line feed stands for the separator: it is white space, and can come from nothing else.
    return _NEITHER_LETTER_NOR_DIGIT.sub("", lower) or " ".join(lower.split()).replace(_SEPARATOR, "\n")


def sentence_key(first: str, second: str = "") -> str:
    """Return the key of a sentence, or of the pair `first`, `second`; keys are equal where both normal forms are."""
    return f"{normal_form(first)}{_SEPARATOR}{normal_form(second)}"


def sentence_keys(texts: Texts) -> list[str]:
    """Return the keys of the n sentences or pairs."""
    if texts.second is None:
        return [sentence_key(first) for first in texts.first]
    return [sentence_key(first, second) for first, second in zip(texts.first, texts.second, strict=True)]
