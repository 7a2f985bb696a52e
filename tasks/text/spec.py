"""A text arm: a network for one task or several, with alignment or without, from a seed.

`tasks.arms.base` says what it is to be an arm.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from models.networks.text import TextNetworkSettings
from models.training.text_training import TextTrainingSettings
from tasks.arms.base import BaseArm
from tasks.data.pretrained import EncoderRef, VectorsRef
from tasks.data.texts import TextData

TEXT_ARM_VERSION = 2  # raise it when the same settings would train to other numbers


class Source(BaseModel):
    """The arm that another begins with: its hash, and its run once it is known."""

    model_config = ConfigDict(frozen=True)

    hash: str
    run_id: str | None = None


class TextArm(BaseArm):
    """All that determines an arm, and where its inputs are.

    together: the tasks of which none is trained on what another is tested on. tasks: those trained on, of these, each
    with the fingerprint of its data. words_of: the same of other tasks, if their training texts number the words.
    """

    version: ClassVar[int] = TEXT_ARM_VERSION

    method: str
    condition: str
    data: TextData
    overlap_group: tuple[str, ...]
    tasks: dict[str, str]
    vocabulary_tasks: dict[str, str] = Field({})
    keep_overlap: bool = False
    network: TextNetworkSettings
    training: TextTrainingSettings
    max_length: int
    encoder: EncoderRef | None = None
    vectors: VectorsRef | None = None
    source: Source | None = None
    keep_network: bool = False

    @property
    def title(self) -> str:
        """See `BaseArm`."""
        return f"{self.method} · {self.condition} · seed {self.seed}"

    @property
    def epochs(self) -> int:
        """See `BaseArm`."""
        return self.training.epochs

    def determined_by(self) -> list[Any]:
        """See `BaseArm`."""
        settings = [self.network.model_dump(mode="json"), self.training.model_dump(mode="json"), self.max_length]
        begins_with = [each and each.fingerprint for each in (self.encoder, self.vectors)]
        inputs = [list(self.tasks.items()), list(self.vocabulary_tasks.items())]
        return [settings, begins_with, inputs, self.seed, self.source and self.source.hash, self.keep_network]

    def parameters(self) -> dict[str, Any]:
        """See `BaseArm`."""
        return self.model_dump(mode="json", exclude={"encoder": {"folder"}, "vectors": {"path"}, "data": {"folder"}})
