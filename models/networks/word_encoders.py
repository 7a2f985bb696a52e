"""Encoders of word embeddings: LSTM, CNN and MLP. What comes out has the shared capacity as its width.

Padding never reaches an output: the LSTM's sequences are packed, the CNN's windows without a word lose every
maximum, the MLP's mean counts words alone.

Shapes: b texts, l tokens, d features of a word, r outputs.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from models.data.text_batches import TextBatch
from models.errors import SettingError
from models.networks.dropout import Draws, SeededDropout
from models.settings import Settings

WIDTHS = (3, 4, 5)
"""Words a convolution's window covers (Kim: Convolutional neural networks for sentence classification, EMNLP 2014)."""


class WordEncoderSettings(Settings):
    """What every encoder over word embeddings is told."""

    dimension: int = Field(100, ge=1, description="features of a word embedding; those of given vectors must agree")
    trainable_embeddings: bool = Field(True, description="train the word embeddings too, or keep them as they are")
    width: int = Field(100, ge=1, description="outputs of the encoder that all tasks share (the paper's capacity r)")
    dropout: float = Field(0.3, ge=0, lt=1, description="share of the embeddings' and of the outputs' values left out")


class LstmSettings(WordEncoderSettings):
    """Long short-term memory, packed; the largest of its states over the text."""

    kind: Literal["lstm"] = Field("lstm", description="encoder")
    depth: int = Field(1, ge=1, description="layers on top of one another")


class CnnSettings(WordEncoderSettings):
    """Convolutions over windows of 3, 4 and 5 words, and their largest values over the text (Kim 2014)."""

    kind: Literal["cnn"] = Field("cnn", description="encoder")


class MlpSettings(WordEncoderSettings):
    """Fully connected layers over the mean of the words' embeddings."""

    kind: Literal["mlp"] = Field("mlp", description="encoder")
    depth: int = Field(1, ge=1, description="layers, each followed by a ReLU")


class LstmEncoder(nn.Module):
    """Layers of LSTM over packed sequences."""

    def __init__(self, settings: LstmSettings, draws: Draws) -> None:
        super().__init__()
        sizes = [settings.dimension] + [settings.width] * settings.depth
        self.layers = nn.ModuleList(nn.LSTM(before, settings.width, batch_first=True) for before in sizes[:-1])
        self.dropouts = nn.ModuleList(SeededDropout(settings.dropout, i, draws) for i in range(settings.depth))

    def forward(self, words: Tensor, batch: TextBatch) -> Tensor:
        """(b, l, d) -> (b, r)."""
        states = pack_padded_sequence(words, batch.lengths, batch_first=True, enforce_sorted=False)
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            states = PackedSequence(dropout(states.data), *states[1:])
            states, _ = layer(states)
        padded, _ = pad_packed_sequence(states, batch_first=True, padding_value=-torch.inf)
        return padded.amax(1)


class CnnEncoder(nn.Module):
    """Convolutions of three widths side by side, which share the outputs among them."""

    def __init__(self, settings: CnnSettings, draws: Draws) -> None:
        super().__init__()
        if settings.width < len(WIDTHS):
            raise SettingError(f"a cnn needs a width of at least {len(WIDTHS)}, one per window; got {settings.width}")
        self.dropout = SeededDropout(settings.dropout, 0, draws)
        shares = [len(part) for part in torch.arange(settings.width).tensor_split(len(WIDTHS))]
        self.convolutions = nn.ModuleList(
            # a window may begin before the text and end after it, so that a text of one word has windows too
            nn.Conv1d(settings.dimension, share, width, padding=width - 1)
            for width, share in zip(WIDTHS, shares, strict=True)
        )

    def forward(self, words: Tensor, batch: TextBatch) -> Tensor:
        """(b, l, d), zero where there is no word -> (b, r)."""
        columns = self.dropout(words).transpose(1, 2)
        found = [convolution(columns) for convolution in self.convolutions]
        windows = batch.lengths.to(words.device) + max(WIDTHS) - 1
        beyond = torch.arange(found[-1].shape[2], device=words.device) >= windows[:, None]
        largest = [
            # the narrower the window, the fewer of them
            values.masked_fill(beyond[:, None, max(WIDTHS) - width :], -torch.inf).amax(2)
            for width, values in zip(WIDTHS, found, strict=True)
        ]
        return torch.cat(largest, 1).relu()


class MlpEncoder(nn.Module):
    """Fully connected layers over the mean of the words."""

    def __init__(self, settings: MlpSettings, draws: Draws) -> None:
        super().__init__()
        sizes = [settings.dimension] + [settings.width] * settings.depth
        self.layers = nn.ModuleList(nn.Linear(before, settings.width) for before in sizes[:-1])
        self.dropouts = nn.ModuleList(SeededDropout(settings.dropout, i, draws) for i in range(settings.depth))

    def forward(self, words: Tensor, batch: TextBatch) -> Tensor:
        """(b, l, d), zero where there is no word -> (b, r)."""
        x = words.sum(1) / batch.lengths.to(words.device)[:, None]
        for layer, dropout in zip(self.layers, self.dropouts, strict=True):
            x = layer(dropout(x)).relu()
        return x
