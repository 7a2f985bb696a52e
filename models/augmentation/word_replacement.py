"""Augmentation of texts: some of their words are replaced by other words of the training texts.

Two operations (section 5 of Wu, Zhang, Valiant, Ré, ICML 2020, arXiv:2005.00695), on the numbers of words:

* `uniform`: each word is replaced with the same probability, by a word drawn uniformly;
* `tf_idf` (Xie, Dai, Hovy, Luong, Le: Unsupervised Data Augmentation, arXiv:1904.12848, appendix): word i of a text is
  replaced with probability min(p (C - T_i) / Z, 1), where T_i is its TF-IDF in the text, C the highest in the text and
  Z the mean of C - T_i over the text; by a word w drawn in proportion to max S - S(w), with S(w) = freq(w) IDF(w).
  TF is the share of the text's words, IDF(w) the logarithm of the number of texts over those with w, and freq the
  share of the words of all texts.

So p is the mean share that is replaced, less what the bound at 1 takes off; the words of highest TF-IDF stay. Where all
words of a text have the same TF-IDF, as in a text of one word, Z is 0 and `tf_idf` replaces none. The authors' code
weights the drawn words by the sum of TF-IDF over the texts instead of S. A word may be replaced by itself. The third
operation of the paper, back-translation, is not here: it needs a table of translations made beforehand.

What is drawn for position j of candidate c of text i in pass e is a function of (seed, c, e, i, j) and the policy.

Shapes: n texts, t tokens of all texts, w different words, b texts of a batch, l tokens of its longest.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, Self

import torch
from pydantic import Field
from torch import Tensor

from models.augmentation.candidates import CandidateSettings
from models.augmentation.policies import NoPolicy
from models.randomness import index_from, random_bits, uniform_from
from models.settings import KindSettings

WORD_OPERATIONS = ("identity", "tf_idf", "uniform")
"""The operations on words; positions in it are recorded."""

_TF_IDF = WORD_OPERATIONS.index("tf_idf")


class _WordPolicy(KindSettings):
    """The base class of policies that replace words."""

    operations: tuple[Literal["tf_idf", "uniform"], ...] = Field(
        ("tf_idf", "uniform"),
        min_length=1,
        max_length=2,
        description="ways to replace words, of which one is drawn for each text: tf_idf spares the words that tell a "
        "text from others, uniform takes all words alike",
    )
    probability: float = Field(0.5, ge=0, le=1, description="probability that words of a text are replaced at all")
    share: float = Field(0.4, ge=0, le=1, description="mean share of the words that are then replaced")


class WordPolicy(_WordPolicy):
    """Random replacement of words without selection: `uncertainty` with one candidate, its baseline."""

    kind: Literal["composed"] = "composed"

    @property
    def selected(self) -> int:
        """The number of candidates of each text that a step trains on."""
        return 1


class UncertainWordPolicy(CandidateSettings, _WordPolicy):
    """Uncertainty-based sampling (Algorithm 1): of several random replacements of each text, train on the worst."""

    kind: Literal["uncertainty"] = "uncertainty"


TextPolicySettings = Annotated[NoPolicy | WordPolicy | UncertainWordPolicy, Field(discriminator="kind")]


class Replaced(NamedTuple):
    """Texts with replaced words.

    Attributes:
        ids: (b, l) int64 numbers of the words.
        operations: (b,) int64, positions in `WORD_OPERATIONS`; identity where no operation was applied.
    """

    ids: Tensor
    operations: Tensor


@dataclass(frozen=True)
class WordStatistics:
    """What the operations know of the training texts of a task. All on the CPU.

    Attributes:
        words: (w,) int64, the numbers of the words that occur, ascending.
        cumulative: (w,) float64 in [0, 1], up to each word the share of draws that TF-IDF replacement gives to it.
        rates: (t,) float32, each token's (C - T_i) / Z; 0 for tokens that are no words.
        offsets: (n + 1,) int64; the tokens of text i are those from offsets[i] to offsets[i + 1].
        first_word: lowest number that is a word; those below it are padding, unknown words and the like.
    """

    words: Tensor
    cumulative: Tensor
    rates: Tensor
    offsets: Tensor
    first_word: int

    @classmethod
    def of(cls, ids: Tensor, offsets: Tensor, *, first_word: int) -> Self:
        """Count the words of n training texts, at least one of which has a word.

        Args:
            ids: (t,) integers, numbers of the words.
            offsets: (n + 1,) int64 from 0 to t.
            first_word: lowest number that is a word.
        """
        texts = len(offsets) - 1
        text = torch.arange(texts).repeat_interleave(offsets.diff())
        is_word = ids >= first_word
        text, word = text[is_word], ids[is_word].long()
        size = int(word.max()) + 1
        pairs, of_token, occurrences = (text * size + word).unique(return_inverse=True, return_counts=True)
        idf = (texts / torch.bincount(pairs % size, minlength=size).double()).log()
        lengths = torch.bincount(text, minlength=texts).double()
        tf_idf = occurrences[of_token] / lengths[text] * idf[word]
        highest = torch.zeros(texts, dtype=torch.float64).scatter_reduce(0, text, tf_idf, "amax")
        gaps = highest[text] - tf_idf
        mean_gaps = torch.zeros(texts, dtype=torch.float64).index_add(0, text, gaps) / lengths
        rates = torch.zeros(len(ids))
        rates[is_word] = torch.where(gaps > 0, gaps / mean_gaps[text], 0.0).float()

        words, counts = word.unique(return_counts=True)
        scores = counts.double() / len(word) * idf[words]
        weights = scores.max() - scores
        weights = weights if weights.sum() > 0 else torch.ones_like(weights)
        cumulative = weights.cumsum(0)
        return cls(words, cumulative / cumulative[-1], rates, offsets, first_word)

    def rates_of(self, rows: Tensor) -> Tensor:
        """Collect the rates of the texts in (b,) rows: (b, l), 0 after the end of a text."""
        lengths = self.offsets.diff()[rows]
        positions = torch.arange(int(lengths.max()))
        valid = positions < lengths[:, None]
        return self.rates[(self.offsets[rows][:, None] + positions).where(valid, 0)].where(valid, 0.0)


def replace_words(
    policy: WordPolicy | UncertainWordPolicy,
    statistics: WordStatistics,
    ids: Tensor,
    rows: Tensor,
    *,
    seed: int,
    epoch: int,
    candidate: int,
) -> Replaced:
    """Replace words of some training texts, as drawn for one candidate of each.

    Args:
        policy: says how.
        statistics: of the task's training texts.
        ids: (b, l) int64, the texts of `rows`, padded to the longest of them.
        rows: (b,) int64, row numbers among the training texts.
        seed: of the task in this training, at least 0.
        epoch: number of passes over the texts before this one.
        candidate: its number, counted from 0.
    """
    bits = random_bits(seed, f"word replacement, candidate {candidate}", epoch, rows, 2 + 2 * ids.shape[1])
    uniform = uniform_from(bits)
    numbers = torch.tensor([WORD_OPERATIONS.index(name) for name in policy.operations])
    drawn = numbers[(uniform[:, 0] * len(numbers)).long()]
    operations = torch.where(uniform[:, 1] < policy.probability, drawn, 0)
    by_tf_idf = operations[:, None] == _TF_IDF
    probabilities = policy.share * torch.where(by_tf_idf, statistics.rates_of(rows), 1.0)
    replaced = (uniform[:, 2::2] < probabilities) & (operations[:, None] > 0) & (ids >= statistics.first_word)
    last = len(statistics.words) - 1
    weighted = torch.searchsorted(statistics.cumulative, uniform[:, 3::2].double(), right=True).clamp(max=last)
    others = statistics.words[torch.where(by_tf_idf, weighted, index_from(bits[:, 3::2], last + 1))]
    return Replaced(torch.where(replaced, others, ids), operations)
