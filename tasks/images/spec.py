"""Specification of an image arm: method, noise condition, seed and inputs; see `tasks.arms.base` for arms."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from data_prep.labels.splits import SplitSettings
from data_prep.noise.registry import NoiseSettings
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.arms.base import BaseArm
from tasks.data.ingest import StoreRef

ARM_VERSION = 3  # raise it when the same settings give other numbers than before


class MaskRef(BaseModel):
    """Reference to a noise mask: its file, and the hash of its contents."""

    model_config = ConfigDict(frozen=True)

    path: Path
    fingerprint: str


class ImageArm(BaseArm):
    """Everything that determines the result of an image arm, and where its inputs are."""

    version: ClassVar[int] = ARM_VERSION

    store: StoreRef
    split: SplitSettings
    split_fingerprint: str
    labels: tuple[str, ...]
    condition: str
    noise: NoiseSettings
    mask: MaskRef
    method: WeightingSettings
    network: NetworkSettings
    training: TrainingSettings

    @property
    def title(self) -> str:
        """See the base class."""
        return f"{self.method.name} · {self.condition} · seed {self.seed}"

    @property
    def epochs(self) -> int:
        """See the base class."""
        return self.training.epochs

    def hash_inputs(self) -> list[Any]:
        """See the base class."""
        settings = {name: getattr(self, name).model_dump(mode="json") for name in ("noise", "method", "network")}
        settings["training"] = self.training.determining()
        return [
            settings,
            [self.store.fingerprint, self.split_fingerprint, self.labels, self.mask.fingerprint, self.seed],
        ]

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        shown = self.model_dump(mode="json", exclude={"store", "mask", "split_fingerprint"})
        return shown | {"data": {"name": self.store.name, "fingerprint": self.store.fingerprint}}
