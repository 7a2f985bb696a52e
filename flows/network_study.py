"""The settings that all studies of networks on images share: the network, its training, the policies compared."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from data_prep.settings import Seed, named_once
from flows.settings import FlowSettings
from models.augmentation.policies import PolicySettings
from models.networks.multitask import NetworkSettings, check_backbone
from models.settings import KindSettings
from models.training.image_training import TrainingSettings, check_devices
from models.training.recipes import recipe, recipe_policy
from tasks.arms.runner import RunnerSettings, check_runner
from tasks.images.inputs import read_weights


class NetworkStudySettings(FlowSettings):
    """The network and its training."""

    network: NetworkSettings = Field(NetworkSettings(), description="the shared network")
    training: TrainingSettings = Field(
        TrainingSettings(),
        description="how each network is trained; what is not given follows the backbone (models.training.recipes)",
    )
    seed: Seed = Field(
        0, description="first training seed, for initial weights, order of the images, augmentation, label noise"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="device to train on: auto, cpu or cuda")
    runner: RunnerSettings = Field(RunnerSettings(), description="how many arms train at a time, and where")

    @model_validator(mode="before")
    @classmethod
    def _use_the_recipe_of_the_backbone(cls, given: Any) -> Any:
        """Fill what is not given of the training, and of the policy, with the backbone's recipe."""
        if not isinstance(given, Mapping):
            return given
        training = given.get("training", {})
        if not isinstance(training, Mapping):
            return given
        try:
            network = NetworkSettings.model_validate(given.get("network", {}))
        except ValidationError:
            return given  # the settings' own validation names the place
        backbone = network.backbone, network.pretrained
        policy = cls.policy_of(recipe_policy(*backbone))
        return {**policy, **given, "training": {**recipe(*backbone), **training}}

    @classmethod
    def policy_of(cls, policy: PolicySettings) -> dict[str, Any]:
        """Return the setting, by name, that holds the policy of a recipe; none by default."""
        return {}

    def check_before_decoding(self, size: int) -> None:
        """Check what needs no image, before images of `size` pixels are downloaded and decoded for hours.

        Raises:
            DataError: a file cannot be read, or the task runner is not installed.
            SettingError: the network does not take the images or the weights, or there is no such device.
        """
        check_runner(self.runner)
        if self.runner.kind == "threads":  # the machines of a Ray cluster may have other devices than this one
            check_devices(self.training, self.device)
        check_backbone(self.network, size, images=2)
        read_weights(self.network)


class PolicyStudySettings(NetworkStudySettings):
    """Augmentation policies that are compared, each with several seeds."""

    policies: tuple[PolicySettings, ...]
    baseline_policy: str | None = Field(
        None,
        description="name of the policy that the others are compared with; none: the policy none if it is among them, "
        "otherwise composed if it is, otherwise the first",
    )
    seeds: int = Field(
        3,
        ge=1,
        le=1000,
        description="number of seeds, counted up from the first; everything is trained with every one. With "
        "fewer than 3 the intervals do not cover another training, and nothing is called better or worse",
    )
    floor: bool = Field(
        True,
        description="also train the baseline with as many other seeds (A/A): differences of this size are noise",
    )
    dry_run: bool = Field(
        False,
        description="list the arms, which of them are reused, and how long the others will take; train nothing",
    )

    @field_validator("policies", "methods", check_fields=False)  # fields of the subclasses
    @classmethod
    def _check_unique(cls, compared: tuple[KindSettings, ...]) -> tuple[KindSettings, ...]:
        return named_once(compared)
