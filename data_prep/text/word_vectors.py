"""Pretrained word vectors: GloVe's and word2vec's text files, read as a stream; only a vocabulary's words are kept.

v words of a vocabulary, d numbers per word.

One word per line, then d numbers, all separated by spaces; word2vec's files begin with a line of two numbers.
Pennington, Socher, Manning, GloVe: Global Vectors for Word Representation, EMNLP 2014,
https://nlp.stanford.edu/projects/glove. A file may be in the zip archive in which it is published.
"""

import contextlib
import hashlib
import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_prep.errors import DataError
from data_prep.fetch.remote_file import RemoteFile
from data_prep.text.task import text_generator
from data_prep.text.vocabulary import PADDING, Vocabulary

MAX_BYTES = 16 * 2**30  # expanded; GloVe's largest file has 5.6 GB
MAX_LINE_BYTES = 64 * 2**10  # 300 numbers take 3 KB
MAX_DIMENSIONS = 4096
MAX_VALUE = 1e6  # those of GloVe are below 10

_SITE = "https://nlp.stanford.edu/data/"
# licence: Public Domain Dedication and License 1.0
GLOVE: dict[str, RemoteFile] = {
    "6B": RemoteFile("glove.6B.zip", f"{_SITE}glove.6B.zip", 862_182_613),  # 50, 100, 200 and 300 dimensions
    "840B": RemoteFile("glove.840B.300d.zip", f"{_SITE}glove.840B.300d.zip", 2_176_768_927),
}


@dataclass(frozen=True, eq=False)
class WordVectors:
    """Word vectors of a vocabulary.

    Attributes:
        values: (v, d) float32, a row per word; 0 for padding, random for a word that was not found.
        found: (v,) bool, whether the word was found.
    """

    values: np.ndarray
    found: np.ndarray

    @property
    def share(self) -> float:
        """Share of the vocabulary's words that were found, without padding and unknown; in [0, 1]."""
        return float(self.found[2:].mean())

    @property
    def identity(self) -> str:
        """``sha256:...`` of the values."""
        return "sha256:" + hashlib.sha256(np.ascontiguousarray(self.values).data).hexdigest()


def read_word_vectors(path: Path, vocabulary: Vocabulary, *, seed: int, dimensions: int | None = None) -> WordVectors:
    """Read the vectors of the vocabulary's words from a text file, or from a text file in a zip archive.

    Vectors of words that are not found are random with the variance of those found, as in Kim (2014, section 3.1).

    Args:
        path: of the text file or archive.
        vocabulary: its words.
        seed: of the random vectors.
        dimensions: d; needed if an archive holds several files (``glove.6B.zip``: 50, 100, 200, 300).

    Raises:
        DataError: the file is missing, damaged or too large, a line is not a word with d numbers, or the file has
            none of the words.
    """
    numbers = {word.encode(): number for number, word in enumerate(vocabulary.words) if number > 1}
    found = np.zeros(vocabulary.size, dtype=bool)
    values = np.zeros((0, 0), dtype=np.float32)
    with _open(path, dimensions) as stream:
        for line_number, line in _lines(path, stream):
            if not values.size:
                values = np.zeros((vocabulary.size, _dimensions(path, line_number, line, dimensions)), dtype=np.float32)
            if line.partition(b" ")[0] not in numbers:
                continue
            word, *cells = line.decode(errors="replace").rsplit(" ", values.shape[1])
            row = numbers.get(word.encode())
            if row is not None and not found[row]:
                values[row] = _numbers(path, line_number, cells, values.shape[1])
                found[row] = True
    if not found.any():
        raise DataError(
            f"{path}: has none of the {len(numbers)} words; is it a text file of word vectors, for this language?"
        )
    missing = np.flatnonzero(~found)
    missing = missing[missing != PADDING]
    spread = float(values[found].std(dtype=np.float64))
    values[missing] = text_generator(seed, "word vectors").normal(0, spread, (len(missing), values.shape[1]))
    return WordVectors(values, found)


@contextlib.contextmanager
def _open(path: Path, dimensions: int | None) -> Iterator[BinaryIO]:
    """Open a text file, or the text file in a zip archive."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(_member(path, archive, dimensions)) as packed:
                yield io.BufferedReader(packed, 2**20)  # type: ignore[type-var]  # behaves as a raw stream
        else:
            with path.open("rb") as file:
                yield file
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; name another, or glove.6B to download GloVe") from error
    except (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch it again") from error


def _member(path: Path, archive: zipfile.ZipFile, dimensions: int | None) -> str:
    texts = sorted(name for name in archive.namelist() if name.endswith((".txt", ".vec")))
    chosen = [name for name in texts if dimensions is None or f".{dimensions}d." in name]
    if len(chosen) == 1:
        return chosen[0]
    raise DataError(
        f"{path}: {len(chosen)} files fit {dimensions or 'any number of'} dimensions; name the dimensions of one of "
        f"{', '.join(texts)[:200] or 'its files; none of them is a text file'}"
    )


def _lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the line, line without its end); the header and empty lines are skipped."""
    left = MAX_BYTES
    for number in itertools.count(1):
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        left -= len(line)
        if len(line) > MAX_LINE_BYTES or left < 0:
            raise DataError(
                f"{path}: line {number} is longer than {MAX_LINE_BYTES} bytes, or the file than {MAX_BYTES}; word "
                "vectors are read as text, not in word2vec's binary format"
            )
        line = line.strip()
        if line and not (number == 1 and len(header := line.split()) == 2 and all(map(bytes.isdigit, header))):
            yield number, line


def _dimensions(path: Path, number: int, line: bytes, expected: int | None) -> int:
    """Return d, from the first line."""
    dimensions = line.count(b" ")
    if not 1 <= dimensions <= MAX_DIMENSIONS or (expected is not None and expected != dimensions):
        raise DataError(
            f"{path}: line {number} has {dimensions} numbers after its word; "
            f"{expected or f'1 to {MAX_DIMENSIONS}'} are expected: check that this is the right file"
        )
    return dimensions


def _numbers(path: Path, number: int, cells: list[str], dimensions: int) -> np.ndarray:
    try:
        vector = np.array(list(map(float, cells)))
    except ValueError as error:
        raise DataError(f"{path}: line {number}: {error}; fetch the file again") from error
    if len(vector) != dimensions or not (np.abs(vector) <= MAX_VALUE).all():
        raise DataError(
            f"{path}: line {number} has {len(vector)} numbers; {dimensions} are expected, none beyond {MAX_VALUE:g}: "
            "fetch the file again"
        )
    return vector
