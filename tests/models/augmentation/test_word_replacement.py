"""Replacement of words: by the stated probabilities, never of or by a special token, a function of its key only."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from scipy.stats import chisquare

from models.augmentation.policies import NO_POLICY
from models.augmentation.word_replacement import (
    WORD_OPERATIONS,
    TextPolicySettings,
    UncertainWordPolicy,
    WordPolicy,
    WordStatistics,
    replace_words,
)

FIRST_WORD = 2
TEXTS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=1, max_size=8).filter(
    lambda texts: any(word >= FIRST_WORD for text in texts for word in text)
)
POLICY: TypeAdapter = TypeAdapter(TextPolicySettings)


def flat(texts):
    return torch.tensor([word for text in texts for word in text]), torch.tensor(np.cumsum([0, *map(len, texts)]))


def statistics_of(texts):
    return WordStatistics.of(*flat(texts), first_word=FIRST_WORD)


def padded(texts, rows):
    width = max(len(texts[row]) for row in rows)
    return torch.tensor([texts[row] + [0] * (width - len(texts[row])) for row in rows])


def replaced(policy, texts, rows, **key):
    how = {"seed": 0, "epoch": 0, "candidate": 0} | key
    return replace_words(policy, statistics_of(texts), padded(texts, rows), torch.tensor(rows), **how)


def naive_rates(texts):
    """(C - T_i) / Z word by word, as the appendix of arXiv:1904.12848 has it."""
    documents = Counter(word for text in texts for word in set(text))
    rates = []
    for text in texts:
        words = [word for word in text if word >= FIRST_WORD]
        tf_idf = {w: words.count(w) / len(words) * math.log(len(texts) / documents[w]) for w in words}
        gaps = {w: max(tf_idf.values()) - value for w, value in tf_idf.items()}
        mean = sum(gaps[w] for w in words) / len(words) if words else 0.0
        rates += [gaps[w] / mean if w in gaps and mean > 1e-12 else 0.0 for w in text]
    return rates


def naive_weights(texts):
    words = [word for text in texts for word in text if word >= FIRST_WORD]
    documents = Counter(word for text in texts for word in set(text))
    scores = {w: words.count(w) / len(words) * math.log(len(texts) / documents[w]) for w in sorted(set(words))}
    weights = [max(scores.values()) - score for score in scores.values()]
    return list(scores), [w / sum(weights) for w in weights] if sum(weights) > 1e-12 else None


@given(TEXTS)
def test_the_statistics_are_those_of_a_count_word_by_word(texts):
    found = statistics_of(texts)
    assert found.rates.tolist() == pytest.approx(naive_rates(texts), abs=1e-5)
    words, weights = naive_weights(texts)
    assert found.words.tolist() == words
    if weights:
        assert np.diff(found.cumulative.numpy(), prepend=0).tolist() == pytest.approx(weights, abs=1e-9)


@given(TEXTS, st.floats(0.1, 1), st.integers(0, 3))
def test_special_tokens_and_padding_stay_and_are_never_drawn(texts, share, candidate):
    rows = list(range(len(texts)))
    for operation in ("tf_idf", "uniform"):
        policy = WordPolicy(operations=(operation,), probability=1, share=share)
        before, found = padded(texts, rows), replaced(policy, texts, rows, candidate=candidate)
        special = before < FIRST_WORD
        assert torch.equal(found.ids[special], before[special])
        occurring = {word for text in texts for word in text if word >= FIRST_WORD}
        assert set(found.ids[~special].tolist()) <= occurring


@given(TEXTS, st.integers(0, 5))
def test_a_text_is_changed_alike_in_any_batch_and_order(texts, seed):
    policy, rows = WordPolicy(probability=0.8), list(range(len(texts)))
    together = replaced(policy, texts, rows, seed=seed)
    backwards = replaced(policy, texts, rows[::-1], seed=seed)
    for row in rows:
        alone = replaced(policy, texts, [row], seed=seed)
        length = len(texts[row])
        assert alone.ids[0].tolist() == together.ids[row, :length].tolist() == backwards.ids[-1 - row, :length].tolist()
        assert alone.operations[0] == together.operations[row] == backwards.operations[-1 - row]


RNG = np.random.default_rng(0)
MANY = [(FIRST_WORD + RNG.zipf(1.5, 12).clip(max=40)).tolist() for _ in range(4000)]


def test_every_part_of_the_key_counts():
    rows = list(range(50))
    policy = WordPolicy(probability=1)
    found = [replaced(policy, MANY[:50], rows).ids] + [
        replaced(policy, MANY[:50], rows, **{part: 1}).ids for part in ("seed", "epoch", "candidate")
    ]
    assert len({ids.numpy().tobytes() for ids in found}) == 4


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_uniform_replaces_its_share_of_words_by_all_words_alike(share):
    rows = list(range(len(MANY)))
    statistics = statistics_of(MANY)
    found = replaced(WordPolicy(operations=("uniform",), probability=1, share=share), MANY, rows)
    changed = found.ids != padded(MANY, rows)
    by_itself = 1 / len(statistics.words)
    assert float(changed.float().mean()) == pytest.approx(share * (1 - by_itself), abs=0.01)
    # of the words of one text, the most frequent one, all others are drawn equally often
    one = changed & (padded(MANY, rows) == FIRST_WORD + 1)
    counts = torch.bincount(found.ids[one], minlength=int(statistics.words.max()) + 1)[statistics.words]
    assert chisquare(counts[counts > 0]).pvalue > 1e-4
    assert (counts > 0).sum() == len(statistics.words) - 1


def test_tf_idf_replaces_by_its_rates_and_draws_by_its_weights():
    rows, share = list(range(len(MANY))), 0.4
    policy = WordPolicy(operations=("tf_idf",), probability=1, share=share)
    before, changed, drawn = padded(MANY, rows), torch.zeros(len(MANY), 12), []
    for epoch in range(20):
        ids = replaced(policy, MANY, rows, epoch=epoch).ids
        changed += (ids != before).float()
        drawn.append(ids[ids != before])
    rates = statistics_of(MANY).rates.view(len(MANY), 12)
    assert not changed[rates == 0].any()
    words, weights = naive_weights(MANY)
    weight_of = torch.zeros(max(words) + 1)
    weight_of[words] = torch.tensor(weights, dtype=torch.float32)
    expected = 20 * (share * rates).clamp(max=1) * (1 - weight_of[before])
    for low in (0.0, 0.3, 0.6, 0.9):  # rarely spared and mostly spared words alike
        some = (rates > low) & (rates <= low + 0.3)
        assert float(changed[some].mean()) == pytest.approx(float(expected[some].mean()), rel=0.05)
    shares = torch.bincount(torch.cat(drawn), minlength=max(words) + 1)[words] / sum(map(len, drawn))
    assert shares[torch.tensor(weights) == 0].sum() == 0
    assert np.corrcoef(shares, weights)[0, 1] > 0.5


@given(TEXTS, st.floats(0, 1))
def test_the_mean_rate_of_tf_idf_is_the_share_where_no_probability_is_bounded(texts, share):
    found = statistics_of(texts)
    for i, text in enumerate(texts):
        rates = found.rates[found.offsets[i] : found.offsets[i + 1]][torch.tensor(text) >= FIRST_WORD]
        if len(rates) and rates.any():
            assert float((share * rates).mean()) == pytest.approx(share, abs=1e-5)
            assert float((share * rates).clamp(max=1).mean()) <= share + 1e-5


def test_operations_are_drawn_alike_and_applied_with_their_probability():
    found = replaced(WordPolicy(probability=0.6), MANY, list(range(len(MANY)))).operations
    counts = torch.bincount(found, minlength=len(WORD_OPERATIONS))
    assert chisquare(counts, [len(MANY) * share for share in (0.4, 0.3, 0.3)]).pvalue > 1e-4
    unchanged = replaced(WordPolicy(probability=0.6), MANY, list(range(len(MANY)))).ids[found == 0]
    assert torch.equal(unchanged, padded(MANY, list(range(len(MANY))))[found == 0])


def test_where_all_words_are_alike_tf_idf_spares_all_and_draws_uniformly():
    alike = [[2, 3, 4]] * 5
    assert torch.equal(
        replaced(WordPolicy(operations=("tf_idf",), probability=1, share=1), alike, [0]).ids, padded(alike, [0])
    )
    assert np.diff(statistics_of(alike).cumulative.numpy(), prepend=0).tolist() == pytest.approx([1 / 3] * 3)


def test_policies_are_read_by_kind_and_named_by_what_differs():
    assert POLICY.validate_python({"kind": "none"}) == NO_POLICY
    assert POLICY.validate_python({"kind": "composed", "operations": ["tf_idf"]}).name == "composed(operations=tf_idf)"
    assert UncertainWordPolicy(candidates=8, selected=4).name == "uncertainty(candidates=8, selected=4)"
    with pytest.raises(ValidationError, match="selected must be at most the number of candidates, 4; got 5"):
        UncertainWordPolicy(selected=5)
    with pytest.raises(ValidationError, match="tf_idf"):
        POLICY.validate_python({"kind": "composed", "operations": ["back_translation"]})
