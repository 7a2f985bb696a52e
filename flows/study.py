"""The study flow: does a task weighting, or an augmentation policy, make training more robust to label noise?

It trains methods x policies x noise conditions x seeds on the same images and split; for a seed, all methods and
policies train on the same noise mask. Epochs are selected on the validation part; the test part is scored once at the
end of each arm. Methods are compared with the baseline under the same policy, and policies with the baseline policy
under the same method, on the same test patients.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from pydantic import Field, model_validator

from data_prep.noise.protocols import SEEDS_APART, AllProtocol, PairsProtocol, ProtocolSettings
from data_prep.noise.registry import NoNoise, RandomNoise
from flows.image_study import ImageStudySettings, Varied, plan_image_study
from flows.network_study import PolicyStudySettings
from models.augmentation.policies import NO_POLICY, PolicySettings
from models.weighting.registry import SvdSettings, TrustSettings, UniformSettings, WeightingSettings
from tasks.engine.dry_run import dry_run
from tasks.engine.study import run_study
from tasks.images.model_registry import best_arm, register_model
from tasks.images.plan import with_sources
from tasks.images.policy_contrasts import baseline_policy
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder
from tasks.runtime.settings import ModelName


class StudySettings(ImageStudySettings, PolicyStudySettings):
    """Settings of a study: the methods, the augmentation policies, the data, the noise."""

    command = "study"

    methods: tuple[WeightingSettings, ...] = Field(
        (UniformSettings(), SvdSettings(), TrustSettings()),
        min_length=1,
        max_length=100,
        description="task weightings to compare; the baseline is uniform if it is among them, otherwise the first",
    )
    policies: tuple[PolicySettings, ...] = Field(
        (NO_POLICY,),
        min_length=1,
        max_length=100,
        description="augmentation policies to compare; not given: that of the backbone's recipe",
    )
    protocol: ProtocolSettings = Field(
        AllProtocol(noise=(NoNoise(), RandomNoise(rate=0.4)), noisy_labels=7),
        description="which labels are trained in one network, and the noise added to them",
    )
    model_name: ModelName | None = Field(
        None,
        description="register the arm with the highest validation AUC in MLflow under this name, as challenger; "
        "none: register no model",
    )

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        self.check_arms(with_sources(self.methods), self.policies)
        baseline_policy(self.policies, self.baseline_policy)
        if isinstance(self.protocol, PairsProtocol):
            if self.adjudicated:
                raise ValueError("adjudicated labels are combined from several labels; pairs have two: leave them out")
            seeds = self.seeds * (1 + self.floor)
            if seeds > SEEDS_APART:
                raise ValueError(f"a pair has at most {SEEDS_APART} seeds, those of the floor counted; got {seeds}")
        return self

    @property
    def varied(self) -> Varied:
        """What the arms differ in."""
        return Varied(
            self.methods,
            self.policies,
            self.protocol,
            self.seeds,
            self.floor,
            baseline_policy(self.policies, self.baseline_policy),
        )

    @property
    def title(self) -> str:
        """See the base class."""
        return f"study · {self.varied.describe(self, self.protocol.name)} · {self.seeds} seeds"


@pipeline("study")
def study(settings: StudySettings = StudySettings(), out: Path | None = None, force: bool = False) -> Path | None:
    """Run a study and return its report's path. Finished arms are reused, unfinished ones are resumed.

    A dry run leaves only the decoded images behind, and returns None.
    """
    varied = settings.varied
    if settings.dry_run:
        with TemporaryDirectory() as masks:
            kind, plan = plan_image_study(settings, Path(masks), varied)
            dry_run(plan.arms, settings.runner, kind.epoch_seconds)
        return None
    folder = prepare_run_folder(out, "study", settings, force)
    begun = time.monotonic()
    kind, plan = plan_image_study(settings, folder, varied)
    report, done = run_study(kind, plan, settings, settings.runner, title=settings.title, folder=folder, begun=begun)
    if settings.model_name:
        register_model(best_arm([arm.run_id for arm in done.values()]), settings.model_name)
    return report
