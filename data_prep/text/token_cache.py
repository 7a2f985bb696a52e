"""Token cache: encoded texts on disk, so that the same texts are encoded once.

A file is named by the hash of the texts and of the encoder, exists whole or not at all, contains its own checksum,
and holds arrays only (NumPy's npz without pickle). A file whose checksum is wrong is written again.
"""

import hashlib
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Protocol

import numpy as np

from data_prep.errors import DataError
from data_prep.text.task import Texts
from data_prep.text.tokens import Tokens

CACHE_VERSION = 1  # raise it when the files change


class Encoder(Protocol):
    """An encoder of texts as token numbers: `vocabulary.Vocabulary` or `subwords.Subwords`."""

    @property
    def identity(self) -> str:
        """A hash of everything that decides the numbers of a text."""

    @property
    def padding(self) -> int:
        """Number of the padding token."""

    @property
    def size(self) -> int:
        """Number of tokens, the rows of an embedding table."""

    def encode(self, texts: Texts) -> Tokens:
        """Return the tokens of `texts`."""


def cached_tokens(texts: Texts, encoder: Encoder, cache: Path) -> Tokens:
    """Return the tokens of `texts` from the folder `cache`; encode and save them if they are not there.

    Raises:
        DataError: the folder cannot be written.
    """
    key = hashlib.sha256(json.dumps([CACHE_VERSION, texts.fingerprint, encoder.identity]).encode()).hexdigest()
    path = cache / f"tokens-{key}.npz"
    tokens = _load(path, len(texts))
    if tokens is None:
        tokens = encoder.encode(texts)
        _save(path, tokens)
    return tokens


def _load(path: Path, n: int) -> Tokens | None:
    """Return the tokens in the file, or None if there is none or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            types = arrays["types"] if "types" in arrays.files else None
            tokens, digest = Tokens(arrays["ids"], arrays["offsets"], types), bytes(arrays["digest"])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
    return tokens if len(tokens) == n and digest == _digest(tokens) else None


def _save(path: Path, tokens: Tokens) -> None:
    arrays = {"ids": tokens.ids, "offsets": tokens.offsets, "digest": np.frombuffer(_digest(tokens), np.uint8)}
    if tokens.types is not None:
        arrays["types"] = tokens.types
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tokens-", delete=False) as file:
            try:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}); name another folder") from error


def _digest(tokens: Tokens) -> bytes:
    sums = hashlib.sha256()
    for array in (tokens.ids, tokens.offsets, tokens.types):
        if array is not None:
            sums.update(f"{array.dtype} {array.shape} ".encode())
            sums.update(np.ascontiguousarray(array).data)
    return sums.digest()
