"""Text encoders over word embeddings: LSTM, CNN and MLP.

Padding does not influence an output: the LSTM's sequences are packed, the CNN's maximum leaves out windows without a
word, and the MLP's mean is over words only.

Shapes: b texts, l tokens, d features of a word embedding, r outputs (the paper's shared capacity).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.data.text_batches import TextBatch
from models.networks.dropout import MaskSource, SeededDropout
from models.settings import Settings

WIDTHS = (3, 4, 5)
"""Convolution window sizes in words (Kim: Convolutional neural networks for sentence classification, EMNLP 2014)."""


class WordEncoderSettings(Settings):
    """The settings that all encoders over word embeddings share."""

    dimension: int = Field(
        100, ge=1, le=65_536, description="features of a word embedding; must be equal to those of pretrained vectors"
    )
    trainable_embeddings: bool = Field(
        True, description="train the word embeddings too; otherwise they stay as they are"
    )
    width: int = Field(
        100, ge=1, le=65_536, description="outputs of the encoder that all tasks share (the paper's capacity r)"
    )
    dropout: float = Field(
        0.3, ge=0, lt=1, description="share of the embeddings' and outputs' values that dropout zeroes"
    )


class LstmSettings(WordEncoderSettings):
    """Long short-term memory over packed sequences, then the maximum of its states over the text."""

    kind: Literal["lstm"] = Field("lstm", description="encoder")
    depth: int = Field(1, ge=1, le=100, description="number of stacked LSTM layers")


class CnnSettings(WordEncoderSettings):
    """Convolutions over windows of 3, 4 and 5 words, then their maximum over the text (Kim 2014)."""

    kind: Literal["cnn"] = Field("cnn", description="encoder")
    width: int = Field(
        100, ge=len(WIDTHS), le=65_536, description="outputs of the encoder, divided among the windows; see lstm"
    )


class MlpSettings(WordEncoderSettings):
    """Fully connected layers over the mean of the words' embeddings."""

    kind: Literal["mlp"] = Field("mlp", description="encoder")
    depth: int = Field(1, ge=1, le=100, description="number of layers, each followed by a ReLU")


class LstmEncoder(nn.Module):
    """LSTM layers over packed sequences, then the maximum over the text."""

    def __init__(self, settings: LstmSettings, mask_source: MaskSource) -> None:
        super().__init__()
        sizes = [settings.dimension] + [settings.width] * settings.depth
        self.layers = nn.ModuleList(nn.LSTM(before, settings.width, batch_first=True) for before in sizes[:-1])
        self.dropouts = nn.ModuleList(SeededDropout(settings.dropout, i, mask_source) for i in range(settings.depth))

    def forward(self, words: Tensor, batch: TextBatch) -> Tensor:
        """Encode word embeddings (b, l, d) as (b, r)."""
        states = pack_padded_sequence(words, batch.lengths, batch_first=True, enforce_sorted=False)
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            states = PackedSequence(dropout(states.data), *states[1:])
            states, _ = layer(states)
        padded, _ = pad_packed_sequence(states, batch_first=True, padding_value=-torch.inf)
        return padded.amax(1)


class CnnEncoder(nn.Module):
    """Convolutions with three window sizes side by side, among which the outputs are divided."""

    def __init__(self, settings: CnnSettings, mask_source: MaskSource) -> None:
        super().__init__()
        self.dropout = SeededDropout(settings.dropout, 0, mask_source)
        shares = [len(part) for part in torch.arange(settings.width).tensor_split(len(WIDTHS))]
        self.convolutions = nn.ModuleList(
            # padding: a window may begin before the text and end after it, so that a text of one word has windows too
            nn.Conv1d(settings.dimension, share, width, padding=width - 1)
            for width, share in zip(WIDTHS, shares, strict=True)
        )

    def forward(self, words: Tensor, batch: TextBatch) -> Tensor:
        """Encode word embeddings (b, l, d), which are zero for padding, as (b, r)."""
        columns = self.dropout(words).transpose(1, 2)
        found = [convolution(columns) for convolution in self.convolutions]
        windows = batch.lengths.to(words.device) + max(WIDTHS) - 1
        empty = torch.arange(found[-1].shape[2], device=words.device) >= windows[:, None]
        largest = [
            # a narrower convolution has fewer windows
            values.masked_fill(empty[:, None, max(WIDTHS) - width :], -torch.inf).amax(2)
            for width, values in zip(WIDTHS, found, strict=True)
        ]
        return torch.cat(largest, 1).relu()


class MlpEncoder(nn.Module):
    """Fully connected layers over the mean of the words' embeddings."""

    def __init__(self, settings: MlpSettings, mask_source: MaskSource) -> None:
        super().__init__()
        sizes = [settings.dimension] + [settings.width] * settings.depth
        self.layers = nn.ModuleList(nn.Linear(before, settings.width) for before in sizes[:-1])
        self.dropouts = nn.ModuleList(SeededDropout(settings.dropout, i, mask_source) for i in range(settings.depth))

    def forward(self, words: Tensor, batch: TextBatch) -> Tensor:
        """Encode word embeddings (b, l, d), which are zero for padding, as (b, r)."""
        x = words.sum(1) / batch.lengths.to(words.device)[:, None]
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            x = layer(dropout(x)).relu()
        return x
