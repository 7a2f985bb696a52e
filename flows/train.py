"""The train flow: train one arm, and register its model in MLflow."""

import time
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from data_prep.noise.protocols import AllProtocol
from data_prep.noise.registry import NoiseSettings, NoNoise
from flows.image_study import ImageStudySettings, Varied, plan_image_study
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.weighting.registry import UniformSettings, WeightingSettings
from tasks.arms.runner import RunnerSettings
from tasks.engine.study import run_study
from tasks.images.model_registry import register_model
from tasks.images.plan import with_sources
from tasks.images.profiling import profile_arm
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder
from tasks.runtime.settings import ModelName


class TrainSettings(ImageStudySettings):
    """Settings of a single training: method, augmentation policy, noise, data, network."""

    command = "train"

    method: WeightingSettings = Field(UniformSettings(), description="the task weighting")
    policy: PolicySettings = Field(
        NO_POLICY, description="how the training images are augmented; not given: the policy of the backbone's recipe"
    )
    noise: NoiseSettings = Field(NoNoise(), description="noise to add to the training labels")
    noisy_labels: int = Field(
        3,
        ge=1,
        le=10_000,
        description="number of labels to add the noise to if it names none; those with the most positives are taken",
    )
    runner: RunnerSettings = Field(RunnerSettings(arms_at_once=1), description="processor threads, and where to train")
    profile: bool = Field(False, description="measure the parts of a training step, and train nothing")
    model_name: ModelName = Field("medmtl", description="name of the model in MLflow's registry")

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        self.check_arms(with_sources([self.method]), [self.policy])
        if self.profile and self.training.devices > 1:
            raise ValueError(f"a step is profiled on one device; got devices: {self.training.devices}; set devices: 1")
        return self

    @property
    def varied(self) -> Varied:
        """What the arms differ in: there is one."""
        protocol = AllProtocol(noise=(self.noise,), noisy_labels=self.noisy_labels)
        return Varied((self.method,), (self.policy,), protocol)

    @property
    def title(self) -> str:
        """See the base class."""
        return f"train · {self.varied.describe(self, self.noise.name)} · seed {self.seed}"


@pipeline("train")
def train(settings: TrainSettings = TrainSettings(), out: Path | None = None, force: bool = False) -> Path:
    """Train one model and register it; return the path of its report, or of the profile if `profile` is set."""
    folder = prepare_run_folder(out, "train", settings, force)
    begun = time.monotonic()
    kind, plan = plan_image_study(settings, folder, settings.varied)
    if settings.profile:
        return profile_arm(plan.arms[-1], folder)
    report, done = run_study(kind, plan, settings, settings.runner, title=settings.title, folder=folder, begun=begun)
    register_model(done[plan.arms[-1].hash].run_id, settings.model_name)
    return report
