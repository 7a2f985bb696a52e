"""Padding does not influence the output of any encoder, and outputs have the width of the shared capacity."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.data.text_batches import TextBatch
from models.networks.dropout import MaskSource
from models.networks.word_encoders import CnnEncoder, CnnSettings, LstmEncoder, LstmSettings, MlpEncoder, MlpSettings

D = 6
KINDS = {
    "lstm": (LstmEncoder, LstmSettings(dimension=D, width=7)),
    "deep lstm": (LstmEncoder, LstmSettings(dimension=D, width=7, depth=3)),
    "cnn": (CnnEncoder, CnnSettings(dimension=D, width=7)),
    "mlp": (MlpEncoder, MlpSettings(dimension=D, width=7)),
    "deep mlp": (MlpEncoder, MlpSettings(dimension=D, width=7, depth=2)),
}


def encoder(kind):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made, encoder_settings = KINDS[kind]
        return made(encoder_settings, MaskSource()).eval()


def padded(lengths, seed, width=None):
    """Random words, (b, l, D), zero after the end of each text, and their batch."""
    lengths = torch.tensor(lengths)
    width = width or int(lengths.max())
    words = torch.as_tensor(np.random.default_rng(seed).normal(size=(len(lengths), width, D)), dtype=torch.float32)
    there = torch.arange(width) < lengths[:, None]
    ids = there.long()
    return words * there[..., None], TextBatch(ids, lengths, None, torch.zeros(len(lengths), dtype=torch.int64))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_text_has_the_same_output_with_and_without_longer_texts_in_its_batch(kind, lengths, seed):
    model = encoder(kind)
    words, batch = padded(lengths, seed)
    outputs = model(words, batch)
    assert outputs.shape == (len(lengths), 7)
    for i, length in enumerate(lengths):
        text = words[i : i + 1, :length]
        single = TextBatch(batch.ids[i : i + 1, :length], batch.lengths[i : i + 1], None, batch.targets[i : i + 1])
        torch.testing.assert_close(model(text, single)[0], outputs[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "deep lstm"])
def test_values_after_the_end_of_a_packed_text_are_never_read(kind):
    model = encoder(kind)
    words, batch = padded([3, 8, 1], 0)
    expected = model(words, batch)
    words = torch.where(batch.ids[..., None] > 0, words, torch.nan)
    assert torch.equal(model(words, batch), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_reaches_the_padding(kind):
    words, batch = padded([3, 8, 1], 0)
    words.requires_grad_()
    model = encoder(kind).train()
    for module in model.modules():
        if hasattr(module, "mask_source"):
            module.mask_source.begin_step(0, 0)
    model(words, batch)[0].sum().backward()
    assert words.grad[0, :3].abs().sum() > 0
    assert words.grad[1:].abs().sum() == 0
    if "lstm" in kind:
        assert words.grad[0, 3:].abs().sum() == 0


def test_a_cnns_windows_are_kims():
    model = encoder("cnn")
    words, batch = padded([9, 4], 1)
    found = []
    for i, length in enumerate([9, 4]):
        of_text = []
        for convolution in model.convolutions:
            width = convolution.kernel_size[0]
            text = torch.cat([torch.zeros(width - 1, D), words[i, :length], torch.zeros(width - 1, D)])
            values = [
                (convolution.weight * text[at : at + width].T).sum((1, 2)) + convolution.bias
                for at in range(length + width - 1)
            ]
            of_text.append(torch.stack(values).amax(0).relu())
        found.append(torch.cat(of_text))
    torch.testing.assert_close(model(words, batch), torch.stack(found), rtol=1e-4, atol=1e-5)


def test_an_mlp_sees_the_mean_of_the_words():
    model = encoder("mlp")
    words, batch = padded([4, 2], 2)
    means = torch.stack([words[0, :4].mean(0), words[1, :2].mean(0)])
    torch.testing.assert_close(model(words, batch), model.layers[0](means).relu())


def test_a_cnn_too_narrow_for_its_windows_is_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 3"):
        CnnEncoder(CnnSettings(width=2), MaskSource())
