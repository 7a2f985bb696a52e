"""Any encoder of the Hugging Face library, fed with embeddings instead of tokens so that a task may align them.

Its configuration and weights come as plain values and tensors: who calls reads the files.

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
from models.networks.dropout import Draws, SeededDropout
from models.networks.skip_init import SkipInit
from models.settings import Settings


class PretrainedSettings(Settings):
    """An encoder with its weights, from a Hugging Face folder."""

    kind: Literal["pretrained"] = Field("pretrained", description="encoder")
    pooling: Literal["first", "mean"] = Field(
        "first", description="what stands for a text: the last layer's first token, or the mean of its tokens"
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="share of the values left out, in the layers and before heads")


class PretrainedEncoder(nn.Module):
    """The encoder, its dropout replaced by ours.

    Dropout within attention is left out: fused attention draws its masks from the global generator, which the arms
    that train in other threads share.

    Args:
        config: what config.json holds.
    """

    def __init__(self, settings: PretrainedSettings, config: Mapping[str, Any], draws: Draws) -> None:
        super().__init__()
        from transformers import AutoModel

        self.pooling = settings.pooling
        self.model = AutoModel.from_config(_configuration(config))
        self._dropout = settings.dropout, draws
        _prepare(self.model, *self._dropout)
        self.width: int = self.model.config.hidden_size

    @property
    def words(self) -> nn.Embedding:
        """The embeddings (v, d) of its tokens, before positions and types are added."""
        return self.model.get_input_embeddings()

    @property
    def longest(self) -> int | None:
        """Most tokens of a text that it has positions for; none: any number."""
        places = getattr(self.model.config, "max_position_embeddings", None)
        padding = getattr(self.model.config, "pad_token_id", 0) or 0
        # RoBERTa's positions begin behind the padding's number
        offset = padding + 1 if "roberta" in self.model.config.model_type else 0
        return places - offset if places and places > 0 else None

    @property
    def can_checkpoint_gradients(self) -> bool:
        return bool(self.model.supports_gradient_checkpointing)

    def checkpoint_gradients(self) -> None:
        """From now on computes each layer again in the backward pass instead of keeping its values."""
        self.model.activation_checkpointing_enable(
            # our dropout draws the same again by itself
            activation_checkpointing_kwargs={"use_reentrant": False, "preserve_rng_state": False}
        )

    def forward(self, embeddings: Tensor, batch: TextBatch) -> Tensor:
        """(b, l, d) -> (b, r)."""
        types = {} if batch.types is None or not self._knows_types else {"token_type_ids": batch.types}
        mask = batch.mask
        hidden = self.model(inputs_embeds=embeddings, attention_mask=mask.long(), **types).last_hidden_state
        if self.pooling == "first":
            return hidden[:, 0]
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)

    @property
    def _knows_types(self) -> bool:
        return getattr(self.model.config, "type_vocab_size", 0) > 1

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over the weights of a file, by the names that the library has used over the years.

        Raises:
            SettingError: a tensor is missing or has another shape.
        """
        kind = type(self.model)
        with _quiet(), SkipInit():  # it lists the heads that are left out
            loaded, found = kind.from_pretrained(
                None, config=self.model.config, state_dict=dict(weights), output_loading_info=True,
                ignore_mismatched_sizes=True, dtype=torch.float32,
            )  # fmt: skip
        _prepare(loaded, *self._dropout)
        state = loaded.state_dict()
        missing = sorted({*found["missing_keys"]} & {*state})
        wrong = sorted(str(key) for key in found["mismatched_keys"])
        if missing or wrong:
            raise SettingError(
                f"the weights do not fit a {kind.__name__}: {len(missing)} of {len(state)} tensors are missing and "
                f"{len(wrong)} have another shape (first: {(missing + wrong)[0]}); use the folder's own weights"
            )
        self.model = loaded


def _configuration(config: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    name = str(config.get("model_type"))
    if name not in CONFIG_MAPPING:
        raise SettingError(f"the encoder's configuration names model_type {name!r}, which transformers does not know")
    made = CONFIG_MAPPING[name].from_dict(dict(config))
    if getattr(made, "is_encoder_decoder", False):
        raise SettingError(f"{name} is an encoder with a decoder; an encoder alone is needed, such as bert")
    for place in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(made, place):
            setattr(made, place, 0.0)
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the library says nothing but errors, and draws no bar."""
    from transformers.utils import logging

    said, drawn = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(said)
        if drawn:
            logging.enable_progress_bar()


def _prepare(model: nn.Module, p: float, draws: Draws) -> None:
    """Takes off what stands behind the last layer, and puts our dropout in the place of each layer's."""
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # type: ignore[assignment]
    places = [
        (module, name, child)
        for module in model.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Dropout)
    ]
    for number, (module, name, child) in enumerate(places):
        setattr(module, name, SeededDropout(p if child.p else 0.0, number, draws))
