"""The common settings of the image flows (study, train), and their plan."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, model_validator

from data_prep.labels.adjudicated import read_adjudicated
from data_prep.labels.splits import SplitSettings
from data_prep.noise.protocols import ProtocolSettings
from flows.ingest import prepare_store
from flows.network_study import NetworkStudySettings
from models.augmentation.label_keeping import check_radiographs
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.training.image_training import check_training
from models.weighting.registry import WeightingSettings
from tasks.data.ingest import DataSettings, StoreRef, check_images
from tasks.data.open_split import open_split
from tasks.engine.plan import Plan
from tasks.images.adjudication import check_adjudicated
from tasks.images.kind import ImageKind
from tasks.images.plan import ImagePlanSettings, plan_images, training_under, with_sources
from tasks.images.spec import ANEW, ImageArm, Start
from tasks.records.data import CheckRecord
from tasks.runtime.settings import AbsolutePath


class ImageTrainingSettings(NetworkStudySettings):
    """Settings that all flows share that train networks on images."""

    command: ClassVar[str]

    data: DataSettings = Field(DataSettings(), description="images and labels")
    split: SplitSettings = Field(SplitSettings(), description="split of the patients into train, validation and test")

    @model_validator(mode="before")
    @classmethod
    def _augmentation_is_a_policy(cls, given: Any) -> Any:
        """Say where the augmentation stands that was a part of the training."""
        training = given.get("training") if isinstance(given, Mapping) else None
        if isinstance(training, Mapping) and "augmentation" in training:
            place = next(iter(cls.policy_of(NO_POLICY)))
            raise ValueError(f"training.augmentation is a policy now: write it under {place}, with kind: jitter")
        return given

    @classmethod
    def policy_of(cls, policy: PolicySettings) -> dict[str, Any]:
        """See the base class."""
        return {"policy": policy} if "policy" in cls.model_fields else {"policies": (policy,)}

    def check_arms(self, methods: Sequence[WeightingSettings], policies: Sequence[PolicySettings]) -> None:
        """Check what the settings alone say of the methods and policies: that each can work and will take effect.

        Raises:
            SettingError: a method cannot, no epoch would use its weights, or a policy would destroy the labels.
        """
        for policy in policies:
            check_radiographs(policy)
            for method in methods:
                check_training(method, training_under(policy, self.training), self.network)


class ImageStudySettings(ImageTrainingSettings):
    """Settings of the flows that report on test images (study, train)."""

    adjudicated: AbsolutePath | None = Field(
        None,
        description="table of radiologist-adjudicated labels; test images in it are scored with the data's labels "
        "and with these",
    )


class Varied(NamedTuple):
    """What a study varies; its arms are methods x policies x noise conditions x seeds.

    Attributes:
        methods: the task weightings.
        policies: the augmentation policies.
        protocol: gives the noise conditions.
        seeds: number of seeds, counted up from the settings' seed.
        floor: whether the baseline is also trained with other seeds (A/A).
        baseline_policy: name of the policy that the others are compared with.
        start: where the initial weights come from.
    """

    methods: tuple[WeightingSettings, ...]
    policies: tuple[PolicySettings, ...]
    protocol: ProtocolSettings
    seeds: int = 1
    floor: bool = False
    baseline_policy: str = NO_POLICY.name
    start: Start = ANEW

    @property
    def baseline(self) -> str:
        """The method with which the others are compared."""
        names = [method.name for method in with_sources(self.methods)]
        return "uniform" if "uniform" in names else names[0]

    def describe(self, settings: ImageTrainingSettings, noise: str) -> str:
        """Describe a study in one line, for the name of its MLflow run; without a policy if that is none."""
        compared = [_names(self.methods, "methods")]
        if self.policies != (NO_POLICY,):
            compared.append(_names(self.policies, "policies"))
        data, backbone = settings.data, settings.network.backbone
        return " · ".join([f"{data.name} {data.size} px", backbone, *compared, noise])


def _names(settings: Sequence[WeightingSettings | PolicySettings], what: str) -> str:
    return ", ".join(each.name for each in settings) if len(settings) <= 4 else f"{len(settings)} {what}"


def plan_image_study(settings: ImageStudySettings, folder: Path, varied: Varied) -> tuple[ImageKind, Plan[ImageArm]]:
    """Prepare and check the store, and plan its arms, all of them on the same images.

    Args:
        settings: of the study.
        folder: that the noise masks are written to.
        varied: what the arms differ in.
    """
    if settings.adjudicated:
        read_adjudicated(settings.adjudicated)
    settings.check_before_decoding(settings.data.size)
    store = prepare_store(settings.data)
    checks = check_images(store, settings.data.expected_images)
    if settings.adjudicated:
        check_adjudicated(settings.adjudicated, *open_split(store, settings.split))
    return plan_on_store(settings, store, checks, folder, varied, settings.adjudicated)


def plan_on_store(
    settings: ImageTrainingSettings,
    store: StoreRef,
    checks: tuple[CheckRecord, ...],
    folder: Path,
    varied: Varied,
    adjudicated: Path | None = None,
) -> tuple[ImageKind, Plan[ImageArm]]:
    """Plan the arms on a store that was prepared and checked.

    Args:
        settings: of the trainings.
        store: the images and labels.
        checks: of the store.
        folder: that the noise masks are written to.
        varied: what the arms differ in.
        adjudicated: table of adjudicated labels with which the test images are scored too.
    """
    of_plan = ImagePlanSettings(
        split=settings.split,
        baseline=varied.baseline,
        network=settings.network,
        training=settings.training,
        seed=settings.seed,
        device=settings.device,
        threads=settings.runner.threads_per_arm(settings.device),
        **varied._asdict(),
    )
    kind = ImageKind(store, settings.split, checks, adjudicated, settings.command)
    return kind, plan_images(store, of_plan, folder / "noise")
