"""Specification of a text arm: one training of a network on one or several text tasks, with one seed.

`tasks.arms.base` describes what all arms have in common.
"""

from typing import Any, ClassVar

from pydantic import Field

from models.augmentation.policies import NO_POLICY
from models.augmentation.word_replacement import TextPolicySettings
from models.networks.text import TextNetworkSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import BaseArm
from tasks.data.pretrained import EncoderRef, VectorsRef
from tasks.data.texts import TextData

TEXT_ARM_VERSION = 2  # raise it when the same settings would give other numbers


class TextArm(BaseArm):
    """A text arm: everything that determines its results, and where its inputs are stored.

    Attributes:
        method: name of the method (constants of `tasks.text.plan`).
        condition: name of the condition in results and reports, such as the tasks or the encoder's width.
        data: the benchmark, with its folder.
        overlap_group: tasks that are read as one group: a sentence in the validation or test part of one task is
            removed from the training parts of the others (`data_prep.text.overlap`). MLflow shows it as `together`.
        tasks: the tasks of the group that the network is trained on, each with the fingerprint of its data.
        vocabulary_tasks: the tasks whose training texts define the vocabulary, each with its fingerprint; empty if
            these are `tasks`. MLflow shows it as `words_of`.
        keep_overlap: keep the shared sentences in the training parts.
        network: settings of the encoder and of the alignment matrices.
        training: settings of the training.
        policy: how the training texts are augmented.
        max_length: maximum number of words (or subwords) of a text that are read.
        encoder: pretrained encoder, if any.
        vectors: pretrained word vectors, if any.
        keep_network: log the trained network to MLflow, so that other arms can be fine-tuned from it.
    """

    version: ClassVar[int] = TEXT_ARM_VERSION
    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition", "policy")

    method: str
    data: TextData
    overlap_group: tuple[str, ...] = Field(serialization_alias="together")
    tasks: dict[str, str]
    vocabulary_tasks: dict[str, str] = Field({}, serialization_alias="words_of")
    keep_overlap: bool = False
    network: TextNetworkSettings
    training: TextTrainingSettings
    policy: TextPolicySettings = NO_POLICY
    max_length: int
    encoder: EncoderRef | None = None
    vectors: VectorsRef | None = None
    keep_network: bool = False

    @property
    def data_title(self) -> str:
        """See the base class."""
        return self.data.corpus

    @property
    def epochs(self) -> int:
        """See the base class."""
        return self.training.epochs

    @property
    def outputs(self) -> int:
        """See the base class."""
        return len(self.tasks)

    def hash_inputs(self) -> list[Any]:
        """Return the values that determine the numbers: settings and fingerprints, no paths."""
        settings = [self.network.model_dump(mode="json"), self.training.model_dump(mode="json"), self.max_length]
        pretrained = [each and each.fingerprint for each in (self.encoder, self.vectors)]
        tasks = [list(self.tasks.items()), list(self.vocabulary_tasks.items())]
        return [settings, pretrained, tasks, self.seed, self.source and self.source.hash, self.keep_network]

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that MLflow shows, under the aliases of their fields and without paths."""
        paths = {"encoder": {"folder"}, "vectors": {"path"}, "data": {"folder"}}
        return self.model_dump(mode="json", by_alias=True, exclude={**paths, "floor_of": True})
