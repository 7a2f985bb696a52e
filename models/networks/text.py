"""Texts of several tasks through one shared module: Z_i = E_i R_i, the encoder B, and a head A_i per task.

Wu, Zhang, Ré (ICLR 2020, arXiv:2005.00944), Algorithm 1: E_i are task i's embeddings, R_i its alignment matrix, which
is the identity at first. Without alignment there is no R_i; with R_i = I the network is the same to the bit.

Shapes: b texts, l tokens, v words, d features of an embedding, r outputs of the encoder, c classes of a task.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from models.data.text_batches import TextBatch, TextExamples
from models.errors import SettingError, unknown_name
from models.networks.alignment import AlignmentKind, Covariance, make_alignment
from models.networks.dropout import Draws, SeededDropout
from models.networks.pretrained_encoder import PretrainedEncoder, PretrainedSettings
from models.networks.skip_init import SkipInit
from models.networks.word_encoders import CnnEncoder, CnnSettings, LstmEncoder, LstmSettings, MlpEncoder, MlpSettings
from models.randomness import seed_for
from models.settings import Settings

EncoderSettings = Annotated[LstmSettings | CnnSettings | MlpSettings | PretrainedSettings, Field(discriminator="kind")]

WORDLESS = 2  # rows of a table of our own without a word: padding, and any word that is not in the vocabulary
OUTPUT_DROPOUT = 1_000  # its place; encoders number theirs from 0
VECTOR_ROWS = 8_192  # rows of a table that are summed at a time


class TextNetworkSettings(Settings):
    """Which shared encoder, and whether tasks are aligned in front of it."""

    encoder: EncoderSettings = Field(LstmSettings(), description="the module that all tasks share")
    alignment: AlignmentKind = Field(
        "none",
        description="each task's matrix in front of the encoder: none, free, or a rotation; the identity at first",
    )


class TextNetwork(nn.Module):
    """Embeddings, a matrix R_i per task, the shared encoder, and a head per task. Its weights are random or none:
    `initial_text_network` is the way to a network for training, `restore` the way to a trained one.

    Args:
        tasks: name and number of classes of each, in the order of reports.
        words: v, of a word encoder; row 0 is padding and stays zero, row 1 is every unknown word and starts there.
        config: the contents of config.json, of a pretrained encoder.
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
        _check_tasks(tasks)
        self.settings, self.tasks, self.config = settings, dict(tasks), config
        self.draws = Draws()
        self._own_words: nn.Embedding | None = None
        with SkipInit():  # `initial_text_network` draws, `restore` loads
            self._build(settings, words, config)

    def _build(self, settings: TextNetworkSettings, words: int | None, config: Mapping[str, Any] | None) -> None:
        if isinstance(settings.encoder, PretrainedSettings):
            if config is None:
                raise SettingError("a pretrained encoder needs its configuration: read config.json and pass it")
            self.encoder: Any = PretrainedEncoder(settings.encoder, config, self.draws)
            self.width = self.encoder.width
        else:
            if words is None or words < 2:
                raise SettingError(f"a vocabulary has padding and at least one word; got {words} rows")
            self._own_words = nn.Embedding(words, settings.encoder.dimension, padding_idx=0, sparse=True)
            self._own_words.weight.requires_grad_(settings.encoder.trainable_embeddings)
            self.encoder = _word_encoder(settings.encoder, self.draws)
            self.width = settings.encoder.width
        self.output_dropout = SeededDropout(settings.encoder.dropout, OUTPUT_DROPOUT, self.draws)
        d = self.words.embedding_dim
        self.alignments = nn.ModuleDict({_key(task): make_alignment(settings.alignment, d) for task in self.tasks})
        self.heads = nn.ModuleDict({_key(task): nn.Linear(self.width, count) for task, count in self.tasks.items()})

    @property
    def words(self) -> nn.Embedding:
        """The table of embeddings, (v, d)."""
        return self.encoder.words if self._own_words is None else self._own_words

    @property
    def has_own_words(self) -> bool:
        """Whether the table lies beside the encoder (then its gradients are sparse), not within."""
        return self._own_words is not None

    def alignment(self, task: str) -> Any:
        """R_i: a `FreeAlignment`, a `RotationAlignment`, or nothing."""
        return self.alignments[self._known(task)]

    def embeddings(self, task: str, batch: TextBatch) -> Tensor:
        """Z_i = E_i R_i: (b, l, d)."""
        return self.alignment(task)(self.words(batch.ids))

    def features(self, task: str, batch: TextBatch) -> Tensor:
        """(b, r), what the task's head sees; autocast's type under autocast."""
        return self.encoder(self.embeddings(task, batch), batch)

    def classify(self, task: str, features: Tensor) -> Tensor:
        """(b, r) float32 -> (b, c) float32 logits. Call it outside autocast: 8 bits are few for a logit."""
        head = cast(nn.Linear, self.heads[self._known(task)])
        return linear(self.output_dropout(features), head.weight, head.bias)

    def forward(self, task: str, batch: TextBatch) -> Tensor:
        """(b, c) logits."""
        return self.classify(task, self.features(task, batch))

    def shared_parameters(self) -> list[nn.Parameter]:
        """B and the table of embeddings: what every task uses."""
        return [*([] if self._own_words is None else self._own_words.parameters()), *self.encoder.parameters()]

    def alignment_parameters(self) -> list[nn.Parameter]:
        """The R_i."""
        return list(self.alignments.parameters())

    def _known(self, task: str) -> str:
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        return _key(task)

    def checkpoint(self) -> dict[str, Any]:
        """Everything `restore` needs, as plain values and tensors that `torch.load(weights_only=True)` reads back."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "tasks": dict(self.tasks),
            "words": self.words.num_embeddings,
            "config": None if self.config is None else dict(self.config),
            "state": {name: value.detach().cpu().clone() for name, value in self.state_dict().items()},
        }

    @classmethod
    def restore(cls, checkpoint: Mapping[str, Any]) -> Self:
        """The trained network of a `checkpoint`, on the CPU, in evaluation mode."""
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
    """A network ready for training, the same for the same seed whatever happens in other threads.

    Args:
        tasks: name and number of classes of each.
        words: v, the rows of a word encoder's table; not needed with `vectors`.
        vectors: (v, d) given embeddings; a row of zeros is a word that has none, and gets random ones.
        config, weights: a pretrained encoder's configuration and tensors, as its files hold them. Without weights its
            parameters are random: good for measuring speed only.

    Raises:
        SettingError: the vectors' features are not the encoder's dimension, or weights do not fit.
    """
    own = not isinstance(settings.encoder, PretrainedSettings)
    if vectors is not None and own:
        vectors = torch.as_tensor(vectors, dtype=torch.float32)
        words = len(vectors)
    network = TextNetwork(settings, tasks, words=words, config=config)
    _draw(network, seed, encoder=weights is None)
    if vectors is not None:
        _give_vectors(network, vectors)
    if weights is not None:
        if own:
            raise SettingError(f"weights of a file are for a pretrained encoder; this is a {settings.encoder.kind}")
        network.encoder.load(weights)
    return network


def transferred(network: TextNetwork, task: str, classes: int, alignment: AlignmentKind, *, seed: int) -> TextNetwork:
    """A network for one target task that begins with another's embeddings and encoder, a new head, and R = I.

    Args:
        network: trained on the source.
        alignment: of the target; none to fine-tune without.
    """
    settings = network.settings.model_copy(update={"alignment": alignment})
    made = TextNetwork(settings, {task: classes}, words=network.words.num_embeddings, config=network.config)
    _draw(made, seed)
    with torch.no_grad():
        for new, old in zip(made.shared_parameters(), network.shared_parameters(), strict=True):
            new.copy_(old)
    return made


def embedding_covariance(network: TextNetwork, task: str, examples: TextExamples, *, aligned: bool) -> Covariance:
    """Covariance of a task's embeddings over all tokens of its texts: of E_i, or of Z_i = E_i R_i.

    A token's embedding depends on its number alone, so rows are streamed by number, weighted by how often it occurs.
    """
    table = network.words.weight.detach()
    counts = torch.bincount(examples.ids.long(), minlength=len(table)).to(table.device)
    there = counts.nonzero()[:, 0]
    found = Covariance(table.shape[1])
    with torch.no_grad():
        for rows in there.split(VECTOR_ROWS):
            embeddings = table[rows]
            found.add(network.alignment(task)(embeddings) if aligned else embeddings, counts[rows])
    return found


def _word_encoder(settings: LstmSettings | CnnSettings | MlpSettings, draws: Draws) -> nn.Module:
    if isinstance(settings, LstmSettings):
        return LstmEncoder(settings, draws)
    return CnnEncoder(settings, draws) if isinstance(settings, CnnSettings) else MlpEncoder(settings, draws)


def _check_tasks(tasks: Mapping[str, int]) -> None:
    if not tasks:
        raise SettingError("a network needs at least one task; got none")
    for task, classes in tasks.items():
        if classes < 2:
            raise SettingError(f"task {task!r} needs at least two classes; got {classes}")


def _key(task: str) -> str:
    """A module's name holds no dot, and none of a dictionary's own names."""
    return "task " + task.replace(".", "·")


def _draw(network: TextNetwork, seed: int, *, encoder: bool = True) -> None:
    """Random weights, each module's from a generator of its own by name: arms that differ in their tasks alone begin
    with the same encoder. The bounds are PyTorch's own; embeddings are Kim's (2014), uniform in ±0.25."""
    parts = dict(network.named_modules())
    for name, module in parts.items():
        if name.startswith("encoder") and not encoder:
            continue
        generator = torch.Generator().manual_seed(seed_for(seed, f"initial weights of {name}") >> 1)
        if isinstance(module, nn.Embedding):
            nn.init.uniform_(module.weight, -0.25, 0.25, generator=generator)
            if module is network._own_words:
                # where all words of the training texts are known, no step moves that of the unknown ones: drawn at
                # random it would pull the short texts that are full of them to one class
                nn.init.zeros_(module.weight[:WORDLESS])
            elif module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.LSTM):
            inputs = module.hidden_size if isinstance(module, nn.LSTM) else module.weight[0].numel()
            for parameter in module.parameters(recurse=False):
                nn.init.uniform_(parameter, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)


def _give_vectors(network: TextNetwork, vectors: Tensor) -> None:
    table = network.words.weight
    if vectors.shape != table.shape:
        raise SettingError(
            f"the word vectors have {vectors.shape[1]} features, the encoder's dimension is {table.shape[1]}: "
            f"set dimension: {vectors.shape[1]}"
        )
    given = vectors.abs().sum(1) > 0
    given[:WORDLESS] = False
    with torch.no_grad():
        table[given] = vectors[given]
