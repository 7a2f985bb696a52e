"""What a study and a single training share: arms planned, trained, compared and reported."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from data_prep.labels.adjudicated import read_adjudicated
from data_prep.labels.splits import SplitSettings
from data_prep.noise.protocols import ProtocolSettings
from flows.ingest import prepare_store
from flows.settings import FlowSettings
from models.networks.multitask import NetworkSettings
from models.training.image_training import TrainingSettings
from models.weighting.registry import WeightingSettings
from tasks.arms.base import ArmRef
from tasks.arms.mlflow_runs import study_run
from tasks.arms.runner import RunnerSettings
from tasks.data.ingest import DataSettings, StoreRef, check_images
from tasks.images.arm import train_image_arms
from tasks.images.report import publish_report
from tasks.images.spec import ImageArm
from tasks.images.study import compare_arms, plan_arms
from tasks.records.study import CheckRecord


class ImageStudySettings(FlowSettings):
    """The settings that every experiment on images has."""

    data: DataSettings = Field(DataSettings(), description="images and labels")
    adjudicated: Path | None = Field(
        None, description="table of radiologist-adjudicated labels: test images in it are scored against both"
    )
    split: SplitSettings = Field(SplitSettings(), description="which patients train, validate and test")
    network: NetworkSettings = Field(NetworkSettings(), description="the shared network")
    training: TrainingSettings = Field(TrainingSettings(), description="how it is trained")
    seed: int = Field(0, ge=0, description="first training seed: initial weights, order, augmentation, noise masks")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where to train: auto, cpu or cuda")
    runner: RunnerSettings = Field(RunnerSettings(), description="how many arms train at a time")

    @field_validator("adjudicated")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().resolve()

    def describe(self, methods: Sequence[WeightingSettings], under: str) -> str:
        """A name by which a person tells experiments apart in MLflow."""
        what = ", ".join(method.name for method in methods) if len(methods) <= 4 else f"{len(methods)} methods"
        return f"{self.data.name} {self.data.size} px · {self.network.backbone} · {what} · {under}"


def run_image_study(
    settings: ImageStudySettings,
    folder: Path,
    title: str,
    methods: Sequence[WeightingSettings],
    protocol: ProtocolSettings,
    seeds: int,
    baseline: str,
) -> tuple[Path, list[ArmRef]]:
    """Train methods x conditions x seeds on the same images, compare with the baseline, report into `folder`.

    Returns the report's path and the arms that finished.
    """
    begun = time.monotonic()
    store, checks, arms, population_size = plan_image_study(settings, folder, methods, protocol, seeds)
    with study_run(title, settings) as run_id:
        done, failed = train_image_arms(arms, run_id, settings.runner)
        results = compare_arms(
            settings.model_dump(mode="json"), store, checks, settings.split, done, failed, baseline,
            population_size, settings.adjudicated, begun, folder,
        )  # fmt: skip
        return publish_report(results, store, settings.split, run_id), done


def plan_image_study(
    settings: ImageStudySettings,
    folder: Path,
    methods: Sequence[WeightingSettings],
    protocol: ProtocolSettings,
    seeds: int,
) -> tuple[StoreRef, tuple[CheckRecord, ...], list[ImageArm], int | None]:
    """Get the images ready, check them, and list the arms: their store, the checks, the arms, and the number of
    conditions from which theirs were drawn, if they were drawn.
    """
    if settings.adjudicated:
        read_adjudicated(settings.adjudicated)  # a table that cannot be read is told before hours of training
    store = prepare_store(settings.data)
    checks = check_images(settings.data, store)
    arms, population_size = plan_arms(
        store, settings.split, protocol, methods, settings.network, settings.training,
        settings.seed, seeds, settings.device, settings.runner.threads_of_an_arm(settings.device), folder / "noise",
    )  # fmt: skip
    return store, checks, arms, population_size
