"""Specification of a classification arm: policy, label noise, length of training, seed; see `tasks.arms.base`."""

from typing import Any, ClassVar

from data_prep.labels.class_split import ClassSplitSettings
from data_prep.store.store import Store
from models.augmentation.natural_images import NaturalPolicySettings
from models.augmentation.policies import NO_POLICY
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from tasks.arms.base import BaseArm
from tasks.data.ingest import StoreRef
from tasks.records.arms import ConditionRecord

CLASS_ARM_VERSION = 1  # raise it when the same settings give other numbers than before

METHOD = "single"
"""The level of the factor method: there is one task, and nothing to weight."""


class ClassArm(BaseArm):
    """Everything that determines the result of a classification arm, and where its inputs are.

    Attributes:
        length: epochs of the study's training in words; a policy may make more of them, see `training`.
        noise_rate: share of the training images whose class is replaced by another one.
        score_tests: also score the test part after every epoch, to report what choosing the epoch on it would add.
    """

    version: ClassVar[int] = CLASS_ARM_VERSION
    factor_fields: ClassVar[tuple[str, ...]] = ("method", "condition", "policy", "length")

    method: str
    store: StoreRef
    split: ClassSplitSettings
    split_fingerprint: str
    noise_rate: float
    policy: NaturalPolicySettings = NO_POLICY
    length: str
    network: NetworkSettings
    training: TrainingSettings
    score_tests: bool

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
        return 1

    @property
    def title(self) -> str:
        """See the base class; without the method, which is the same in all."""
        levels = [level for name, level in self.levels.items() if name != "method" or self.floor_of is not None]
        return f"{' · '.join(levels)} · seed {self.seed}"

    def condition_record(self) -> ConditionRecord:
        """Return the noise."""
        return ConditionRecord(**noise_condition(self.noise_rate), name=self.condition)

    def hash_inputs(self) -> list[Any]:
        """See the base class; the name of the length is left out, the epochs are in `training`."""
        network = self.network.model_dump(mode="json")
        data = [self.store.fingerprint, self.split_fingerprint, self.noise_rate]
        noise_of_others = [self.floor_of] if self.noise_rate and self.floor_of is not None else []
        return ["classes", network, self.training.determining(), data, self.seed, self.score_tests, *noise_of_others]

    def parameters(self) -> dict[str, Any]:
        """See the base class."""
        shown = self.model_dump(mode="json", exclude={"store", "split_fingerprint", "source", "floor_of"})
        return shown | {"data": {"name": self.store.name, "fingerprint": self.store.fingerprint}}


def noise_condition(rate: float) -> dict[str, Any]:
    """Return the fields of a condition that say what symmetric noise of a rate does; none of rate 0."""
    if not rate:
        return {}
    return {"kind": "symmetric", "rate": rate, "title": f"{100 * rate:g} % wrong labels"}


def condition_name(rate: float) -> str:
    """Return the name of the condition."""
    return f"symmetric {100 * rate:g} %" if rate else "clean"
