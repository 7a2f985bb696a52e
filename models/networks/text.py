"""The multi-task text network: embeddings Z_i = E_i R_i, the shared encoder B, and a head A_i per task.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), Algorithm 1: E_i are task i's embeddings, and R_i is its alignment matrix,
initialized as the identity. Without alignment there is no R_i; with R_i = I the outputs are the same to the bit.

Shapes: b texts, l tokens, v words, d features of an embedding, r outputs of the encoder, c classes of a task.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from models.data.text_batches import TextBatch, TextExamples
from models.errors import SettingError, unknown_name
from models.networks.alignment import AlignmentKind, Covariance, make_alignment
from models.networks.dropout import MaskSource, SeededDropout
from models.networks.pretrained_encoder import PretrainedEncoder, PretrainedSettings
from models.networks.seeded_init import SeededInit
from models.networks.word_encoders import CnnEncoder, CnnSettings, LstmEncoder, LstmSettings, MlpEncoder, MlpSettings
from models.randomness import seed_for
from models.settings import Settings

_WORD_ENCODERS: Mapping[str, Any] = {"lstm": LstmEncoder, "cnn": CnnEncoder, "mlp": MlpEncoder}
EncoderSettings = Annotated[LstmSettings | CnnSettings | MlpSettings | PretrainedSettings, Field(discriminator="kind")]

SPECIAL_ROWS = 2  # first rows of a word table, which are no words: padding, and all words outside the vocabulary
OUTPUT_DROPOUT_LAYER = 1_000  # number of the dropout layer before the heads; encoders number theirs from 0
CHUNK_ROWS = 8_192  # rows of an embedding table that are added to a covariance at a time


class TextNetworkSettings(Settings):
    """The shared encoder, and the kind of alignment matrices before it."""

    encoder: EncoderSettings = Field(LstmSettings(), description="the encoder that all tasks share")
    alignment: AlignmentKind = Field(
        "none",
        description="each task's alignment matrix before the encoder: none, free, or a rotation; initialized as the "
        "identity",
    )


class TextNetwork(nn.Module):
    """Embeddings, an alignment matrix R_i per task, the shared encoder, and a head per task.

    The constructor does not initialize the weights. Use `initial_text_network` to make a network for training, and
    `restore` to load a trained one.

    Args:
        settings: encoder and alignment.
        tasks: number of classes of each task by its name, in the order of reports.
        words: for a word encoder: v, the rows of its table. Row 0 is padding and stays zero; row 1 stands for all
            unknown words and starts at zero.
        config: for a pretrained encoder: the contents of config.json.
    """

    def __init__(
        self,
        settings: TextNetworkSettings,
        tasks: Mapping[str, int],
        *,
        words: int | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not tasks:
            raise SettingError("a network needs at least one task; got none")
        for task, classes in tasks.items():
            if classes < 2:
                raise SettingError(f"task {task!r} needs at least two classes; got {classes}")
        self.settings, self.tasks, self.config = settings, dict(tasks), config
        self.mask_source = MaskSource()
        self._own_words: nn.Embedding | None = None
        with SeededInit(None):  # `initial_text_network` draws, `restore` loads
            self._build(settings, words, config)

    def _build(self, settings: TextNetworkSettings, words: int | None, config: Mapping[str, Any] | None) -> None:
        if isinstance(settings.encoder, PretrainedSettings):
            if config is None:
                raise SettingError("a pretrained encoder needs its configuration: read config.json and pass it")
            self.encoder: Any = PretrainedEncoder(settings.encoder, config, self.mask_source)
            self.width = self.encoder.width
        else:
            if words is None or words < 2:
                raise SettingError(
                    f"a vocabulary needs padding and at least one word, so 2 rows or more; got {words} rows"
                )
            self._own_words = nn.Embedding(words, settings.encoder.dimension, padding_idx=0, sparse=True)
            self._own_words.weight.requires_grad_(settings.encoder.trainable_embeddings)
            self.encoder = _WORD_ENCODERS[settings.encoder.kind](settings.encoder, self.mask_source)
            self.width = settings.encoder.width
        self.output_dropout = SeededDropout(settings.encoder.dropout, OUTPUT_DROPOUT_LAYER, self.mask_source)
        d, names = self.words.embedding_dim, {_module_name(task): classes for task, classes in self.tasks.items()}
        self.alignments = nn.ModuleDict({name: make_alignment(settings.alignment, d) for name in names})
        self.heads = nn.ModuleDict({name: nn.Linear(self.width, classes) for name, classes in names.items()})

    @property
    def words(self) -> nn.Embedding:
        """The embedding table, (v, d)."""
        return self.encoder.words if self._own_words is None else self._own_words

    @property
    def has_word_table(self) -> bool:
        """Whether the embedding table is this network's own, with sparse gradients, and not part of the encoder."""
        return self._own_words is not None

    def alignment(self, task: str) -> Any:
        """Return the task's R_i: a `FreeAlignment`, a `RotationAlignment`, or `nn.Identity`."""
        return self.alignments[self._module_key(task)]

    def embeddings(self, task: str, batch: TextBatch) -> Tensor:
        """Compute the task's aligned embeddings Z_i = E_i R_i, (b, l, d)."""
        return self.alignment(task)(self.words(batch.ids))

    def features(self, task: str, batch: TextBatch) -> Tensor:
        """Compute the features for the task's head, (b, r), in autocast's type under autocast."""
        return self.encoder(self.embeddings(task, batch), batch)

    def classify(self, task: str, features: Tensor) -> Tensor:
        """Compute the task's logits (b, c) float32 from features (b, r) float32.

        Call it outside autocast: bfloat16 has only 8 bits of precision, too few for a logit.
        """
        head = cast(nn.Linear, self.heads[self._module_key(task)])
        return linear(self.output_dropout(features), head.weight, head.bias)

    def forward(self, task: str, batch: TextBatch) -> Tensor:
        """Compute the task's logits, (b, c)."""
        return self.classify(task, self.features(task, batch))

    def shared_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that all tasks use: the embedding table and the encoder B."""
        return [*([] if self._own_words is None else self._own_words.parameters()), *self.encoder.parameters()]

    def alignment_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all R_i."""
        return list(self.alignments.parameters())

    def _module_key(self, task: str) -> str:
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        return _module_name(task)

    def checkpoint(self) -> dict[str, Any]:
        """Return all that `restore` needs, as plain values and tensors, for `torch.load(weights_only=True)`."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "tasks": dict(self.tasks),
            "words": self.words.num_embeddings,
            "config": None if self.config is None else dict(self.config),
            "state": {name: value.detach().cpu().clone() for name, value in self.state_dict().items()},
        }

    @classmethod
    def restore(cls, checkpoint: Mapping[str, Any]) -> Self:
        """Make the trained network of a `checkpoint`, on the CPU, in evaluation mode."""
        settings = TextNetworkSettings.model_validate(checkpoint["settings"])
        network = cls(settings, checkpoint["tasks"], words=checkpoint["words"], config=checkpoint["config"])
        network.load_state_dict(checkpoint["state"])
        return network.eval()


def initial_text_network(
    settings: TextNetworkSettings,
    tasks: Mapping[str, int],
    *,
    seed: int,
    words: int | None = None,
    vectors: Any = None,
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> TextNetwork:
    """Make a network for training; the weights depend only on the arguments, not on what other threads do.

    Args:
        settings: encoder and alignment.
        tasks: number of classes of each task by its name.
        seed: of the random weights, at least 0.
        words: for a word encoder: v, the rows of its table; not needed with `vectors`.
        vectors: for a word encoder: pretrained embeddings, (v, d). A row of zeros means that the word has none; it gets
            random values.
        config: for a pretrained encoder: the contents of config.json.
        weights: for a pretrained encoder: the tensors of its weights file. If None its weights are random, which is
            good only for measuring speed.

    Raises:
        SettingError: the vectors' dimension is not the encoder's, or the weights do not fit.
    """
    word_encoder = not isinstance(settings.encoder, PretrainedSettings)
    if vectors is not None and word_encoder:
        vectors = torch.as_tensor(vectors, dtype=torch.float32)
        words = len(vectors)
    network = TextNetwork(settings, tasks, words=words, config=config)
    _initialize(network, seed, encoder=weights is None)
    if vectors is not None:
        _set_vectors(network, vectors)
    if weights is not None:
        if word_encoder:
            raise SettingError(
                f"weights from a file are for a pretrained encoder; this encoder is of kind {settings.encoder.kind}"
            )
        network.encoder.load(weights)
    return network


def transfer_network(
    network: TextNetwork, task: str, classes: int, alignment: AlignmentKind, *, seed: int
) -> TextNetwork:
    """Make a network for a target task with a source network's embeddings and encoder, a new head, and R = I.

    Args:
        network: trained on the source tasks.
        task: name of the target task.
        classes: number of classes of the target task.
        alignment: kind of the target's alignment matrix; none to fine-tune without one.
        seed: of the new head's weights, at least 0.
    """
    settings = network.settings.model_copy(update={"alignment": alignment})
    made = TextNetwork(settings, {task: classes}, words=network.words.num_embeddings, config=network.config)
    _initialize(made, seed)
    with torch.no_grad():
        for new, old in zip(made.shared_parameters(), network.shared_parameters(), strict=True):
            new.copy_(old)
    return made


def embedding_covariance(network: TextNetwork, task: str, examples: TextExamples, *, aligned: bool) -> Covariance:
    """Compute the covariance of a task's embeddings over all tokens of its texts.

    A token's embedding depends only on its number. Therefore each row of the embedding table is added once, weighted by
    how often its token occurs. `aligned` means Z_i = E_i R_i, otherwise the embeddings are E_i.
    """
    table = network.words.weight.detach()
    counts = torch.bincount(examples.ids.long(), minlength=len(table)).to(table.device)
    covariance = Covariance(table.shape[1])
    with torch.no_grad():
        for rows in counts.nonzero()[:, 0].split(CHUNK_ROWS):
            embeddings = table[rows]
            covariance.add(network.alignment(task)(embeddings) if aligned else embeddings, counts[rows])
    return covariance


def _module_name(task: str) -> str:
    """Return the key of a task in an `nn.ModuleDict`, which allows no dot and none of a dictionary's own attributes."""
    return "task " + task.replace(".", "·")


def _initialize(network: TextNetwork, seed: int, *, encoder: bool = True) -> None:
    """Draw random weights, each module's from its own generator, seeded by the module's name.

    Arms that differ only in their tasks therefore start with the same encoder. Embeddings are uniform in ±0.25 (Kim
    2014), all else is PyTorch's default. `encoder` says whether the encoder's weights are drawn too.
    """
    for name, module in network.named_modules():
        if name.startswith("encoder") and not encoder:
            continue
        with SeededInit(seed_for(seed, f"initial weights of {name}") >> 1):
            if isinstance(module, nn.Linear | nn.Conv1d | nn.LSTM):
                module.reset_parameters()
            elif isinstance(module, nn.Embedding):
                nn.init.uniform_(module.weight, -0.25, 0.25)
                if module is network._own_words:
                    # If all words of the training texts are in the vocabulary, training never changes the row of
                    # unknown words. With random values there, short texts with many of them would tend to one class.
                    nn.init.zeros_(module.weight[:SPECIAL_ROWS])
                elif module.padding_idx is not None:
                    nn.init.zeros_(module.weight[module.padding_idx])


def _set_vectors(network: TextNetwork, vectors: Tensor) -> None:
    """Copy pretrained word vectors into the embedding table, except rows of zeros and the special rows."""
    table = network.words.weight
    if vectors.shape != table.shape:
        raise SettingError(
            f"the word vectors have {vectors.shape[1]} features, but the encoder's dimension is {table.shape[1]}: "
            f"set dimension: {vectors.shape[1]}"
        )
    given = vectors.abs().sum(1) > 0
    given[:SPECIAL_ROWS] = False
    with torch.no_grad():
        table[given] = vectors[given]
