"""Pretrained Hugging Face encoders (BERT and others); their input is embeddings, which tasks can align, not tokens.

Configuration and weights are passed as plain values and tensors; the caller reads the files.

Shapes: b texts, l tokens, d features of an embedding, r features of the encoder.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from models.data.text_batches import TextBatch
from models.errors import SettingError
from models.networks.dropout import MaskSource, SeededDropout
from models.networks.seeded_init import SeededInit
from models.settings import Settings


class PretrainedSettings(Settings):
    """A pretrained encoder from a Hugging Face folder."""

    kind: Literal["pretrained"] = Field("pretrained", description="encoder")
    pooling: Literal["first", "mean"] = Field(
        "first", description="features of a text: the last layer's output at its first token, or the mean of all tokens"
    )
    dropout: float = Field(
        0.1, ge=0, lt=1, description="share of the values that dropout zeroes, in the layers and before the heads"
    )


class PretrainedEncoder(nn.Module):
    """A Hugging Face encoder whose dropout layers are replaced by `SeededDropout`.

    There is no dropout within attention: fused attention draws its masks from the global generator, which other arms
    use in other threads.

    Args:
        settings: pooling and dropout.
        config: the contents of config.json.
        mask_source: of the network.
    """

    def __init__(self, settings: PretrainedSettings, config: Mapping[str, Any], mask_source: MaskSource) -> None:
        super().__init__()
        from transformers import AutoModel

        self.pooling = settings.pooling
        self.model = AutoModel.from_config(_configuration(config))
        self._dropout = settings.dropout, mask_source
        _prepare(self.model, *self._dropout)
        self.width: int = self.model.config.hidden_size

    @property
    def words(self) -> nn.Embedding:
        """Token embeddings (v, d), before position and type embeddings are added."""
        return self.model.get_input_embeddings()

    @property
    def longest(self) -> int | None:
        """Largest number of tokens in a text for which the encoder has positions; None: unlimited."""
        positions = getattr(self.model.config, "max_position_embeddings", None)
        padding = getattr(self.model.config, "pad_token_id", 0) or 0
        # RoBERTa's positions begin after the number of the padding token
        offset = padding + 1 if "roberta" in self.model.config.model_type else 0
        return positions - offset if positions and positions > 0 else None

    def checkpoint_gradients(self) -> None:
        """Switch gradient checkpointing on: the backward pass computes each layer again; its values are not stored."""
        self.model.activation_checkpointing_enable(
            # no RNG state: SeededDropout draws the same mask again by itself
            activation_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": False}
        )

    def forward(self, embeddings: Tensor, batch: TextBatch) -> Tensor:
        """Encode token embeddings (b, l, d) as features (b, r)."""
        knows_types = getattr(self.model.config, "type_vocab_size", 0) > 1
        types = {"token_type_ids": batch.types} if knows_types and batch.types is not None else {}
        mask = batch.mask
        hidden = self.model(inputs_embeds=embeddings, attention_mask=mask.long(), **types).last_hidden_state
        if self.pooling == "first":
            return hidden[:, 0]
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Load the weights of a file, with the tensor names of any version of the library.

        Raises:
            SettingError: a tensor is missing or has another shape.
        """
        kind = type(self.model)
        with _quiet(), SeededInit(None):  # quiet: the library would list the heads in the file that are not loaded
            loaded, info = kind.from_pretrained(
                None,
                config=self.model.config,
                state_dict=dict(weights),
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
            )
        _prepare(loaded, *self._dropout)
        state = loaded.state_dict()
        missing = sorted({*info["missing_keys"]} & {*state})
        mismatched = sorted(str(key) for key in info["mismatched_keys"])
        if missing or mismatched:
            raise SettingError(
                f"the weights do not fit a {kind.__name__}: {len(missing)} of {len(state)} tensors are missing and "
                f"{len(mismatched)} have another shape (first: {(missing + mismatched)[0]}); use the weights file of "
                "the folder that has this config.json"
            )
        self.model = loaded


def _configuration(config: Mapping[str, Any]) -> Any:
    """Make the library's configuration object, without dropout in attention."""
    from transformers import CONFIG_MAPPING

    name = str(config.get("model_type"))
    if name not in CONFIG_MAPPING:
        raise SettingError(f"the encoder's configuration names model_type {name!r}, which transformers does not know")
    made = CONFIG_MAPPING[name].from_dict(dict(config))
    if getattr(made, "is_encoder_decoder", False):
        raise SettingError(f"{name} is an encoder with a decoder; choose one without a decoder, such as bert")
    for field in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(made, field):
            setattr(made, field, 0.0)
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Let the library log only errors, and show no progress bar, within the block."""
    from transformers.utils import logging

    verbosity, progress_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if progress_bar:
            logging.enable_progress_bar()


def _prepare(model: nn.Module, p: float, mask_source: MaskSource) -> None:
    """Remove the pooler after the last layer, and replace each dropout layer by a `SeededDropout`."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]
    dropouts = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Dropout)
    ]
    for number, (module, name, child) in enumerate(dropouts):
        setattr(module, name, SeededDropout(p if child.p else 0.0, number, mask_source))
