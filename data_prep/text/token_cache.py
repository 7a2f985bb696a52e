"""Encoded texts kept on disk, so that the same texts are encoded once.

A file is named by the hash of the texts and of everything that encodes them, is whole or not there, says its own
sum, and holds arrays only (NumPy's npz without pickle). One that does not hold what it says is written anew.
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
    """What turns texts into numbers: `vocabulary.Vocabulary` or `subwords.Subwords`.

    identity: a hash of everything that decides which numbers a text gets. padding: the number that stands for no
    token. size: numbers there are, the rows of an embedding table.
    """

    @property
    def identity(self) -> str: ...

    @property
    def padding(self) -> int: ...

    @property
    def size(self) -> int: ...

    def encode(self, texts: Texts) -> Tokens: ...


def tokenised(texts: Texts, encoder: Encoder, cache: Path) -> Tokens:
    """Return the tokens of `texts`, from the folder `cache` where they are there, and kept there where they are not.

    Raises DataError where the folder cannot be written.
    """
    key = hashlib.sha256(json.dumps([CACHE_VERSION, texts.fingerprint, encoder.identity]).encode()).hexdigest()
    path = cache / f"tokens-{key}.npz"
    tokens = _load(path, len(texts))
    if tokens is None:
        tokens = encoder.encode(texts)
        _save(path, tokens)
    return tokens


def _load(path: Path, n: int) -> Tokens | None:
    """Return what the file holds, or None where it is not there or not what it says."""
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
