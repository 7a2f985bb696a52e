"""The cache of encoded texts: hit by content, never half-written, never trusted blindly."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from data_prep.errors import DataError
from data_prep.text import token_cache as module
from data_prep.text.task import Texts
from data_prep.text.token_cache import cached_tokens
from data_prep.text.tokens import Tokens
from data_prep.text.vocabulary import Vocabulary


@dataclass
class Counted:
    """An encoder that counts how often it is asked."""

    inner: Vocabulary
    calls: list[int] = field(default_factory=list)

    @property
    def identity(self) -> str:
        return self.inner.identity

    @property
    def padding(self) -> int:
        return self.inner.padding

    @property
    def size(self) -> int:
        return self.inner.size

    def encode(self, texts: Texts) -> Tokens:
        self.calls.append(len(texts))
        return self.inner.encode(texts)


PAIRS = Texts(("a b", "c"), ("b", "a a"), np.array([0, 1]))
SINGLE = Texts(("a b", "c"), None, np.array([0, 1]))


def encoder(*words: str) -> Counted:
    return Counted(Vocabulary.build([Texts((" ".join(words or "abc"),), None, np.zeros(1))]))


def same(one: Tokens, other: Tokens) -> bool:
    both = [(one.ids, other.ids), (one.offsets, other.offsets)]
    if one.types is not None and other.types is not None:
        both.append((one.types, other.types))
    return (one.types is None) == (other.types is None) and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in both
    )


@pytest.mark.parametrize("texts", [PAIRS, SINGLE])
def test_the_same_texts_are_encoded_once(tmp_path: Path, texts: Texts) -> None:
    asked = encoder()
    first, second = (cached_tokens(texts, asked, tmp_path / "cache") for _ in range(2))
    assert asked.calls == [2]
    assert same(first, second)
    assert same(first, asked.inner.encode(texts))


def test_other_texts_or_another_encoder_have_a_file_of_their_own(tmp_path: Path) -> None:
    for texts, asked in ((PAIRS, encoder()), (SINGLE, encoder()), (SINGLE, encoder("a", "c"))):
        assert same(cached_tokens(texts, asked, tmp_path), asked.inner.encode(texts))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_was_cut_or_changed_anywhere_is_written_anew(tmp_path: Path) -> None:
    cached_tokens(PAIRS, encoder(), tmp_path)
    (path,) = tmp_path.iterdir()
    raw = path.read_bytes()
    right = encoder().inner.encode(PAIRS)
    rng = np.random.default_rng(0)
    broken = [b"", b"text", raw[:-1], raw[: len(raw) // 2]]
    broken += [raw[:at] + bytes([raw[at] ^ 0xFF]) + raw[at + 1 :] for at in rng.integers(0, len(raw), 100).tolist()]
    for content in broken:
        path.write_bytes(content)
        assert same(cached_tokens(PAIRS, encoder(), tmp_path), right)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_whole_file_of_other_tokens_is_written_anew(tmp_path: Path) -> None:
    cached_tokens(PAIRS, encoder(), tmp_path)
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        changed = dict(arrays) | {"ids": arrays["ids"][::-1]}
    np.savez(path, **changed)
    assert same(cached_tokens(PAIRS, encoder(), tmp_path), encoder().inner.encode(PAIRS))


def test_a_pickle_in_its_place_is_never_opened(tmp_path: Path) -> None:
    cached_tokens(PAIRS, encoder(), tmp_path)
    (path,) = tmp_path.iterdir()
    np.savez(path, ids=np.array([{}], dtype=object), offsets=np.zeros(3), digest=np.zeros(32, np.uint8))
    asked = encoder()
    cached_tokens(PAIRS, asked, tmp_path)
    assert asked.calls == [2]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); name another folder"):
        cached_tokens(PAIRS, encoder(), tmp_path)
    assert list(tmp_path.iterdir()) == []
