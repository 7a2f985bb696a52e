"""The classify flow: which augmentation policy classifies images best, with and without wrong labels?

It trains policies x rates of wrong labels x lengths of training x seeds on the same images. Epochs are chosen on
validation images, which are a part of the training images; the test images choose nothing.
"""

import time
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from data_prep.labels.class_split import ClassSplitSettings
from data_prep.noise.entries import Share
from flows.network_study import PolicyStudySettings
from models.augmentation.natural_images import (
    NaturalComposedPolicy,
    NaturalPolicySettings,
    NaturalSimplePolicy,
    NaturalUncertaintyPolicy,
)
from models.augmentation.policies import NoPolicy
from tasks.classes.kind import ClassKind
from tasks.classes.plan import ClassPlanSettings, plan_classes
from tasks.data.classes import ClassDataSettings, prepare_classes
from tasks.data.ingest import check_images
from tasks.engine.dry_run import dry_run
from tasks.engine.study import run_study
from tasks.images.policy_contrasts import baseline_policy
from tasks.runtime.pipeline import pipeline
from tasks.runtime.run_folder import prepare_run_folder


class ClassifySettings(PolicyStudySettings):
    """Settings of a classification study: the images, the policies, the wrong labels, the training."""

    data: ClassDataSettings = Field(ClassDataSettings(), description="the images and their classes")
    split: ClassSplitSettings = Field(
        ClassSplitSettings(), description="which images of each class train, validate and test"
    )
    policies: tuple[NaturalPolicySettings, ...] = Field(
        (NoPolicy(), NaturalSimplePolicy(), NaturalComposedPolicy(), NaturalUncertaintyPolicy()),
        min_length=1,
        max_length=100,
        description="augmentation policies to compare; their defaults are for natural images",
    )
    wrong_labels: tuple[Share, ...] = Field(
        (0.0,),
        min_length=1,
        max_length=100,
        description="shares of the training images that get another class (symmetric noise); each is a condition",
    )
    lengths: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field(
        (), max_length=100, description="numbers of epochs, each of them for every policy; none: training.epochs alone"
    )
    score_tests: bool = Field(
        True,
        description="score the test part after every epoch too, to report what choosing the epoch on it would add; "
        "nothing is chosen by it",
    )

    @model_validator(mode="after")
    def _parts_go_together(self) -> Self:
        for name in ("wrong_labels", "lengths"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} has a number twice ({', '.join(map(str, values))}): give each once")
        baseline_policy(self.policies, self.baseline_policy)
        if self.score_tests and (self.training.averaging or self.training.devices > 1):
            raise ValueError(
                "score_tests needs the network itself after each epoch, not averaged weights or several devices: "
                "set score_tests: false, or training.averaging: 0 and training.devices: 1"
            )
        return self

    @property
    def title(self) -> str:
        """See the base class."""
        data = f"{self.data.name} {self.data.pixels} px"
        return f"classify · {data} · {self.network.backbone} · {len(self.policies)} policies · {self.seeds} seeds"


@pipeline("classify")
def classify(
    settings: ClassifySettings = ClassifySettings(), out: Path | None = None, force: bool = False
) -> Path | None:
    """Run a classification study and return its report's path. Finished arms are reused, unfinished ones resumed.

    A dry run leaves only the decoded images behind, and returns None.
    """
    begun = time.monotonic()
    folder = None if settings.dry_run else prepare_run_folder(out, "classify", settings, force)
    settings.check_before_decoding(settings.data.pixels)
    store = prepare_classes(settings.data)
    checks = check_images(store)
    plan = plan_classes(
        store,
        ClassPlanSettings(
            noise=settings.wrong_labels,
            lengths=settings.lengths or (settings.training.epochs,),
            baseline_policy=baseline_policy(settings.policies, settings.baseline_policy),
            threads=settings.runner.threads_per_arm(settings.device),
            **{name: getattr(settings, name) for name in _PLANNED},
        ),
    )
    kind = ClassKind(store, settings.split, checks)
    if folder is None:
        dry_run(plan.arms, settings.runner, kind.epoch_seconds)
        return None
    report, _ = run_study(kind, plan, settings, settings.runner, title=settings.title, folder=folder, begun=begun)
    return report


_PLANNED = ("split", "policies", "network", "training", "score_tests", "seed", "seeds", "floor", "device")
