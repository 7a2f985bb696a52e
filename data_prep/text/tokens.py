"""Tokens: sentences encoded as integers in one flat array with offsets, so that no padding is stored or moved.

n sentences (or pairs), t tokens in total.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True, eq=False)
class Tokens:
    """n sentences, none of them empty. Sentence i is ``ids[offsets[i]:offsets[i + 1]]``.

    Attributes:
        ids: (t,) int32, rows of an embedding table; the encoder's number of padding does not occur.
        offsets: (n + 1,) int64, increasing from 0 to t.
        types: (t,) int8, 0 in the first sentence of a pair and 1 in the second; None if there are no pairs.
    """

    ids: np.ndarray
    offsets: np.ndarray
    types: np.ndarray | None = None

    def __len__(self) -> int:
        """Return n."""
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64, tokens per sentence."""
        return np.diff(self.offsets)

    def sentences(self) -> list[np.ndarray]:
        """Return the n sentences, views of `ids`."""
        return [self.ids[start:end] for start, end in pairwise(self.offsets.tolist())]
