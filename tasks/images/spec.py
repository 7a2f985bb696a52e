"""Specification of an image arm: method, noise condition, policy, seed and inputs; see `tasks.arms.base` for arms."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from data_prep.labels.splits import SplitSettings
from data_prep.noise.registry import NoiseMask, NoiseSettings, NoNoise
from data_prep.store.store import Store
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.arms.base import BaseArm, Source
from tasks.data.ingest import StoreRef
from tasks.records.arms import ConditionRecord, NoiseOnLabel

ARM_VERSION = 4  # raise it when the same settings give other numbers than before


class MaskRef(BaseModel):
    """Reference to a noise mask: its file, and the hash of its contents."""

    model_config = ConfigDict(frozen=True)

    path: Path
    fingerprint: str


class Start(BaseModel):
    """Where an arm's initial weights come from.

    Attributes:
        arm: a finished arm, from whose network this one starts; None: the weights are drawn from the seed, or are
            pretrained ones if the network's settings ask for these.
    """

    model_config = ConfigDict(frozen=True)

    arm: Source | None = None

    @property
    def name(self) -> str:
        """The level of the factor."""
        return "anew" if self.arm is None else f"from {self.arm.hash[:8]}"


ANEW = Start()


class ImageArm(BaseArm):
    """Everything that determines the result of an image arm, and where its inputs are."""

    version: ClassVar[int] = ARM_VERSION
    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition", "policy", "start")

    store: StoreRef
    split: SplitSettings
    split_fingerprint: str
    labels: tuple[str, ...]
    noise: NoiseSettings
    mask: MaskRef
    method: WeightingSettings
    policy: PolicySettings = NO_POLICY
    """How the training images are augmented; `training` has the epochs that the policy makes of the study's."""
    network: NetworkSettings
    training: TrainingSettings
    start: Start = ANEW

    @property
    def data_title(self) -> str:
        """See the base class."""
        return f"{self.store.name} {Store.open(self.store.path).size} px"

    @property
    def epochs(self) -> int:
        """See the base class."""
        return self.training.epochs

    @property
    def outputs(self) -> int:
        """See the base class."""
        return len(self.labels)

    def condition_record(self) -> ConditionRecord:
        """Return the noise and what its mask did to the labels."""
        noise = self.noise
        condition = {"kind": noise.kind, "rate": noise.level, "title": noise.title, "name": self.condition}
        if isinstance(noise, NoNoise):
            return ConditionRecord(**condition)
        mask = NoiseMask.load(self.mask.path)
        summary = {
            row.label: NoiseOnLabel(**{name: getattr(row, name) for name in NoiseOnLabel.model_fields})
            for row in mask.summary()
            if row.selected or row.label in noise.labels
        }
        return ConditionRecord(**condition, labels=noise.labels, mask=mask.fingerprint, summary=summary)

    def hash_inputs(self) -> list[Any]:
        """See the base class."""
        settings = {name: getattr(self, name).model_dump(mode="json") for name in ("noise", "method", "network")}
        settings["training"] = self.training.determining()
        inputs = [self.store.fingerprint, self.split_fingerprint, self.labels, self.mask.fingerprint, self.seed]
        return [settings, inputs, *([self.source.hash] if self.source else [])]

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        hidden = {
            "store",
            "mask",
            "split_fingerprint",
            "source",
            "floor_of",
            *(["start"] if self.start == ANEW else []),
        }
        shown = self.model_dump(mode="json", exclude=hidden)
        return shown | {"data": {"name": self.store.name, "fingerprint": self.store.fingerprint}}
